//! The embedded store: one SQLite file, one writer thread, many readers.
//!
//! What the layout is and what it was measured against is told in `docs/adr/0003-sqlite-store.md`. In short:
//!
//! - `positions` is in the order stored: its key is the writer's sequence, so the lake's windows and the
//!   purge are ranges of it. A unique index that begins with the event time tells duplicates apart; it
//!   grows at its end, because points are reported soon after they happen.
//! - History is found through two indexes that begin with the *segment*, a run of 32,768 sequences. An
//!   index over all orders would touch one page per row; one over a segment stays small and hot.
//! - Ids are stored once and referred to by number; the row that holds an order's or a deliverer's id
//!   is also the row of its last position.
//! - The log cursor and all counters are committed with the rows they speak of.
//!
//! Commits reach the operating system (`synchronous = NORMAL`): they survive a killed process.
//! [`store::Writer::sync`] makes them survive a power loss, and only below its answer is the log deleted.
//!
//! Several processes may open one file. Writers then take turns, each waiting for the other for up to
//! five seconds before it answers `Unavailable`.

mod append;
mod checkpoint;
mod error;
mod fleet;
mod history;
mod intern;
mod lake;
mod last;
mod pool;
mod reader;
mod rows;
mod scan;
mod schema;
mod sql;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use store::{DEFAULT_MAX_FUTURE_SKEW_US, StoreError};

use crate::pool::Readers;
use crate::writer::WriteThread;

/// What can be chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// A point dated further than this beyond its receipt never becomes last, in microseconds. Too small
    /// ignores devices whose clock is ahead; too big lets one wrong clock freeze an order.
    pub max_future_skew_us: i64,
    /// Memory for pages of the writer, in bytes. It should hold the hot ends of the indexes; too small
    /// reads them again for every batch.
    pub cache_bytes: u64,
    /// Length of the write-ahead log at which it is copied into the file, in bytes. Copying writes each page
    /// once however often it changed, so a longer log means less work in all; it takes four times as much
    /// disk at most, unless a reader stays for long.
    pub log_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_future_skew_us: DEFAULT_MAX_FUTURE_SKEW_US,
            cache_bytes: 128 << 20,
            log_bytes: 64 << 20,
        }
    }
}

/// A store in one SQLite file. Cheap to clone; the last clone dropped ends the writer thread.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    writer_id: String,
    // Before the readers, so that the last commit is through when their connections close.
    writer: WriteThread,
    readers: Arc<Readers>,
}

impl SqliteStore {
    /// Opens the file, and makes it and its folder when absent. Blocks on the disk.
    ///
    /// # Errors
    /// `Data` when the file is no store of this project or of a newer version; `Unavailable` when it
    /// cannot be opened or is locked.
    pub fn open(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let (connection, writer_id) =
            schema::open(path, options.cache_bytes).map_err(|e| e.during("open"))?;
        let writer = WriteThread::start(connection, path, options).map_err(|e| e.during("open"))?;
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                writer_id,
                writer,
                readers: Arc::new(Readers::new(path)),
            }),
        })
    }

    /// Returns the name this file gave itself when it was made; the writer id of all its rows.
    pub fn id(&self) -> &str {
        &self.inner.writer_id
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }
}
