//! Looking at a log without opening it: nothing is written, and the log may be in use.
//!
//! Everything that opening checks is checked here too, and the records of all segments besides: each record's CRC, that
//! sequences follow each other, that each segment ends where the next says it does, and that no cursor stands
//! outside. A log in use changes meanwhile, so what looks wrong is looked at again before it is said.

use std::io;
use std::path::{Path, PathBuf};

use crate::cursors::Cursor;
use crate::cursors::file::CursorFile;
use crate::disk::Disk;
use crate::recovery::{Inventory, check_cursors};
use crate::{LogError, RealDisk};

/// A log as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Oldest first.
    pub segments: Vec<SegmentInfo>,
    /// By name.
    pub cursors: Vec<(String, Cursor)>,
    /// First sequence held.
    pub first: u64,
    /// Sequence behind the last record.
    pub next: u64,
    /// Bytes behind the last record: being written, or torn by a crash and never acknowledged.
    pub torn_bytes: u64,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its file.
    pub path: PathBuf,
    /// Sequence of its first record.
    pub first: u64,
    /// Sequence behind its last record.
    pub next: u64,
    /// Bytes of header and records.
    pub bytes: u64,
    /// Whether its commits were acknowledged after a sync.
    pub synced: bool,
    /// Whether every record was read and found right.
    pub checked: bool,
}

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Headers, cursors, and the records of the last segment, as opening does.
    Outline,
    /// Every record.
    Records,
}

/// How often what looks wrong is looked at.
const ATTEMPTS: usize = 5;

/// Looks at the log in `dir`.
///
/// Blocks while it reads.
///
/// # Errors
/// What is wrong, as [`crate::Log::open`] would say it; [`LogError::Io`] with `NotFound` when there is no log.
pub fn inspect(dir: &Path, depth: Depth) -> Result<Inspection, LogError> {
    let mut attempt = 1;
    loop {
        match look(&RealDisk, dir, depth) {
            Err(LogError::Corrupt { .. } | LogError::Io { .. }) if attempt < ATTEMPTS => {
                attempt += 1;
            }
            result => return result,
        }
    }
}

fn look(disk: &dyn Disk, dir: &Path, depth: Depth) -> Result<Inspection, LogError> {
    // Before the segments: a cursor is never ahead of what was durable when it was written.
    let cursors = match CursorFile::open(disk, dir)? {
        Some((file, cursors)) => Some((file.identity, cursors)),
        None => None,
    };
    let inventory = Inventory::take(disk, dir)?;
    let Some((identity, cursors)) = cursors else {
        let error = io::Error::from(io::ErrorKind::NotFound);
        return Err(LogError::io("find the cursors of a log in", dir, error));
    };
    inventory.check_chain(identity)?;
    let mut segments = Vec::new();
    let (mut next, mut torn_bytes, mut unsynced) = (0, 0, false);
    for (index, found) in inventory.found.iter().enumerate() {
        let successor = inventory.found.get(index + 1);
        let sealed = successor.map(|s| (s.header.previous_end, s.header.previous_len));
        let (end, len, checked) = match sealed {
            Some((end, len)) if depth == Depth::Outline => (end, len, false),
            sealed => {
                let scan = found.scan(identity)?;
                if let Some((end, len)) = sealed.filter(|sealed| *sealed != (scan.end, scan.len)) {
                    let (ends, bytes) = (scan.end, scan.len);
                    let reason = format!(
                        "its records end at {ends} and byte {bytes}, and the next segment says {end} and byte {len}"
                    );
                    return Err(LogError::corrupt(&found.path, bytes, reason));
                }
                torn_bytes = scan.torn_bytes;
                (scan.end, scan.len, true)
            }
        };
        (next, unsynced) = (end, found.header.unsynced);
        segments.push(SegmentInfo {
            path: found.path.clone(),
            first: found.header.base,
            next: end,
            bytes: len,
            synced: !found.header.unsynced,
            checked,
        });
    }
    let first = segments.first().map_or(0, |segment| segment.first);
    check_cursors(dir, &cursors, first, next, unsynced)?;
    Ok(Inspection {
        segments,
        cursors: cursors.into_iter().collect(),
        first,
        next,
        torn_bytes,
    })
}

impl Inspection {
    /// Returns the cursors that hold the log, the slowest first.
    pub fn pinning(&self) -> Vec<&(String, Cursor)> {
        let mut pinning: Vec<_> = self.cursors.iter().filter(|(_, c)| c.pins).collect();
        pinning.sort_by_key(|(_, cursor)| cursor.next);
        pinning
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::{Log, LogConfig, RecordBatch, RecordHead};

    async fn fill(log: &Log, records: usize) {
        for number in 0..records {
            let head = RecordHead {
                qos: 1,
                retain: false,
                received_us: 0,
                topic: "a",
                client_id: "c",
                properties: b"",
            };
            let mut batch = RecordBatch::new();
            batch.push(&head, &vec![b'x'; 1000 + number]).unwrap();
            log.append(batch).await.unwrap().await.unwrap();
        }
    }

    fn config(dir: &Path) -> LogConfig {
        LogConfig {
            segment_bytes: 64 << 10,
            max_pending_bytes: 64 << 10,
            ..LogConfig::new(dir)
        }
    }

    #[tokio::test]
    async fn a_log_in_use_is_read_whole_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(Arc::new(RealDisk), config(dir.path())).unwrap();
        let cursor = Cursor {
            next: 0,
            meta: "m".into(),
            pins: true,
        };
        log.cursors()
            .put_durable("one", cursor.clone())
            .await
            .unwrap();
        fill(&log, 200).await;
        let running = inspect(dir.path(), Depth::Records).unwrap();
        assert_eq!((running.first, running.next), (0, 200));
        assert!(running.segments.len() > 2 && running.segments.iter().all(|s| s.checked));
        assert_eq!(running.cursors, [("one".to_owned(), cursor)]);
        log.close().await.unwrap();
        let before: Vec<_> = content(dir.path());
        let stopped = inspect(dir.path(), Depth::Outline).unwrap();
        assert_eq!((stopped.next, stopped.torn_bytes), (200, 0));
        assert_eq!(content(dir.path()), before);
    }

    fn content(dir: &Path) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_flipped_bit_anywhere_in_the_records_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(Arc::new(RealDisk), config(dir.path())).unwrap();
        fill(&log, 100).await;
        log.close().await.unwrap();
        let whole = inspect(dir.path(), Depth::Records).unwrap();
        let path = &whole.segments[0].path;
        let good = fs::read(path).unwrap();
        for at in (80..usize::try_from(whole.segments[0].bytes).unwrap()).step_by(997) {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(path, &bad).unwrap();
            let found = inspect(dir.path(), Depth::Records);
            assert!(
                matches!(found, Err(LogError::Corrupt { .. })),
                "{at}: {found:?}"
            );
        }
        fs::write(path, &good).unwrap();
        assert_eq!(inspect(dir.path(), Depth::Records).unwrap(), whole);
    }

    #[test]
    fn where_no_log_is_none_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(inspect(dir.path(), Depth::Outline).is_err());
        assert!(inspect(&dir.path().join("none"), Depth::Outline).is_err());
        assert!(content(dir.path()).is_empty(), "nothing was made");
    }
}
