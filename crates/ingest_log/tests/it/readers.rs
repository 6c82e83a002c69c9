//! Readers beside writers, with the real threads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ingest_log::{Cursor, Log, LogConfig, LogError, RealDisk, RecordBatch, SyncMode};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::basics::head;

/// Long enough that reaching it means "never", however loaded the machine is.
const DEADLINE: Duration = Duration::from_mins(1);

fn small_segments(dir: &std::path::Path) -> Log {
    let config = LogConfig {
        segment_bytes: 16 << 10,
        // Rolls and concurrency are the subject here, and syncs would only slow them down.
        sync: SyncMode::OsBuffer,
        ..LogConfig::new(dir)
    };
    Log::open(Arc::new(RealDisk), config).unwrap().0
}

async fn append(log: &Log, payloads: impl Iterator<Item = u64>) -> std::ops::Range<u64> {
    let mut batch = RecordBatch::new();
    for payload in payloads {
        batch.push(&head("t"), &payload.to_le_bytes()).unwrap();
    }
    log.append(batch).await.unwrap().await.unwrap()
}

/// Reads `from..to`, checks that nothing is missing, and returns the payloads.
async fn read(log: Log, from: u64, to: u64) -> Vec<Bytes> {
    let mut reader = log.reader(from);
    let (mut next, mut payloads) = (from, Vec::new());
    while next < to {
        let chunk = reader.next_chunk(3_000).await.unwrap().unwrap();
        for record in &chunk {
            assert_eq!(record.seq, next);
            payloads.push(chunk.payload(&record));
            next += 1;
        }
    }
    payloads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_from_anywhere_see_the_same_records_across_rolls() {
    const APPENDERS: u64 = 4;
    const BATCHES: u64 = 100;
    const RECORDS: u64 = APPENDERS * BATCHES * 10;
    let dir = tempfile::tempdir().unwrap();
    let log = small_segments(dir.path());
    let mut readers = JoinSet::new();
    for from in [0, 1, 777, RECORDS - 1] {
        readers.spawn(read(log.clone(), from, RECORDS));
    }
    let mut appenders = JoinSet::new();
    for appender in 0..APPENDERS {
        let log = log.clone();
        appenders.spawn(async move {
            for batch in 0..BATCHES {
                let first = (appender * BATCHES + batch) * 10;
                let seqs = append(&log, first..first + 10).await;
                assert_eq!(seqs.end - seqs.start, 10);
            }
        });
    }
    timeout(DEADLINE, appenders.join_all()).await.unwrap();
    let mut read_by_each = timeout(DEADLINE, readers.join_all()).await.unwrap();
    read_by_each.sort_by_key(Vec::len);
    let all = read_by_each.pop().unwrap();
    for shorter in read_by_each {
        assert_eq!(shorter, all[all.len() - shorter.len()..]);
    }
    // Each appended once, whatever the order of the appenders.
    let mut values: Vec<u64> = all
        .iter()
        .map(|payload| u64::from_le_bytes(payload[..].try_into().unwrap()))
        .collect();
    values.sort_unstable();
    assert!(values.into_iter().eq(0..RECORDS));
    assert!(log.status().segments > 10);
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_waiting_reader_is_woken_by_a_commit_and_by_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = small_segments(dir.path());
    let mut reader = log.reader(0);
    assert!(reader.try_next_chunk(1_000).unwrap().is_none());
    let waiting = tokio::join!(
        timeout(DEADLINE, reader.next_chunk(1_000)),
        append(&log, 0..1)
    );
    assert_eq!(waiting.0.unwrap().unwrap().unwrap().seqs(), 0..1);
    let (end, closed) = tokio::join!(timeout(DEADLINE, reader.next_chunk(1_000)), log.close());
    assert!(end.unwrap().unwrap().is_none());
    closed.unwrap();
}

#[tokio::test]
async fn segments_below_the_slowest_pinning_cursor_go_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let log = small_segments(dir.path());
    for first in (0..4_000).step_by(100) {
        append(&log, first..first + 100).await;
    }
    assert_eq!(log.first(), 0, "without a cursor everything stays");
    let cursor = |next, pins| Cursor {
        next,
        meta: Bytes::new(),
        pins,
    };
    log.cursors().put("slow", cursor(1_500, true));
    log.cursors().put("idle", cursor(10, false));
    log.cursors()
        .put_durable("fast", cursor(4_000, true))
        .await
        .unwrap();
    // The keeper deletes after it has persisted; the next persist comes after that.
    log.cursors().put("fast", cursor(3_999, true));
    log.cursors().sync().await.unwrap();
    assert!(log.first() > 0 && log.first() <= 1_500, "{}", log.first());
    let error = log.reader(0).next_chunk(1_000).await.unwrap_err();
    assert!(
        matches!(error, LogError::Deleted { wanted: 0, .. }),
        "{error}"
    );
    assert_eq!(read(log.clone(), 1_500, 4_000).await.len(), 2_500);
    // A pinning cursor cannot be put where nothing is left.
    log.cursors().put("late", cursor(0, true));
    assert_eq!(log.cursors().get("late").unwrap().next, log.first());
    log.close().await.unwrap();
    assert!(small_segments(dir.path()).cursors().get("late").is_some());
}

#[tokio::test]
async fn a_held_log_keeps_what_was_not_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_bytes: 4 << 10,
        held: true,
        ..LogConfig::new(dir.path())
    };
    let (log, _) = Log::open(Arc::new(RealDisk), config).unwrap();
    for first in (0..2_000).step_by(50) {
        append(&log, first..first + 50).await;
    }
    assert_eq!(log.next_accepted(), 2_000);
    let cursor = Cursor {
        next: 1_500,
        meta: Bytes::new(),
        pins: true,
    };
    log.cursors().put_durable("c", cursor).await.unwrap();
    log.cursors().sync().await.unwrap();
    assert_eq!(log.first(), 0, "nothing was let go");
    log.cursors().hold(700);
    let freed = timeout(DEADLINE, async {
        while log.first() == 0 {
            log.cursors().sync().await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    freed.await.unwrap();
    assert!((1..=700).contains(&log.first()), "{}", log.first());
}
