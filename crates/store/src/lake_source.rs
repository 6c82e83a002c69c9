//! The offload's side of a store: rows by proven window, the windows themselves, and a lease.
//!
//! A window of a table is a range of one writer's sequences, `after < writer_seq <= to`. Windows of one
//! writer are planned one at a time and never overlap, so each row falls into exactly one. A window's
//! bounds say nothing of how many rows it holds: sequences may have gaps.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use model::{FleetEvent, Position, Reject};
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// A table the lake takes from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LakeTable {
    /// Every stored position.
    DelivererLocation,
    /// Every fleet event.
    FleetEvent,
    /// Every dead letter.
    Rejected,
}

impl LakeTable {
    /// Every table, in the order offloaded.
    pub const ALL: [Self; 3] = [Self::DelivererLocation, Self::FleetEvent, Self::Rejected];

    /// Returns the table's name in the lake.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DelivererLocation => "deliverer_location",
            Self::FleetEvent => "fleet_event",
            Self::Rejected => "rejected",
        }
    }
}

/// How far a writer has come in a table: every row up to `committed` is visible, and no row will ever
/// appear at or below it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterProgress {
    /// Identifies the writer, for good.
    pub writer_id: String,
    /// Its committed sequence, at or above that of its last proven row; 0 before the first.
    pub committed: u64,
}

/// A row with the writer's sequence that places it in a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<T> {
    /// The writer's sequence, from 1, ascending in the order stored, unique to the row. A store may
    /// leave numbers out.
    pub writer_seq: u64,
    /// The row.
    pub row: T,
}

/// A stored position.
pub type StoredPosition = Stored<Position>;
/// A stored fleet event.
pub type StoredFleetEvent = Stored<FleetEvent>;
/// A stored dead letter.
pub type StoredReject = Stored<Reject>;

/// Takes rows one after another, and has each only as long as it looks at it.
pub trait Visitor<T>: Send {
    /// Takes a row.
    fn visit(&mut self, row: &Stored<T>);
}

/// A visitor that a store may take along to another thread. It is locked once for all rows of a call.
pub type SharedVisitor<T> = Arc<Mutex<dyn Visitor<T>>>;

/// Shows rows to a visitor, in their order.
pub fn show<T>(rows: &[Stored<T>], visitor: &SharedVisitor<T>) {
    let mut visitor = visitor.lock().unwrap_or_else(PoisonError::into_inner);
    for row in rows {
        visitor.visit(row);
    }
}

/// How far the offload of a window has come; each state follows the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowState {
    /// Its bounds are recorded; files may or may not exist.
    Planned,
    /// Its rows are committed to the lake.
    Committed,
    /// The commit was read back and agreed in number; its rows may be purged.
    Verified,
}

/// A window and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The table.
    pub table: LakeTable,
    /// The writer.
    pub writer_id: String,
    /// Sequence before the first.
    pub after: u64,
    /// Last sequence.
    pub to: u64,
    /// How far it has come.
    pub state: WindowState,
    /// Rows in it; known from `Committed` on.
    pub rows: Option<u64>,
}

/// Hands rows to the lake.
#[async_trait]
pub trait LakeSource: Send + Sync + 'static {
    /// Returns every writer that ever stored into `table`, with its committed sequence.
    ///
    /// # Errors
    /// Any [`crate::ErrorKind`] but `Invalid`; so for every method here.
    async fn writers(&self, table: LakeTable) -> Result<Vec<WriterProgress>, StoreError>;

    /// Returns positions of a window, by ascending sequence, at most `limit`, from the first after `after`.
    ///
    /// # Errors
    /// As [`LakeSource::writers`].
    async fn scan_positions(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<StoredPosition>, StoreError>;

    /// Shows what [`LakeSource::scan_positions`] returns to a visitor, row by row. A store that has no need to make a list
    /// of them makes none.
    ///
    /// # Errors
    /// As [`LakeSource::writers`]; some rows may have been shown by then.
    async fn visit_positions(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
        visitor: SharedVisitor<Position>,
    ) -> Result<(), StoreError> {
        let rows = self.scan_positions(writer_id, after, to, limit).await?;
        show(&rows, &visitor);
        Ok(())
    }

    /// Returns fleet events of a window; see [`LakeSource::scan_positions`].
    ///
    /// # Errors
    /// As [`LakeSource::writers`].
    async fn scan_fleet_events(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<StoredFleetEvent>, StoreError>;

    /// Returns dead letters of a window; see [`LakeSource::scan_positions`].
    ///
    /// # Errors
    /// As [`LakeSource::writers`].
    async fn scan_rejected(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<StoredReject>, StoreError>;

    /// Returns the newest window of a writer in a table.
    ///
    /// # Errors
    /// As [`LakeSource::writers`].
    async fn last_window(
        &self,
        table: LakeTable,
        writer_id: &str,
    ) -> Result<Option<Window>, StoreError>;

    /// Records a new `Planned` window that begins where the newest one ended (at 0 for the first).
    ///
    /// # Errors
    /// `Conflict` when the newest window is still `Planned` or does not end at `window.after`.
    async fn plan_window(&self, window: &Window) -> Result<(), StoreError>;

    /// Moves the newest window of a writer to `state`, with its number of rows.
    ///
    /// # Errors
    /// `Conflict` when it is not the newest window or is not in the state before.
    async fn advance_window(
        &self,
        window: &Window,
        state: WindowState,
        rows: u64,
    ) -> Result<(), StoreError>;

    /// Deletes the rows of a `Verified` window from the table, at most `limit` of them, and returns how many
    /// went; 0 means none are left. The identities of purged rows are forgotten with them; the last
    /// positions stay.
    ///
    /// # Errors
    /// `Conflict` when the window is not `Verified`.
    async fn purge(&self, window: &Window, limit: usize) -> Result<u64, StoreError>;

    /// Takes or renews the lease `name` for `holder` until `now_us + ttl_us`; `false` while another holds it.
    ///
    /// # Errors
    /// As [`LakeSource::writers`].
    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        now_us: i64,
        ttl_us: i64,
    ) -> Result<bool, StoreError>;

    /// Gives the lease up; nothing happens when `holder` does not hold it.
    ///
    /// # Errors
    /// As [`LakeSource::writers`].
    async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StoreError>;
}
