//! The store on MongoDB, 4.4 to 8.x: a replica set, one server, or a sharded cluster.
//!
//! What the layout is, why `committed` proves a window complete, and what was measured is told in
//! `docs/adr/0005-mongodb-store.md`. In short:
//!
//! - A position's `_id` is its identity as text that sorts by order and time ([`key`]). It tells duplicates
//!   apart over all history, holds an order's history together, and lets inserts of one batch meet. It is the only
//!   index of `positions`: small documents beside them lead from a writer's sequences ([`lists`]) and from a
//!   deliverer ([`carried`]) to the rows.
//! - Every row bears its writer and the writer's sequence. A batch's rows are inserted unordered, by a majority
//!   and into the journal; after them one guarded update raises the writer's `committed` ([`identity`]).
//! - Rows of an append that never committed are found again through their `_id` when the batch is written
//!   again, and taken over by the writer that brings it ([`claim`]). So each row is in exactly one window.
//! - Last positions are documents of their own: inserted, or updated under a guard of recency ([`last`]).
//! - Values of clients are only ever values: filters compare them with equality or ranges of text, and
//!   documents are replaced whole. There is no place where one could become an operator or a field's name.
//!
//! [`store::Writer::append`] answers after everything is with a majority and in its journal, so
//! [`store::Writer::sync`] has nothing left to do.
//!
//! Counts are the server's estimates: exact but after an unclean stop of the server or on a sharded cluster
//! with orphaned documents, and rows of appends that failed are counted before they are taken over.

mod append;
mod carried;
mod claim;
mod database;
mod error;
mod fleet;
mod history;
mod identity;
mod insert;
mod key;
mod lake;
mod last;
mod lease;
mod lists;
mod many;
mod memory;
mod open;
mod page;
mod pulse;
mod purge;
mod reader;
mod rows;
mod schema;
#[doc(hidden)]
pub mod tuning;
mod uri;
mod window;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use store::DEFAULT_MAX_FUTURE_SKEW_US;
use tokio::sync::Mutex;

use crate::database::Store;
use crate::identity::Pipeline;

pub use crate::uri::check_uri;

/// What can be chosen.
#[derive(Clone)]
pub struct Options {
    /// Where the database is: `mongodb://` or `mongodb+srv://`. Its concerns, retries and read preference are
    /// overruled; everything else in it counts.
    pub uri: String,
    /// The database; when absent, that of the URI's path, and when there is none, `lastmile`.
    pub database: Option<String>,
    /// What the names of this process's writers begin with.
    pub writer: String,
    /// A point dated further than this beyond its receipt never becomes last, in microseconds. Too small
    /// ignores devices whose clock is ahead; too big lets one wrong clock freeze an order.
    pub max_future_skew_us: i64,
    /// Lets the server delete positions so long after their receipt. `None` leaves things as they are, zero
    /// removes a limit set before. **A position deleted before the lake has taken it is not in the lake**:
    /// give many times the interval between two runs of the offload, or purge through the lake instead.
    pub ttl: Option<Duration>,
    /// How long to look for a server before a call is `Unavailable`.
    pub timeout: Duration,
}

impl Options {
    /// Takes the URI and defaults for the rest.
    pub fn new(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            ..Self::default()
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            uri: "mongodb://127.0.0.1:27017".to_owned(),
            database: None,
            writer: "lastmile".to_owned(),
            max_future_skew_us: DEFAULT_MAX_FUTURE_SKEW_US,
            ttl: None,
            timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for Options {
    /// Leaves the URI out, because it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("database", &self.database)
            .field("writer", &self.writer)
            .field("max_future_skew_us", &self.max_future_skew_us)
            .field("ttl", &self.ttl)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A store in a MongoDB database. Clones share one connection pool and one writer.
#[derive(Clone)]
pub struct MongoStore {
    store: Store,
    options: Arc<Options>,
    pipeline: Arc<Mutex<Pipeline>>,
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStore")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl MongoStore {
    /// Returns a store on the same connections with a writer of its own, so that two pipelines append side
    /// by side. Appends through one store wait for one another.
    #[must_use]
    pub fn another_writer(&self) -> Self {
        Self {
            pipeline: Arc::default(),
            ..self.clone()
        }
    }

    /// Returns the name of the database.
    pub fn database(&self) -> &str {
        self.store.database().name()
    }
}
