//! Cursors: durable named places in the log.
//!
//! A cursor says that everything below `next` is done with. Pinning cursors hold the log: a segment is
//! deleted only when it lies wholly below the slowest of them, as persisted *and* as set now.
//!
//! Invariants: a persisted cursor was put before; it is never below what a resolved
//! [`Cursors::put_durable`] put, unless it was put lower or removed since. No cursor is ahead of the
//! durable end of the log, and no pinning cursor is behind its beginning: [`Cursors::put`] moves `next`
//! into these bounds, which can repeat records and never skips any.
//!
//! The file format is in [`file`].

pub(crate) mod file;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;

use crate::LogError;
use crate::sync::{Bell, lock};

/// A durable named place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// First sequence that is not done with.
    pub next: u64,
    /// Whatever the owner wants to find with it. Kept in memory and rewritten with every persist, so
    /// keep it small.
    pub meta: Bytes,
    /// Whether the log must keep everything from `next` on.
    pub pins: bool,
}

/// Cursors by name.
pub(crate) type CursorMap = BTreeMap<String, Cursor>;

/// First sequence held and first sequence not durable.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) first: AtomicU64,
    pub(crate) durable: AtomicU64,
}

/// The cursors of one log.
#[derive(Debug)]
pub struct Cursors {
    book: Mutex<Book>,
    /// The version that is on disk.
    persisted: watch::Sender<u64>,
    bounds: Arc<Bounds>,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Book {
    live: CursorMap,
    /// Counts changes.
    version: u64,
    /// Slowest pinning cursor on disk.
    persisted_floor: Option<u64>,
    stopped: Option<LogError>,
    /// First sequence that is kept whatever the cursors say.
    hold: Option<u64>,
}

/// Longest cursor name, in bytes.
pub const MAX_CURSOR_NAME_BYTES: usize = u16::MAX as usize;

impl Cursors {
    pub(crate) fn new(live: CursorMap, held: bool, bounds: Arc<Bounds>, bell: Arc<Bell>) -> Self {
        let book = Book {
            persisted_floor: floor(&live),
            hold: held.then_some(0),
            live,
            ..Book::default()
        };
        Self {
            book: Mutex::new(book),
            persisted: watch::Sender::new(0),
            bounds,
            bell,
        }
    }

    /// Returns a cursor as last put, persisted or not.
    pub fn get(&self, name: &str) -> Option<Cursor> {
        lock(&self.book).live.get(name).cloned()
    }

    /// Returns all cursors in the order of their names.
    pub fn list(&self) -> Vec<(String, Cursor)> {
        let book = lock(&self.book);
        let pairs = book.live.iter();
        pairs.map(|(name, c)| (name.clone(), c.clone())).collect()
    }

    /// Sets a cursor; it is persisted within about a second, and on close.
    ///
    /// `next` is moved into the log's bounds; see the module's invariants. After the log has failed or
    /// was closed the cursor is set in memory only.
    ///
    /// # Panics
    /// When the name is longer than [`MAX_CURSOR_NAME_BYTES`].
    pub fn put(&self, name: &str, mut cursor: Cursor) {
        assert!(
            name.len() <= MAX_CURSOR_NAME_BYTES,
            "a cursor's name is at most {MAX_CURSOR_NAME_BYTES} bytes"
        );
        let mut book = lock(&self.book);
        // Read under the lock: retention raises the beginning under it too.
        cursor.next = cursor.next.min(self.bounds.durable.load(Ordering::Acquire));
        if cursor.pins {
            cursor.next = cursor.next.max(self.bounds.first.load(Ordering::Acquire));
        }
        match book.live.get_mut(name) {
            Some(there) if *there == cursor => return,
            Some(there) => *there = cursor,
            None => {
                book.live.insert(name.to_owned(), cursor);
            }
        }
        book.version += 1;
    }

    /// Removes a cursor; as [`Cursors::put`], on disk within about a second.
    pub fn remove(&self, name: &str) {
        let mut book = lock(&self.book);
        if book.live.remove(name).is_some() {
            book.version += 1;
        }
    }

    /// Lets go of all below `seq`, as far as the cursors do too; only of a log that is held.
    ///
    /// It is not kept on disk: after each open nothing is let go until this is called.
    pub fn hold(&self, seq: u64) {
        let mut book = lock(&self.book);
        book.hold = book.hold.map(|before| before.max(seq));
    }

    /// Sets a cursor and waits until it is on disk. Many of these at once share one sync.
    ///
    /// # Errors
    /// As [`Cursors::sync`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the cursor put, and persisted as by [`Cursors::put`].
    pub async fn put_durable(&self, name: &str, cursor: Cursor) -> Result<(), LogError> {
        self.put(name, cursor);
        self.sync().await
    }

    /// Waits until all cursors are on disk as they are now.
    ///
    /// On a full disk it waits until there is space.
    ///
    /// # Errors
    /// [`LogError::Failed`] or [`LogError::Closed`] when the log ended before that.
    ///
    /// # Cancel safety
    /// Yes.
    pub async fn sync(&self) -> Result<(), LogError> {
        let wanted = lock(&self.book).version;
        let mut persisted = self.persisted.subscribe();
        self.bell.ring();
        loop {
            if *persisted.borrow_and_update() >= wanted {
                return Ok(());
            }
            if let Some(error) = lock(&self.book).stopped.clone() {
                return Err(error);
            }
            if persisted.changed().await.is_err() {
                return Err(LogError::Closed);
            }
        }
    }

    /// Returns what is to be written, or `None` when all of it is.
    pub(crate) fn unpersisted(&self) -> Option<Snapshot> {
        let book = lock(&self.book);
        (book.version > *self.persisted.borrow()).then(|| Snapshot {
            cursors: book.live.clone(),
            version: book.version,
        })
    }

    pub(crate) fn set_persisted(&self, snapshot: &Snapshot) {
        lock(&self.book).persisted_floor = floor(&snapshot.cursors);
        self.persisted.send_replace(snapshot.version);
    }

    /// Ends all waiting for persistence.
    pub(crate) fn stop(&self, error: LogError) {
        lock(&self.book).stopped.get_or_insert(error);
        self.persisted.send_modify(|_| {});
    }

    /// Runs `decide` with the sequence below which nothing is needed, if there is one, while no cursor
    /// can be put; it may raise the beginning of the log.
    pub(crate) fn with_floor<T>(&self, decide: impl FnOnce(u64) -> Option<T>) -> Option<T> {
        let book = lock(&self.book);
        let persisted = book.persisted_floor?;
        let floor = floor(&book.live).map_or(persisted, |live| live.min(persisted));
        decide(book.hold.map_or(floor, |hold| hold.min(floor)))
    }
}

/// All cursors at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) cursors: CursorMap,
    version: u64,
}

/// Returns the place of the slowest pinning cursor.
pub(crate) fn floor(cursors: &CursorMap) -> Option<u64> {
    let pinning = cursors.values().filter(|cursor| cursor.pins);
    pinning.map(|cursor| cursor.next).min()
}
