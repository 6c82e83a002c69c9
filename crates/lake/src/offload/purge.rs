//! Deleting from the store what the lake has had for long enough.
//!
//! Invariant: a row is deleted only when its window is `Verified` in the store, and its files were read back once more
//! in this very run, right before: a lake that has lost or damaged a file since keeps its rows in the store. The store
//! itself refuses windows that are not verified. It begins when every table of the run is offloaded.
//!
//! There is no record of what was purged: the first row the store still has tells. So a run that dies in between is
//! gone on with by the next.
//!
//! A position that a device sends once more after it was purged is new to the store, and comes to raw a second time;
//! the model of treated positions takes the first.

use std::collections::BTreeMap;

use model::{FleetEvent, Position, Reject};
use store::{ErrorKind, LakeTable, Window, WindowState, WriterProgress};

use super::window::{RawTable, Tracker, WINDOW_TAG};
use super::{Offload, Step, Summary, Target, writers_of};
use crate::delta::{Add, Snapshot};
use crate::entity::LakeRow;
use crate::error::LakeError;
use crate::hive::PartName;

/// Rows deleted in one call: a call is one transaction of the store, and the lease is renewed after each.
const CHUNK_ROWS: usize = 10_000;

/// A window the lake has.
struct Taken {
    after: u64,
    rows: u64,
    /// When the last of its files was written, in milliseconds since the epoch.
    written_ms: i64,
}

/// Returns the windows of a writer by their last sequence. Files that do not name their window are left out, and so
/// their rows stay in the store.
fn windows_of(snapshot: &Snapshot, writer_id: &str) -> BTreeMap<u64, Taken> {
    let mut windows = BTreeMap::new();
    for add in snapshot.files.values() {
        let of_writer = PartName::parse(&add.path).is_some_and(|part| part.writer_id == writer_id);
        let Some((after, to)) = of_writer.then(|| bounds(add)).flatten() else {
            continue;
        };
        let taken = windows.entry(to).or_insert(Taken {
            after,
            rows: 0,
            written_ms: i64::MIN,
        });
        taken.rows += add.rows().unwrap_or_default();
        taken.written_ms = taken.written_ms.max(add.modification_time);
    }
    windows
}

fn bounds(add: &Add) -> Option<(u64, u64)> {
    let (after, to) = add.tags.as_ref()?.get(WINDOW_TAG)?.split_once('-')?;
    Some((after.parse().ok()?, to.parse().ok()?))
}

impl Offload {
    /// Deletes the rows of windows that were written at or before `until_ms`, table by table. One whose files do not
    /// read back does not keep the others from it.
    ///
    /// # Errors
    /// The first failure, once every table had its turn.
    pub(super) async fn purge(
        &self,
        targets: &[Target],
        until_ms: i64,
        progress: &mut Tracker<'_>,
        summary: &mut Summary,
    ) -> Result<(), LakeError> {
        let mut outcome = Ok(());
        for (table, summary) in LakeTable::ALL.into_iter().zip(&mut summary.tables) {
            let writers = writers_of(targets, table);
            let purged = &mut summary.purged_rows;
            let done = match table {
                LakeTable::DelivererLocation => {
                    self.purge_table::<Position>(&writers, until_ms, progress, purged)
                        .await
                }
                LakeTable::FleetEvent => {
                    self.purge_table::<FleetEvent>(&writers, until_ms, progress, purged)
                        .await
                }
                LakeTable::Rejected => {
                    self.purge_table::<Reject>(&writers, until_ms, progress, purged)
                        .await
                }
            };
            match done {
                // A store or storage that is away is away for every table.
                Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
                done => outcome = outcome.and(done),
            }
        }
        outcome
    }

    async fn purge_table<R: LakeRow>(
        &self,
        writers: &[&WriterProgress],
        until_ms: i64,
        progress: &mut Tracker<'_>,
        purged: &mut u64,
    ) -> Result<(), LakeError> {
        if writers.is_empty() {
            return Ok(());
        }
        let mut table = self.raw_table::<R>();
        table.snapshot = table.delta.load().await?;
        for writer in writers {
            *purged += self
                .purge_writer(&table, writer, until_ms, progress)
                .await?;
        }
        Ok(())
    }

    /// Deletes a writer's rows of windows that were written at or before `until_ms`; returns how many went.
    async fn purge_writer<R: LakeRow>(
        &self,
        table: &RawTable<R>,
        writer: &WriterProgress,
        until_ms: i64,
        progress: &mut Tracker<'_>,
    ) -> Result<u64, LakeError> {
        let windows = windows_of(&table.snapshot, &writer.writer_id);
        let (mut purged, mut nothing_up_to) = (0, 0);
        while !progress.is_stopped() {
            self.lease.renew().await?;
            let source = self.source.as_ref();
            let (id, committed) = (&writer.writer_id, writer.committed);
            let first = R::scan(source, id, nothing_up_to, committed, 1).await?;
            let Some(first) = first.first().map(|row| row.writer_seq) else {
                break;
            };
            let next = windows.range(first..).next();
            let Some((&to, taken)) = next.filter(|(_, taken)| taken.after < first) else {
                break;
            };
            // Windows are taken one after the other: those that follow are younger.
            if taken.written_ms > until_ms {
                break;
            }
            let window = Window {
                table: table.entity.table,
                writer_id: id.clone(),
                after: taken.after,
                to,
                state: WindowState::Verified,
                rows: Some(taken.rows),
            };
            self.read_back(table, &window).await?;
            let gone = self.purge_window(&window, progress).await?;
            tracing::info!(
                table = window.table.as_str(),
                writer_id = window.writer_id,
                after = window.after,
                to = window.to,
                rows = gone,
                "window purged from the store"
            );
            purged += gone;
            nothing_up_to = to;
        }
        Ok(purged)
    }

    async fn purge_window(
        &self,
        window: &Window,
        progress: &mut Tracker<'_>,
    ) -> Result<u64, LakeError> {
        let mut purged = 0;
        loop {
            self.lease.renew().await?;
            let gone = self.source.purge(window, CHUNK_ROWS).await?;
            purged += gone;
            progress.tell(window.table, Step::Purged, 0);
            if gone == 0 || progress.is_stopped() {
                return Ok(purged);
            }
        }
    }
}
