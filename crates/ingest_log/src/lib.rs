//! The ingest log: a segmented write-ahead log with group commit.
//!
//! It keeps one promise, on which the whole pipeline stands: when a [`Commit`] has resolved, its records
//! are on disk, and they stay there until every pinning cursor has passed them, through `kill -9`, power
//! loss and full disks. It never evicts, never steps over damage, and never acknowledges anything after
//! a failed sync.
//!
//! ```
//! # async fn example(dir: &std::path::Path) -> Result<(), ingest_log::LogError> {
//! use std::sync::Arc;
//! use ingest_log::{Log, LogConfig, RealDisk, RecordBatch, RecordHead};
//!
//! let (log, _report) = Log::open(Arc::new(RealDisk), LogConfig::new(dir))?;
//! let mut batch = RecordBatch::new();
//! let head = RecordHead {
//!     qos: 1, retain: false, received_us: 0, topic: "a/b", client_id: "c", properties: b"",
//! };
//! batch.push(&head, b"payload")?;
//! let commit = log.append(batch).await?; // accepted: do not acknowledge yet
//! let seqs = commit.await?; // durable: acknowledge now
//!
//! let mut reader = log.reader(seqs.start);
//! if let Some(chunk) = reader.next_chunk(1 << 20).await? {
//!     for record in &chunk {
//!         println!("{} {}", record.seq, record.topic);
//!     }
//! }
//! log.close().await
//! # }
//! # let dir = tempfile::tempdir().unwrap();
//! # tokio::runtime::Runtime::new().unwrap().block_on(example(dir.path())).unwrap();
//! ```
//!
//! # How it works
//! Appending tasks copy their frames into one gathering group under a short lock ([`Log::append`]). The
//! writer thread takes the whole group, writes it with one positioned write, syncs, shows it to readers,
//! wakes the tasks that wait for it, and takes the next, which gathered meanwhile. So the group grows with
//! the load and one sync serves as many records as came during the last.
//!
//! A second thread, the keeper, does what must not delay commits: it persists cursors, deletes segments
//! below the slowest one, cuts sealed segments to length and makes the next segment's file ahead.
//!
//! Readers ([`Reader`]) read the files by themselves, up to the durable end.
//!
//! # Retention
//! A segment is deleted when it lies wholly below the slowest *pinning* cursor, both as last persisted
//! and as last put. Without any pinning cursor nothing is deleted: a broker whose consumers have not
//! come yet must not lose what it acknowledged. Bound the disk with `max_log_bytes` or let the disk be
//! the bound; at the bound commits wait and the writer tries again every second.
//!
//! With [`LogConfig::held`] nothing at or above [`Cursors::hold`] is deleted either, and nothing at all
//! before that was called: who keeps a digest of the records elsewhere says so how far it is durable.
//!
//! # Bounds
//! | what | bound | at the bound |
//! |---|---|---|
//! | bytes accepted and not durable | `max_pending_bytes` | `append` waits, first come first served |
//! | memory of groups | twice that | as above |
//! | bytes on disk | `max_log_bytes`, or the disk | commits wait until there is space |
//! | a batch | `max_pending_bytes` | refused |
//! | a reader | 256 KiB, or one record | it reads no further ahead |
//!
//! # Files
//! | name | content |
//! |---|---|
//! | `NNNNNNNNNNNNNNNN.seg` | a segment; its ordinal in 16 decimal digits, consecutive |
//! | `cursors.a`, `cursors.b` | all cursors, written in turn |
//! | `lock` | empty; locked while a process has the log open |
//!
//! All integers are little-endian. CRC is CRC-32 as in zlib, PNG and Ethernet.
//!
//! ## Segment, version 2
//! A header of 80 bytes, then records to the segment's end; behind it, zeros up to the preallocated size.
//!
//! | at | bytes | content |
//! |---|---|---|
//! | 0 | 8 | `LMLOGSEG` |
//! | 8 | 4 | version, 2; 1 is read too, and its records have neither properties nor packet id |
//! | 12 | 4 | flags; bit 0: commits of this segment were acknowledged without sync |
//! | 16 | 16 | log id |
//! | 32 | 8 | salt of the log, random |
//! | 40 | 8 | ordinal, as in the name |
//! | 48 | 8 | sequence of the first record |
//! | 56 | 8 | sequence behind the last record of the segment before |
//! | 64 | 8 | length of the segment before in bytes; 0 if there was none |
//! | 72 | 4 | zeros |
//! | 76 | 4 | CRC of bytes 0 to 76 |
//!
//! The header is written together with the segment's first group and is always synced before that group
//! is acknowledged. So a file without a header holds nothing, and a header proves the segment before it
//! whole up to the given length: opening reads the headers, and the records of the last segment only.
//!
//! ## Record
//! | at | bytes | content |
//! |---|---|---|
//! | 0 | 4 | length of the body: what follows byte 16 |
//! | 4 | 4 | CRC of the body followed by the eight bytes of (the field at 8, XOR the log's salt) |
//! | 8 | 8 | bits 0-62: sequence; bit 63: set on the first record of each group |
//! | 16 | 8 | received, microseconds since the epoch, signed |
//! | 24 | 1 | bits 0-1: quality of service, 0 to 2; bit 2: retain; bit 3: has properties; bit 4: has a packet id; others 0 |
//! | 25 | 2 | length of the topic |
//! | 27 | 2 | length of the client id |
//! | 29 | | topic and client id, UTF-8; with bit 4 the packet id (2 bytes, not 0); with bit 3 the length of the properties (4 bytes) and the properties; payload to the end of the body |
//!
//! Sequences of a segment are consecutive. Between segments they are too, except behind an unsynced
//! segment, where they leap ahead at each open so that no sequence is given out twice.
//!
//! The salt makes it impossible to publish a payload that, when a torn write leaves it in the right
//! place, looks like a record of the log.
//!
//! ## Torn or damaged
//! Opening cuts the end of the last segment from the first record that is not whole, unless a whole
//! group with a later sequence follows: a group is only written when the one before it was synced, so
//! what lies before a group was once durable, and its loss is damage ([`LogError::Corrupt`]). Unsynced
//! segments are cut without that distinction. A record whose CRC is right and whose flags are not known
//! is never cut: the log is refused.
//!
//! The cursor files are described in the source of `cursors/file.rs`.
//!
//! # What it does not do
//! It does not replicate, compress or encrypt; it does not interpret payloads; it has no clock.

mod config;
#[cfg(test)]
mod crash_tests;
pub mod cursors;
pub mod disk;
mod error;
mod group;
mod inspect;
mod keeper;
mod log;
mod reader;
mod record;
#[cfg(test)]
mod record_tests;
mod recovery;
mod segment;
mod shared;
pub mod sim;
mod spare;
mod status;
mod sync;
mod wire;
mod writer;

pub use config::{LogConfig, SyncMode};
pub use cursors::{Cursor, Cursors};
pub use disk::RealDisk;
pub use error::LogError;
pub use group::Commit;
pub use inspect::{Depth, Inspection, SegmentInfo, inspect};
pub use log::{Log, Steps};
pub use reader::{Chunk, Reader, Records};
pub use record::{Record, RecordBatch, RecordHead};
pub use recovery::OpenReport;
pub use status::{LogCondition, LogStatus, SYNC_BOUNDS_SECONDS, SyncTimes};
