//! What every caller relies on.

use std::sync::Arc;

use ingest_log::{Log, LogConfig, LogError, OpenReport, RealDisk, RecordBatch, RecordHead};

pub(crate) fn head(topic: &str) -> RecordHead<'_> {
    RecordHead {
        qos: 1,
        retain: false,
        received_us: 1_700_000_000_000_000,
        topic,
        client_id: "device-7",
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
