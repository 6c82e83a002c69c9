//! The offload: carries every window of every writer from the store into raw, each row exactly once.
//!
//! Invariant: a window goes `Planned` → `Committed` → `Verified`, and each step may be done again with the same
//! result. Files are named and made by their rows alone, the Delta commit is skipped when its transaction is
//! recorded, and the windows' states move by compare-and-set in the store. So a crash, or an answer that got
//! lost, at any step is repaired by the next run.
//!
//! One runner works at a time, by a lease in the store. Should a lease run out under a runner that still
//! lives, the two do the same work twice and the lake is right all the same.
//!
//! Memory: at most one chunk of rows ([`OffloadConfig::chunk_bytes`], and a sorted column of it for each processor while it
//! becomes files) and sixteen pages of columns, of which twelve are read ahead. Windows of a million positions were measured at 293 MiB
//! for one, 744 MiB for ten and 959 MiB for thirty, most of which glibc keeps of what threads freed: with two of its arenas ten take 390 MiB
//! and thirty 466 (docs/benchmarks.md). Up to 1 GiB of mapped pages of an SQLite store come on top, which the system takes back when it needs them.
//!
//! Not done here: rewriting a file that is live; nothing does.

mod pages;
mod purge;
pub mod reconcile;
mod verify;
mod window;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use model::{FleetEvent, Position, Reject};
use serde::Serialize;
use service::Clock;
use store::{LakeSource, LakeTable, WriterProgress};

use crate::error::LakeError;
use crate::lease::Lease;
use crate::root::Root;
use crate::storage::Storage;

/// How the offload works.
#[derive(Debug, Clone)]
pub struct OffloadConfig {
    /// Most rows of a window, 1 or more. Default 1,000,000.
    pub window_rows: u64,
    /// A chunk is turned into files when its columns take this many bytes. Default 192 MiB: a full window of
    /// positions is one chunk.
    pub chunk_bytes: usize,
    /// Who works, in the lease; different in each process.
    pub holder: String,
    /// How long the lease holds without renewal, in microseconds; it is renewed four times as often. After a crash
    /// the next runner waits that long; too small lets a busy machine lose it. Default 1 minute.
    pub lease_us: i64,
    /// How long rows have been in the lake when they are deleted from the store, in microseconds; `None`, the
    /// default, keeps them.
    pub purge_after_us: Option<i64>,
}

impl OffloadConfig {
    /// Returns the defaults, for a holder.
    pub fn new(holder: impl Into<String>) -> Self {
        Self {
            window_rows: 1_000_000,
            chunk_bytes: 192 << 20,
            holder: holder.into(),
            lease_us: 60_000_000,
            purge_after_us: None,
        }
    }
}

/// What the offload has just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It begins with a table.
    Begun,
    /// Rows were read and written to files.
    Written,
    /// A window is committed.
    Committed,
    /// A window is verified.
    Verified,
    /// Rows of a verified window were deleted from the store.
    Purged,
}

/// How far the offload has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The table at work.
    pub table: LakeTable,
    /// What was done.
    pub step: Step,
    /// Sequences done, over all tables.
    pub done: u64,
    /// Sequences to do, over all tables.
    pub total: u64,
}

/// Is told of progress; `Break` asks to end after the window at work.
pub type OnProgress<'a> = &'a mut (dyn FnMut(&Progress) -> ControlFlow<()> + Send);

/// What a run did to one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableSummary {
    /// The table's name.
    pub table: String,
    /// Windows verified.
    pub windows: u64,
    /// Their rows.
    pub rows: u64,
    /// Their files.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Rows the store had committed and the lake had not when the run ended.
    pub lag_rows: u64,
    /// Rows deleted from the store, which the lake has had for long enough.
    pub purged_rows: u64,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// By table, in the order offloaded.
    pub tables: Vec<TableSummary>,
    /// How long it took.
    pub seconds: f64,
    /// Whether everything the store had committed at the start is in the lake now.
    pub complete: bool,
}

impl Summary {
    /// Returns the rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Returns the rows deleted from the store, of all tables.
    pub fn purged_rows(&self) -> u64 {
        self.tables.iter().map(|table| table.purged_rows).sum()
    }

    /// Returns the bytes of all tables.
    pub fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes).sum()
    }
}

/// Takes windows from a store to a lake.
pub struct Offload {
    source: Arc<dyn LakeSource>,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    config: OffloadConfig,
    lease: Lease,
}

impl fmt::Debug for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offload")
            .field("storage", &self.storage)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Offload {
    /// Makes an offload from `source` to `root`.
    pub fn new(
        source: Arc<dyn LakeSource>,
        root: &Root,
        config: OffloadConfig,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::with_storage(source, root.open(), config, clock)
    }

    /// Makes an offload to any storage.
    pub fn with_storage(
        source: Arc<dyn LakeSource>,
        storage: Arc<dyn Storage>,
        config: OffloadConfig,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let lease = Lease::new(
            source.clone(),
            clock.clone(),
            config.holder.clone(),
            config.lease_us,
        );
        Self {
            source,
            storage,
            clock,
            config,
            lease,
        }
    }

    /// Offloads everything the store has committed by now.
    ///
    /// # Errors
    /// [`LakeError::LeaseHeld`] while another runner works. Any other error leaves a state from which the next
    /// run goes on.
    ///
    /// # Cancel safety
    /// Dropping the future is like a crash: the next run goes on, once the lease has run out.
    pub async fn run_once(&self, on_progress: OnProgress<'_>) -> Result<Summary, LakeError> {
        self.lease.acquire().await?;
        let outcome = self.lease.keep(self.run_leased(on_progress)).await;
        self.lease.release().await;
        outcome
    }

    /// Returns the lease this offload works under.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    async fn run_leased(&self, on_progress: OnProgress<'_>) -> Result<Summary, LakeError> {
        let begun = std::time::Instant::now();
        self.storage.sweep().await?;
        let mut progress = window::Tracker::new(on_progress);
        let mut targets = Vec::new();
        for table in LakeTable::ALL {
            for writer in self.source.writers(table).await? {
                let last = self.source.last_window(table, &writer.writer_id).await?;
                progress.expect(writer.committed, last.as_ref());
                targets.push((table, writer));
            }
        }
        let mut summary = Summary::default();
        for table in LakeTable::ALL {
            let writers = writers_of(&targets, table);
            let tell = &mut progress;
            summary.tables.push(match table {
                LakeTable::DelivererLocation => {
                    self.offload_table::<Position>(&writers, tell).await?
                }
                LakeTable::FleetEvent => self.offload_table::<FleetEvent>(&writers, tell).await?,
                LakeTable::Rejected => self.offload_table::<Reject>(&writers, tell).await?,
            });
        }
        // Only now: what is wrong with the old rows of one table must not keep the new ones of another back.
        if let Some(after_us) = self.config.purge_after_us {
            let until_ms = self.clock.now().as_micros().saturating_sub(after_us) / 1_000;
            self.purge(&targets, until_ms, &mut progress, &mut summary)
                .await?;
        }
        summary.complete = summary.tables.iter().all(|table| table.lag_rows == 0);
        summary.seconds = begun.elapsed().as_secs_f64();
        Ok(summary)
    }
}

type Target = (LakeTable, WriterProgress);

fn writers_of(targets: &[Target], table: LakeTable) -> Vec<&WriterProgress> {
    let of_table = targets.iter().filter(|(of, _)| *of == table);
    of_table.map(|(_, writer)| writer).collect()
}
