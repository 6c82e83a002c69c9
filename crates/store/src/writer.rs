//! The subscriber's side of a store.

use async_trait::async_trait;
use model::{Record, Reject};

use crate::StoreError;

/// Where a consumer of the ingest log stands: every message below `next` is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceCursor {
    /// Identifies the log (its own id, made when it was created).
    pub source: String,
    /// The sequence of the first message not yet stored.
    pub next: u64,
}

/// What one write brings: stored together, made durable together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Valid items, in the order received.
    pub records: Vec<Record>,
    /// Dead letters.
    pub rejects: Vec<Reject>,
    /// Where the source stands once this batch is stored; absent when the source keeps its own place
    /// (MQTT acknowledgements).
    pub cursor: Option<SourceCursor>,
}

impl Batch {
    /// Returns the number of items, valid or not.
    pub fn len(&self) -> usize {
        self.records.len() + self.rejects.len()
    }

    /// Tells whether there is no item. Such a batch may still move the cursor.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What became of a batch's items: `stored + duplicate + rejected` is the batch's length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Appended {
    /// Records that were new.
    pub stored: u64,
    /// Records and dead letters that were there already.
    pub duplicate: u64,
    /// Dead letters that were new.
    pub rejected: u64,
}

/// Writes what the pipeline received.
#[async_trait]
pub trait Writer: Send + Sync + 'static {
    /// Stores a batch; see the laws in the crate's documentation.
    ///
    /// A fleet event that carries a position is one item: it is new when its event row is new.
    ///
    /// # Errors
    /// `Unavailable`: try the same batch again. Other kinds: see [`crate::ErrorKind`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the batch was stored; writing it again is right.
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError>;

    /// Returns the first message of `source` not yet stored, or `None` when nothing of it ever was.
    ///
    /// # Errors
    /// Any [`crate::ErrorKind`] but `Conflict` and `Invalid`.
    async fn cursor(&self, source: &str) -> Result<Option<u64>, StoreError>;

    /// Makes everything stored so far survive a power loss and returns the cursor of `source` as it then
    /// stands on disk. Only below this may the log be deleted.
    ///
    /// # Errors
    /// As [`Writer::cursor`].
    async fn sync(&self, source: &str) -> Result<Option<u64>, StoreError>;
}
