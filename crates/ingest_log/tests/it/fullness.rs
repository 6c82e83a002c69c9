//! At the bounds: full disks, full logs, failing syncs, oversize batches.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use ingest_log::sim::{Crash, SimDisk};
use ingest_log::{Cursor, Log, LogCondition, LogConfig, LogError, RecordBatch, Steps};

use crate::basics::head;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 4_096,
        max_pending_bytes: 8_192,
        ..LogConfig::new("log")
    }
}

fn open(disk: &SimDisk, config: LogConfig) -> (Log, Steps) {
    let (log, steps, _) = Log::open_stepped(Arc::new(disk.clone()), config).unwrap();
    (log, steps)
}

fn batch(payload_bytes: usize) -> RecordBatch {
    let mut batch = RecordBatch::new();
    batch.push(&head("t"), &vec![1; payload_bytes]).unwrap();
    batch
}

fn is_pending(future: impl Future) -> bool {
    pin!(future)
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

#[tokio::test]
async fn a_full_disk_makes_commits_wait_and_goes_on_when_there_is_space() {
    let disk = SimDisk::new(1);
    let (log, mut steps) = open(&disk, config());
    disk.set_capacity(Some(10_000));
    let mut commits = Vec::new();
    for _ in 0..4 {
        commits.push(log.append(batch(3_000)).await.unwrap());
        steps.commit();
    }
    let waiting = commits.split_off(2);
    for commit in commits {
        commit.await.unwrap();
    }
    assert!(matches!(log.status().condition, LogCondition::Full(_)));
    assert!(!steps.commit(), "still full");
    disk.set_capacity(None);
    while steps.commit() {}
    for commit in waiting {
        commit.await.unwrap();
    }
    assert_eq!(log.status().condition, LogCondition::Ok);
    assert_eq!(log.next_durable(), 4);
}

#[tokio::test]
async fn the_cap_makes_commits_wait_until_consumers_move_on() {
    let disk = SimDisk::new(1);
    let capped = LogConfig {
        max_log_bytes: Some(3 * 4_096),
        ..config()
    };
    let (log, mut steps) = open(&disk, capped);
    let mut next = 0;
    while !matches!(log.status().condition, LogCondition::Full(_)) {
        let commit = log.append(batch(3_000)).await.unwrap();
        next = commit.seqs().start;
        steps.commit();
        steps.keep();
    }
    assert!((2..5).contains(&next), "full after {next} segments");
    assert_eq!(log.first(), 0, "nothing is evicted");
    let cursor = Cursor {
        next,
        meta: Bytes::new(),
        pins: true,
    };
    log.cursors().put("subscriber", cursor);
    steps.keep();
    assert!(steps.commit(), "there is space again");
    assert_eq!(log.next_durable(), next + 1);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_until_the_log_is_opened_again() {
    let disk = SimDisk::new(1);
    let (log, mut steps) = open(&disk, config());
    let first = log.append(batch(10)).await.unwrap();
    assert!(steps.commit());
    first.await.unwrap();
    disk.fail_syncs(true);
    let in_group = log.append(batch(10)).await.unwrap();
    steps.commit();
    disk.fail_syncs(false);
    assert!(matches!(in_group.await, Err(LogError::Failed { .. })));
    let later = log.append(batch(10)).await;
    assert!(matches!(later, Err(LogError::Failed { .. })));
    assert!(matches!(log.status().condition, LogCondition::Failed(_)));
    // Readers get what is durable, then the failure.
    let mut reader = log.reader(0);
    assert_eq!(reader.next_chunk(99).await.unwrap().unwrap().seqs(), 0..1);
    let end = reader.next_chunk(99).await;
    assert!(matches!(end, Err(LogError::Failed { .. })));
    let cursors = log.cursors().put_durable(
        "c",
        Cursor {
            next: 1,
            meta: Bytes::new(),
            pins: true,
        },
    );
    assert!(matches!(cursors.await, Err(LogError::Failed { .. })));

    let (log, mut steps) = open(&disk.reboot(Crash::Power), config());
    assert!(log.next_durable() >= 1);
    let commit = log.append(batch(10)).await.unwrap();
    assert!(steps.commit());
    commit.await.unwrap();
}

#[tokio::test]
async fn appends_wait_for_room_in_the_order_they_came() {
    let disk = SimDisk::new(1);
    let (log, mut steps) = open(&disk, config());
    let _first = log.append(batch(5_000)).await.unwrap();
    let mut second = pin!(log.append(batch(5_000)));
    let mut third = pin!(log.append(batch(100)));
    assert!(is_pending(second.as_mut()));
    assert!(is_pending(third.as_mut()), "small ones do not overtake");
    assert!(steps.commit());
    assert_eq!(second.await.unwrap().seqs(), 1..2);
    assert_eq!(third.await.unwrap().seqs(), 2..3);
    let too_large = log.append(batch(9_000)).await;
    assert!(matches!(
        too_large,
        Err(LogError::TooLarge { limit: 8_192, .. })
    ));
}

#[tokio::test]
async fn closing_a_full_log_fails_what_waits() {
    let disk = SimDisk::new(1);
    let (log, mut steps) = open(&disk, config());
    disk.set_capacity(Some(100));
    let commit = log.append(batch(10)).await.unwrap();
    assert!(!steps.commit());
    let mut close = pin!(log.close());
    assert!(is_pending(close.as_mut()));
    steps.finish();
    assert!(matches!(commit.await, Err(LogError::Full { .. })));
    assert!(close.await.is_err());
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = [
        LogConfig {
            segment_bytes: 1,
            ..config()
        },
        LogConfig {
            max_pending_bytes: 0,
            ..config()
        },
        LogConfig {
            max_log_bytes: Some(4_096),
            ..config()
        },
    ];
    for config in refused {
        let opened = Log::open_stepped(Arc::new(SimDisk::new(1)), config);
        assert!(matches!(opened, Err(LogError::Config { .. })));
    }
}
