//! A store in memory, by the contract of `LakeSource`, that can die at any call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use model::{FleetEvent, Position, Reject};
use store::{
    ErrorKind, LakeSource, LakeTable, StoreError, Stored, Window, WindowState, WriterProgress,
};

use crate::storage::Faults;

type Rows<T> = BTreeMap<String, Vec<Stored<T>>>;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) positions: Rows<Position>,
    pub(crate) events: Rows<FleetEvent>,
    pub(crate) rejects: Rows<Reject>,
    pub(crate) windows: BTreeMap<(&'static str, String), Vec<Window>>,
    /// Rows that were purged; they stay above, so that all that was ever stored is known.
    pub(crate) purged: BTreeSet<(&'static str, String, u64)>,
    lease: Option<(String, i64)>,
}

/// A store that breaks its contract: negative controls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Lie {
    /// It does not.
    #[default]
    None,
    /// A window is verified as soon as it is planned.
    VerifiedWhenPlanned,
    /// Rows are gone as soon as their window is planned.
    PurgedWhenPlanned,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct MemorySource {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) faults: Faults,
    pub(crate) lie: Lie,
    /// Whoever asks for the lease gets it: what a lease that ran out unnoticed comes to.
    pub(crate) leases_for_all: bool,
}

fn error(operation: &'static str, kind: ErrorKind) -> StoreError {
    StoreError {
        operation,
        store: "memory",
        kind,
        source: "by the test".into(),
    }
}

pub(crate) fn add<T>(rows: &mut Rows<T>, writer_id: &str, row: T) {
    let rows = rows.entry(writer_id.to_owned()).or_default();
    let writer_seq = rows.last().map_or(0, |last| last.writer_seq) + 1;
    rows.push(Stored { writer_seq, row });
}

fn scan<T: Clone>(
    rows: &Rows<T>,
    purged: &BTreeSet<(&'static str, String, u64)>,
    table: LakeTable,
    writer_id: &str,
    after: u64,
    to: u64,
    limit: usize,
) -> Vec<Stored<T>> {
    let rows = rows.get(writer_id).into_iter().flatten();
    let is_there = |seq| !purged.contains(&(table.as_str(), writer_id.to_owned(), seq));
    rows.filter(|row| after < row.writer_seq && row.writer_seq <= to)
        .filter(|row| is_there(row.writer_seq))
        .take(limit)
        .cloned()
        .collect()
}

/// Returns the sequences of every row that was ever in a window.
fn seqs(state: &State, window: &Window) -> Vec<u64> {
    fn of<T>(rows: &Rows<T>, writer_id: &str) -> Vec<u64> {
        let rows = rows.get(writer_id).into_iter().flatten();
        rows.map(|row| row.writer_seq).collect()
    }
    let mut seqs = match window.table {
        LakeTable::DelivererLocation => of(&state.positions, &window.writer_id),
        LakeTable::FleetEvent => of(&state.events, &window.writer_id),
        LakeTable::Rejected => of(&state.rejects, &window.writer_id),
    };
    seqs.retain(|seq| window.after < *seq && *seq <= window.to);
    seqs
}

fn progress<T>(rows: &Rows<T>) -> Vec<WriterProgress> {
    rows.iter()
        .map(|(writer_id, rows)| WriterProgress {
            writer_id: writer_id.clone(),
            committed: rows.last().map_or(0, |row| row.writer_seq),
        })
        .collect()
}

impl MemorySource {
    /// Does `work` unless the process is dead or dies before it; may die after it.
    fn call<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.state.lock().unwrap();
        let died = |()| error(operation, ErrorKind::Unavailable);
        let lost = self.faults.before(operation).map_err(died)?;
        let outcome = work(&mut state);
        if lost { Err(died(())) } else { outcome }
    }
}

#[async_trait::async_trait]
impl LakeSource for MemorySource {
    async fn writers(&self, table: LakeTable) -> Result<Vec<WriterProgress>, StoreError> {
        self.call("writers", |state| {
            Ok(match table {
                LakeTable::DelivererLocation => progress(&state.positions),
                LakeTable::FleetEvent => progress(&state.events),
                LakeTable::Rejected => progress(&state.rejects),
            })
        })
    }

    async fn scan_positions(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<Stored<Position>>, StoreError> {
        self.call("scan_positions", |state| {
            Ok(scan(
                &state.positions,
                &state.purged,
                LakeTable::DelivererLocation,
                writer_id,
                after,
                to,
                limit,
            ))
        })
    }

    async fn scan_fleet_events(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<Stored<FleetEvent>>, StoreError> {
        self.call("scan_fleet_events", |state| {
            Ok(scan(
                &state.events,
                &state.purged,
                LakeTable::FleetEvent,
                writer_id,
                after,
                to,
                limit,
            ))
        })
    }

    async fn scan_rejected(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<Stored<Reject>>, StoreError> {
        self.call("scan_rejected", |state| {
            Ok(scan(
                &state.rejects,
                &state.purged,
                LakeTable::Rejected,
                writer_id,
                after,
                to,
                limit,
            ))
        })
    }

    async fn last_window(
        &self,
        table: LakeTable,
        writer_id: &str,
    ) -> Result<Option<Window>, StoreError> {
        self.call("last_window", |state| {
            let windows = state.windows.get(&(table.as_str(), writer_id.to_owned()));
            Ok(windows.and_then(|windows| windows.last().cloned()))
        })
    }

    async fn plan_window(&self, window: &Window) -> Result<(), StoreError> {
        self.call("plan_window", |state| {
            let key = (window.table.as_str(), window.writer_id.clone());
            if self.lie == Lie::PurgedWhenPlanned {
                for seq in seqs(state, window) {
                    state.purged.insert((key.0, key.1.clone(), seq));
                }
            }
            let windows = state.windows.entry(key).or_default();
            let last = windows.last();
            let fits = last.map_or(window.after == 0, |last| {
                last.state != WindowState::Planned && last.to == window.after
            });
            if !fits {
                return Err(error("plan_window", ErrorKind::Conflict));
            }
            windows.push(window.clone());
            if self.lie == Lie::VerifiedWhenPlanned
                && let Some(planned) = windows.last_mut()
            {
                planned.state = WindowState::Verified;
            }
            Ok(())
        })
    }

    async fn advance_window(
        &self,
        window: &Window,
        to: WindowState,
        rows: u64,
    ) -> Result<(), StoreError> {
        self.call("advance_window", |state| {
            let key = (window.table.as_str(), window.writer_id.clone());
            let last = state.windows.get_mut(&key).and_then(|all| all.last_mut());
            let before = match to {
                WindowState::Planned => None,
                WindowState::Committed => Some(WindowState::Planned),
                WindowState::Verified => Some(WindowState::Committed),
            };
            match last {
                Some(last) if self.lie == Lie::VerifiedWhenPlanned && last.to == window.to => {
                    last.rows = Some(rows);
                    Ok(())
                }
                Some(last) if last.to == window.to && Some(last.state) == before => {
                    last.state = to;
                    last.rows = Some(rows);
                    Ok(())
                }
                _ => Err(error("advance_window", ErrorKind::Conflict)),
            }
        })
    }

    async fn purge(&self, window: &Window, limit: usize) -> Result<u64, StoreError> {
        self.call("purge", |state| {
            let (table, writer) = (window.table.as_str(), &window.writer_id);
            let windows = state.windows.get(&(table, writer.clone()));
            let held = windows
                .into_iter()
                .flatten()
                .find(|held| (held.after, held.to) == (window.after, window.to));
            if held.is_none_or(|held| held.state != WindowState::Verified) {
                return Err(error("purge", ErrorKind::Conflict));
            }
            let seqs = seqs(state, window);
            let mut gone = 0;
            for seq in seqs {
                if gone < limit as u64 && state.purged.insert((table, writer.clone(), seq)) {
                    gone += 1;
                }
            }
            Ok(gone)
        })
    }

    async fn acquire_lease(
        &self,
        _name: &str,
        holder: &str,
        now_us: i64,
        ttl_us: i64,
    ) -> Result<bool, StoreError> {
        self.call("acquire_lease", |state| {
            if self.leases_for_all {
                return Ok(true);
            }
            let free = match &state.lease {
                Some((other, until)) => other == holder || *until <= now_us,
                None => true,
            };
            if free {
                state.lease = Some((holder.to_owned(), now_us + ttl_us));
            }
            Ok(free)
        })
    }

    async fn release_lease(&self, _name: &str, holder: &str) -> Result<(), StoreError> {
        self.call("release_lease", |state| {
            if state
                .lease
                .as_ref()
                .is_some_and(|(held_by, _)| held_by == holder)
            {
                state.lease = None;
            }
            Ok(())
        })
    }
}
