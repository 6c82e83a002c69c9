//! What every caller relies on.

use std::sync::Arc;
use std::time::Duration;

use ingest_log::{
    Log, LogCondition, LogConfig, LogError, OpenReport, RealDisk, RecordBatch, RecordHead,
};
use tokio::time::timeout;

pub(crate) fn head(topic: &str) -> RecordHead<'_> {
    RecordHead {
        qos: 1,
        retain: false,
        received_us: 1_700_000_000_000_000,
        topic,
        client_id: "device-7",
        properties: &[],
    }
}

pub(crate) fn open(dir: &std::path::Path) -> (Log, OpenReport) {
    Log::open(Arc::new(RealDisk), LogConfig::new(dir)).unwrap()
}

#[tokio::test]
async fn what_is_committed_is_read_back_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (log, report) = open(dir.path());
    assert!(report.created);
    let id = log.id().to_owned();
    let mut batch = RecordBatch::new();
    for i in 0..100_u32 {
        batch.push(&head("a/b"), &i.to_le_bytes()).unwrap();
    }
    assert_eq!(log.append(batch).await.unwrap().await.unwrap(), 0..100);
    assert_eq!(log.next_durable(), 100);
    log.close().await.unwrap();
    let mut late = RecordBatch::new();
    late.push(&head("a/b"), b"late").unwrap();
    assert!(matches!(log.append(late).await, Err(LogError::Closed)));

    let (log, report) = open(dir.path());
    assert_eq!(
        (report.created, report.next, report.cut_bytes),
        (false, 100, 0)
    );
    assert_eq!(log.id(), id);
    let mut reader = log.reader(40);
    let chunk = reader.next_chunk(1 << 20).await.unwrap().unwrap();
    assert_eq!(chunk.seqs(), 40..100);
    for (record, i) in chunk.iter().zip(40_u32..) {
        assert_eq!(record.payload, i.to_le_bytes());
        assert_eq!(chunk.payload(&record), i.to_le_bytes().as_slice());
        assert_eq!(
            (record.topic, record.client_id, record.qos),
            ("a/b", "device-7", 1)
        );
    }
    log.close().await.unwrap();
    assert!(reader.next_chunk(1).await.unwrap().is_none());
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let second = Log::open(Arc::new(RealDisk), LogConfig::new(dir.path()));
    assert!(matches!(second, Err(LogError::Locked { .. })));
    log.close().await.unwrap();
    open(dir.path());
}

#[tokio::test]
async fn a_dropped_log_commits_what_was_appended_and_frees_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let mut batch = RecordBatch::new();
    batch.push(&head("a/b"), b"kept").unwrap();
    let commit = log.append(batch).await.unwrap();
    drop(log);
    assert_eq!(commit.await.unwrap(), 0..1);
    let reopened = timeout(Duration::from_mins(1), async {
        loop {
            match Log::open(Arc::new(RealDisk), LogConfig::new(dir.path())) {
                Err(LogError::Locked { .. }) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    });
    assert_eq!(reopened.await.unwrap().1.next, 1);
}

#[tokio::test]
async fn the_status_counts_what_became_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let mut batch = RecordBatch::new();
    for _ in 0..10 {
        batch.push(&head("a/b"), b"payload").unwrap();
    }
    let bytes = batch.bytes() as u64;
    let empty = RecordBatch::new();
    assert_eq!(log.append(empty).await.unwrap().await.unwrap(), 0..0);
    log.append(batch).await.unwrap().await.unwrap();
    let status = log.status();
    assert_eq!(status.condition, LogCondition::Ok);
    assert_eq!((status.first, status.next_durable), (0, 10));
    assert_eq!((status.records, status.bytes), (10, bytes));
    assert_eq!((status.commits, status.segments), (1, 1));
    assert_eq!(status.syncs.counts.iter().sum::<u64>(), 1);
    assert!(status.disk_bytes >= bytes);
    log.close().await.unwrap();
    assert_eq!(log.status().condition, LogCondition::Closed);
    assert_eq!(log.status().pending_bytes, 0);
    assert_eq!(log.status().oldest_pending, None);
}
