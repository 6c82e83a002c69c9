//! Readers: durable records in order, from any sequence.
//!
//! A reader keeps its place by itself and takes no lock while it reads. It sees a record only after the
//! sync of its group, and it checks each record's CRC. Reads go through the page cache in blocks and are
//! made on the calling task: what a consumer at the log's end reads was just written, and a cold block
//! costs one disk read per [`READ_BYTES`].

use std::io;
use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::sync::watch;

use crate::disk::File;
use crate::record::{PREFIX_BYTES, Parsed, Record, UNKNOWN, decode, parse};
use crate::segment::{self, Segment};
use crate::shared::Shared;
use crate::wire::{length, u32_at};
use crate::{LogCondition, LogError};

/// Bytes asked of the disk at a time, and the most a reader holds besides one record.
const READ_BYTES: u64 = 256 << 10;

/// Reads a log from a place on; made by [`crate::Log::reader`].
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    news: watch::Receiver<()>,
    /// Sequence of the next record to give out.
    next: u64,
    place: Option<Place>,
    /// Whole records that were read and checked; the first is `next`.
    ahead: Bytes,
}

/// Where the next block is read.
#[derive(Debug)]
struct Place {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    at: u64,
    /// Sequence of the record at `at`.
    seq: u64,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, from: u64) -> Self {
        Self {
            news: shared.news.subscribe(),
            shared,
            next: from,
            place: None,
            ahead: Bytes::new(),
        }
    }

    /// Returns the sequence of the next record this reader gives out.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Waits for durable records and returns some, in order, without a gap.
    ///
    /// The chunk holds at most `max_bytes` of frames, and at least one record. `None` means that the log
    /// was closed and all of it was read.
    ///
    /// # Errors
    /// [`LogError::Deleted`] when the next record was deleted; [`LogError::Failed`] when the log has
    /// failed and everything durable was read; [`LogError::Corrupt`] and [`LogError::Io`].
    ///
    /// # Cancel safety
    /// Yes: no record is taken before the future resolves.
    pub async fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Chunk>, LogError> {
        loop {
            self.news.mark_unchanged();
            let condition = self.shared.condition();
            if let Some(chunk) = self.try_next_chunk(max_bytes)? {
                return Ok(Some(chunk));
            }
            match condition {
                LogCondition::Failed(reason) => return Err(LogError::Failed { reason }),
                LogCondition::Closed => return Ok(None),
                LogCondition::Ok | LogCondition::Full(_) => {}
            }
            if self.news.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Returns durable records if there are any now; otherwise as [`Reader::next_chunk`].
    ///
    /// # Errors
    /// [`LogError::Deleted`], [`LogError::Corrupt`] and [`LogError::Io`].
    pub fn try_next_chunk(&mut self, max_bytes: usize) -> Result<Option<Chunk>, LogError> {
        while self.ahead.is_empty() {
            if !self.read_block()? {
                return Ok(None);
            }
        }
        // The first record goes out whatever its size.
        let (mut taken, mut records) = (0, 0);
        while taken < self.ahead.len() {
            let size = frame_size(&self.ahead[taken..]);
            if records > 0 && taken + size > max_bytes {
                break;
            }
            taken += size;
            records += 1;
        }
        let bytes = self.ahead.split_to(taken);
        let first = self.next;
        self.next += records;
        Ok(Some(Chunk {
            bytes,
            seqs: first..self.next,
        }))
    }

    /// Reads on; `false` when there is nothing durable to read.
    fn read_block(&mut self) -> Result<bool, LogError> {
        let Some(place) = &mut self.place else {
            self.place = self.find()?;
            return Ok(self.place.is_some());
        };
        let len = place.segment.durable_len();
        if place.at < len {
            let (bytes, records) = place.read(&self.shared, len)?;
            let first = place.seq;
            place.at += bytes.len() as u64;
            place.seq += records;
            self.ahead = behind(bytes, self.next.saturating_sub(first));
            return Ok(true);
        }
        let after = self.shared.segments.after(place.segment.ordinal);
        // The segment may have grown before its successor came.
        if place.at < place.segment.durable_len() {
            return Ok(true);
        }
        let Some(after) = after else {
            // Either this is the last segment, or retention has passed by.
            if self.next < self.shared.first() {
                return Err(self.deleted());
            }
            return Ok(false);
        };
        if place.seq != after.previous_end {
            let path = segment::path(&self.shared.config.dir, place.segment.ordinal);
            let reason = format!(
                "it ends with record {}, and the next segment says {}",
                place.seq, after.previous_end
            );
            return Err(LogError::corrupt(&path, place.at, reason));
        }
        self.next = self.next.max(after.base);
        self.place = Some(self.enter(after)?);
        Ok(true)
    }

    fn find(&self) -> Result<Option<Place>, LogError> {
        if self.next < self.shared.first() {
            return Err(self.deleted());
        }
        if self.next >= self.shared.next_durable() {
            return Ok(None);
        }
        match self.shared.segments.holding(self.next) {
            Some(segment) => self.enter(segment).map(Some),
            None => Err(self.deleted()),
        }
    }

    fn enter(&self, segment: Arc<Segment>) -> Result<Place, LogError> {
        let path = segment::path(&self.shared.config.dir, segment.ordinal);
        let file = match self.shared.disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.deleted()),
            Err(error) => return Err(LogError::io("open", &path, error)),
        };
        let (seq, at) = segment.mark_before(self.next);
        Ok(Place {
            segment,
            file,
            at,
            seq,
        })
    }

    fn deleted(&self) -> LogError {
        LogError::Deleted {
            wanted: self.next,
            first: self.shared.first(),
        }
    }
}

impl Place {
    /// Reads and checks whole records, at least one.
    fn read(&self, shared: &Shared, len: u64) -> Result<(Bytes, u64), LogError> {
        let path = || segment::path(&shared.config.dir, self.segment.ordinal);
        let mut want = length((len - self.at).min(READ_BYTES));
        loop {
            let mut bytes = vec![0; want];
            let read = self.file.read_at(&mut bytes, self.at);
            let read = read.map_err(|error| LogError::io("read", &path(), error))?;
            bytes.truncate(read);
            let (mut size, mut records) = (0, 0);
            let problem = loop {
                match parse(&bytes[size..], shared.identity.salt) {
                    Parsed::Frame(frame) if frame.record.seq == self.seq + records => {
                        size += frame.size;
                        records += 1;
                    }
                    Parsed::Frame(_) => break Some("the record is not the next in sequence"),
                    Parsed::Bad(reason) => break Some(reason),
                    Parsed::Unknown => break Some(UNKNOWN),
                    Parsed::Short(_) if records > 0 => break None,
                    Parsed::Short(needed) if needed as u64 > len - self.at || read < want => {
                        break Some("the segment ends within the record");
                    }
                    Parsed::Short(needed) => {
                        want = needed;
                        break None;
                    }
                }
            };
            // What is right before the damage is given out first.
            if records > 0 {
                bytes.truncate(size);
                return Ok((bytes.into(), records));
            }
            if let Some(reason) = problem {
                return Err(LogError::corrupt(&path(), self.at, reason));
            }
        }
    }
}

fn frame_size(bytes: &[u8]) -> usize {
    PREFIX_BYTES + u32_at(bytes, 0) as usize
}

/// Leaves out the first `records`.
fn behind(mut bytes: Bytes, records: u64) -> Bytes {
    for _ in 0..records {
        if bytes.is_empty() {
            break;
        }
        bytes.advance(frame_size(&bytes));
    }
    bytes
}

/// Consecutive records in one piece of memory.
#[derive(Debug, Clone)]
pub struct Chunk {
    bytes: Bytes,
    seqs: Range<u64>,
}

impl Chunk {
    /// Returns the sequences of the records.
    pub fn seqs(&self) -> Range<u64> {
        self.seqs.clone()
    }

    /// Returns the number of records; at least one, unless some were left out by [`Chunk::advance`].
    pub fn len(&self) -> usize {
        length(self.seqs.end - self.seqs.start)
    }

    /// Tells whether there is no record, which is the case only when [`Chunk::advance`] left out all.
    pub fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }

    /// Iterates over the records.
    pub fn iter(&self) -> Records<'_> {
        Records(&self.bytes)
    }

    /// Leaves out the first records, at most all of them; it copies nothing.
    pub fn advance(&mut self, records: usize) {
        let left_out = (records as u64).min(self.seqs.end - self.seqs.start);
        self.bytes = behind(std::mem::take(&mut self.bytes), left_out);
        self.seqs.start += left_out;
    }

    /// Returns a record's payload without copying it; it keeps the whole chunk in memory.
    ///
    /// # Panics
    /// When the record is not of this chunk.
    pub fn payload(&self, record: &Record<'_>) -> Bytes {
        self.bytes.slice_ref(record.payload)
    }
}

impl<'a> IntoIterator for &'a Chunk {
    type Item = Record<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.iter()
    }
}

/// Iterates over the records of a [`Chunk`].
#[derive(Debug, Clone)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let (frame, rest) = self.0.split_at(frame_size(self.0));
        self.0 = rest;
        Some(decode(frame).expect("a chunk holds records that were parsed when it was read"))
    }
}

impl FusedIterator for Records<'_> {}
