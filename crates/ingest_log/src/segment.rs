//! Segments: their names, their headers, and the list of those that hold records.
//!
//! A segment's header is written together with the segment's first group, so a file without a valid
//! header holds nothing that was acknowledged. The header seals the segment before it: it says where
//! that one ends. So a chain of headers proves a log complete without reading its records.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crate::sync::{lock, read, write};
use crate::wire::{array_at, put, u32_at, u64_at};

/// Version of the segment format, kept in each header. Version 1, whose records had no properties, is
/// read as well: its records are records of version 2.
pub(crate) const FORMAT_VERSION: u32 = 2;
/// Oldest version that is read.
const OLDEST_VERSION: u32 = 1;
/// Bytes of a header; the first record follows.
pub(crate) const HEADER_BYTES: usize = 80;
/// [`HEADER_BYTES`] as a position in a file.
pub(crate) const HEADER_END: u64 = HEADER_BYTES as u64;

const MAGIC: [u8; 8] = *b"LMLOGSEG";
const CRC_AT: usize = HEADER_BYTES - 4;
const UNSYNCED: u32 = 1;
const SUFFIX: &str = ".seg";

/// What a log is recognised by: its id, and a secret that enters every record's CRC, so that no
/// payload can be made that looks like a record of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: [u8; 16],
    pub(crate) salt: u64,
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) identity: Identity,
    pub(crate) ordinal: u64,
    /// Sequence of the first record.
    pub(crate) base: u64,
    /// Sequence behind the last record of the segment before; equals `base` unless that one was
    /// written without sync.
    pub(crate) previous_end: u64,
    /// Length of the segment before, in bytes; zero when there is none.
    pub(crate) previous_len: u64,
    /// Whether commits of this segment are acknowledged without sync.
    pub(crate) unsynced: bool,
}

/// What the beginning of a segment file holds.
#[derive(Debug)]
pub(crate) enum Beginning {
    Valid(Header),
    /// Zeros, too short, or damaged.
    Void,
    /// Written by another version of the format.
    Version(u32),
}

impl Header {
    pub(crate) fn encode(&self, out: &mut [u8]) {
        put(out, 0, &MAGIC);
        put(out, 8, &FORMAT_VERSION.to_le_bytes());
        let flags = if self.unsynced { UNSYNCED } else { 0 };
        put(out, 12, &flags.to_le_bytes());
        put(out, 16, &self.identity.id);
        put(out, 32, &self.identity.salt.to_le_bytes());
        put(out, 40, &self.ordinal.to_le_bytes());
        put(out, 48, &self.base.to_le_bytes());
        put(out, 56, &self.previous_end.to_le_bytes());
        put(out, 64, &self.previous_len.to_le_bytes());
        put(out, 72, &[0; 4]);
        let crc = crc32fast::hash(&out[..CRC_AT]);
        put(out, CRC_AT, &crc.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Beginning {
        if bytes.len() < HEADER_BYTES || bytes[..8] != MAGIC {
            return Beginning::Void;
        }
        // Before the CRC, because another version may keep its CRC elsewhere.
        let version = u32_at(bytes, 8);
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&version) && version != 0 {
            return Beginning::Version(version);
        }
        if crc32fast::hash(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) {
            return Beginning::Void;
        }
        Beginning::Valid(Self {
            identity: Identity {
                id: array_at(bytes, 16),
                salt: u64_at(bytes, 32),
            },
            ordinal: u64_at(bytes, 40),
            base: u64_at(bytes, 48),
            previous_end: u64_at(bytes, 56),
            previous_len: u64_at(bytes, 64),
            unsynced: u32_at(bytes, 12) & UNSYNCED != 0,
        })
    }
}

/// Names the file of a segment.
pub(crate) fn path(dir: &Path, ordinal: u64) -> PathBuf {
    dir.join(format!("{ordinal:016}{SUFFIX}"))
}

/// Reads the ordinal back from a file name; `None` for files that are no segments.
pub(crate) fn ordinal_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let ordinal = digits.parse().ok()?;
    (format!("{ordinal:016}") == digits).then_some(ordinal)
}

/// A segment that holds at least one durable record, as readers see it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) ordinal: u64,
    pub(crate) base: u64,
    pub(crate) previous_end: u64,
    /// Bytes that are durable; grows while this is the last segment, never shrinks.
    durable_len: AtomicU64,
    /// Bytes the file takes.
    file_len: AtomicU64,
    /// Some records' places in ascending order, so that a reader need not begin at the beginning.
    marks: Mutex<Vec<(u64, u64)>>,
}

/// Distance of two marks, in bytes: finding a record reads at most this much, besides one group.
const MARK_DISTANCE: u64 = 256 << 10;

impl Segment {
    pub(crate) fn new(header: &Header, durable_len: u64, file_len: u64) -> Self {
        Self {
            ordinal: header.ordinal,
            base: header.base,
            previous_end: header.previous_end,
            durable_len: AtomicU64::new(durable_len),
            file_len: AtomicU64::new(file_len),
            marks: Mutex::new(vec![(header.base, HEADER_END)]),
        }
    }

    pub(crate) fn durable_len(&self) -> u64 {
        self.durable_len.load(Ordering::Acquire)
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.file_len.load(Ordering::Relaxed)
    }

    pub(crate) fn set_file_len(&self, len: u64) {
        self.file_len.store(len, Ordering::Relaxed);
    }

    /// Shows readers the records up to `len`; the record `seq` begins at `at`.
    pub(crate) fn publish(&self, seq: u64, at: u64, len: u64) {
        let mut marks = lock(&self.marks);
        if marks
            .last()
            .is_none_or(|&(_, last)| at >= last + MARK_DISTANCE)
        {
            marks.push((seq, at));
        }
        drop(marks);
        self.durable_len.store(len, Ordering::Release);
        self.file_len.fetch_max(len, Ordering::Relaxed);
    }

    /// Returns a place at or before the record `seq`.
    pub(crate) fn mark_before(&self, seq: u64) -> (u64, u64) {
        let marks = lock(&self.marks);
        let index = marks.partition_point(|&(mark, _)| mark <= seq);
        marks[index.saturating_sub(1)]
    }
}

/// The segments that hold records, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Segments(RwLock<VecDeque<Arc<Segment>>>);

impl Segments {
    pub(crate) fn new(segments: VecDeque<Arc<Segment>>) -> Self {
        Self(RwLock::new(segments))
    }

    pub(crate) fn push(&self, segment: Arc<Segment>) {
        write(&self.0).push_back(segment);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        read(&self.0).iter().cloned().collect()
    }

    /// Returns the number of segments and the bytes their files take.
    pub(crate) fn size(&self) -> (usize, u64) {
        let segments = read(&self.0);
        (segments.len(), segments.iter().map(|s| s.file_len()).sum())
    }

    /// Returns the segment in which to look for a record.
    pub(crate) fn holding(&self, seq: u64) -> Option<Arc<Segment>> {
        let segments = read(&self.0);
        let index = segments.partition_point(|segment| segment.base <= seq);
        segments.get(index.checked_sub(1)?).cloned()
    }

    /// Returns the segment that follows one, once it holds a record.
    pub(crate) fn after(&self, ordinal: u64) -> Option<Arc<Segment>> {
        let segments = read(&self.0);
        let first = segments.front()?.ordinal;
        let index = usize::try_from((ordinal + 1).checked_sub(first)?).ok()?;
        segments.get(index).cloned()
    }

    /// Returns the oldest segment when every record in it is below `floor`, and the first sequence that
    /// remains. The last segment always stays: its end is the log's end.
    pub(crate) fn oldest_below(&self, floor: u64) -> Option<(Arc<Segment>, u64)> {
        let segments = read(&self.0);
        let (oldest, next) = (segments.front()?, segments.get(1)?);
        (next.base <= floor).then(|| (Arc::clone(oldest), next.base))
    }

    pub(crate) fn forget_oldest(&self) {
        write(&self.0).pop_front();
    }
}
