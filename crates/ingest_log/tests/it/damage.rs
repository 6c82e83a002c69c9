//! Damage is told apart from what a crash tears, and never stepped over.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ingest_log::disk::Disk;
use ingest_log::sim::{Crash, SimDisk};
use ingest_log::{Log, LogConfig, LogError, OpenReport, RecordBatch, Steps};

use crate::basics::head;

/// Bytes of a segment header and of one record made by [`filled`].
const HEADER: u64 = 80;
const RECORD: u64 = 29 + 1 + 8 + 1_000;

fn open(disk: &SimDisk) -> Result<(Log, Steps, OpenReport), LogError> {
    let config = LogConfig {
        segment_bytes: 4_096,
        ..LogConfig::new("log")
    };
    Log::open_stepped(Arc::new(disk.clone()), config)
}

fn segment(ordinal: u64) -> PathBuf {
    Path::new("log").join(format!("{ordinal:016}.seg"))
}

/// Ten records of one group each, three to a segment; then the process is killed.
async fn filled() -> SimDisk {
    let disk = SimDisk::new(7);
    let (log, mut steps, _) = open(&disk).unwrap();
    for _ in 0..10 {
        let mut batch = RecordBatch::new();
        batch.push(&head("t"), &[7; 1_000]).unwrap();
        let commit = log.append(batch).await.unwrap();
        assert!(steps.commit());
        commit.await.unwrap();
    }
    disk.reboot(Crash::Power)
}

fn corrupt_file(disk: &SimDisk) -> PathBuf {
    let error = open(disk).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
    let LogError::Corrupt { path, .. } = error else {
        return PathBuf::new();
    };
    path
}

#[tokio::test]
async fn an_undamaged_log_opens() {
    let (log, _steps, report) = open(&filled().await).unwrap();
    assert_eq!((report.segments, report.next, report.cut_bytes), (4, 10, 0));
    assert_eq!(log.next_durable(), 10);
}

#[tokio::test]
async fn a_damaged_record_in_a_sealed_segment_stops_its_readers() {
    let disk = filled().await;
    disk.flip_bits(&segment(1), HEADER + RECORD + 100, 4);
    let (log, _steps, _) = open(&disk).unwrap();
    let mut reader = log.reader(0);
    let mut seen = 0;
    let error = loop {
        match reader.next_chunk(1).await {
            Ok(chunk) => seen += chunk.unwrap().len(),
            Err(error) => break error,
        }
    };
    assert_eq!(seen, 4, "what is right before the damage is read");
    assert!(matches!(error, LogError::Corrupt { path, offset, .. }
        if path == segment(1) && offset == HEADER + RECORD));
}

#[tokio::test]
async fn a_damaged_record_with_a_later_commit_is_not_cut() {
    let disk = SimDisk::new(7);
    let (log, mut steps, _) = open(&disk).unwrap();
    for _ in 0..3 {
        let mut batch = RecordBatch::new();
        batch.push(&head("t"), &[7; 1_000]).unwrap();
        let commit = log.append(batch).await.unwrap();
        steps.commit();
        commit.await.unwrap();
    }
    let disk = disk.reboot(Crash::Process);
    disk.flip_bits(&segment(0), HEADER + RECORD + 100, 4);
    assert_eq!(corrupt_file(&disk), segment(0));
}

#[tokio::test]
async fn a_missing_segment_and_a_damaged_header_are_found() {
    let disk = filled().await;
    disk.remove(&segment(1)).unwrap();
    assert_eq!(corrupt_file(&disk), segment(2));
    let disk = filled().await;
    disk.flip_bits(&segment(1), 50, 1);
    assert_eq!(corrupt_file(&disk), segment(1));
    let disk = filled().await;
    disk.open(&segment(1)).unwrap().set_len(200).unwrap();
    assert_eq!(corrupt_file(&disk), segment(2));
}

#[tokio::test]
async fn another_version_is_named() {
    let disk = filled().await;
    disk.flip_bits(&segment(0), 8, 1);
    let error = open(&disk).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Version {
                found: 3,
                supported: 2,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("version 3"));
}

#[tokio::test]
async fn segments_of_version_1_are_read() {
    let disk = filled().await;
    for ordinal in 0..3 {
        let file = disk.open(&segment(ordinal)).unwrap();
        let mut header = [0; 80];
        assert_eq!(file.read_at(&mut header, 0).unwrap(), header.len());
        header[8] = 1;
        let crc = crc32fast::hash(&header[..76]);
        header[76..].copy_from_slice(&crc.to_le_bytes());
        file.write_at(&header, 0).unwrap();
    }
    let (log, ..) = open(&disk).unwrap();
    let mut reader = log.reader(log.first());
    let mut next = log.first();
    while let Some(chunk) = reader.try_next_chunk(1 << 20).unwrap() {
        next = chunk.seqs().end;
    }
    assert!(next > log.first() && next == log.next_durable());
}

#[tokio::test]
async fn segments_without_cursor_files_are_not_taken_for_a_new_log() {
    let disk = filled().await;
    for name in ["log/cursors.a", "log/cursors.b"] {
        disk.remove(Path::new(name)).unwrap();
    }
    assert_eq!(corrupt_file(&disk), segment(0));
}
