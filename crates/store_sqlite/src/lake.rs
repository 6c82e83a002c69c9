//! The offload's side: proven sequences, windows, purge and leases.

use std::sync::PoisonError;

use async_trait::async_trait;
use model::Position;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use store::{
    LakeSource, LakeTable, SharedVisitor, StoreError, Stored, StoredFleetEvent, StoredPosition,
    StoredReject, Window, WindowState, WriterProgress,
};

use crate::append::{State, segment_of};
use crate::error::{Failure, Outcome};
use crate::{SqliteStore, rows, scan, sql};

#[async_trait]
impl LakeSource for SqliteStore {
    async fn writers(&self, table: LakeTable) -> Result<Vec<WriterProgress>, StoreError> {
        let state = self
            .inner
            .readers
            .with(State::load)
            .map_err(|failure| failure.during("writers"))?;
        Ok(vec![WriterProgress {
            committed: committed(&state, table),
            writer_id: state.writer_id,
        }])
    }

    async fn scan_positions(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<StoredPosition>, StoreError> {
        self.on_positions(writer_id, [after, to, limit as u64], |on, bounds| {
            let mut found = Vec::new();
            scan::positions(on, bounds, |row| found.push(row.clone()))?;
            Ok(found)
        })
        .await
    }

    async fn visit_positions(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
        visitor: SharedVisitor<Position>,
    ) -> Result<(), StoreError> {
        self.on_positions(writer_id, [after, to, limit as u64], move |on, bounds| {
            let mut visitor = visitor.lock().unwrap_or_else(PoisonError::into_inner);
            scan::positions(on, bounds, |row| visitor.visit(row))
        })
        .await
    }

    async fn scan_fleet_events(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<StoredFleetEvent>, StoreError> {
        let read = |row: &Row<'_>| {
            Ok(Stored {
                writer_seq: rows::seq(row, rows::OTHER_SEQ)?,
                row: rows::fleet_event(row)?,
            })
        };
        self.scan(writer_id, sql::SCAN_FLEET_EVENTS, after, to, limit, read)
            .await
    }

    async fn scan_rejected(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<StoredReject>, StoreError> {
        let read = |row: &Row<'_>| {
            Ok(Stored {
                writer_seq: rows::seq(row, rows::OTHER_SEQ)?,
                row: rows::reject(row)?,
            })
        };
        self.scan(writer_id, sql::SCAN_REJECTED, after, to, limit, read)
            .await
    }

    async fn last_window(
        &self,
        table: LakeTable,
        writer_id: &str,
    ) -> Result<Option<Window>, StoreError> {
        self.inner
            .readers
            .with(|on| last_window(on, table, writer_id))
            .map_err(|failure| failure.during("last_window"))
    }

    async fn plan_window(&self, window: &Window) -> Result<(), StoreError> {
        let window = window.clone();
        self.write("plan_window", move |on| plan(on, &window)).await
    }

    async fn advance_window(
        &self,
        window: &Window,
        state: WindowState,
        rows: u64,
    ) -> Result<(), StoreError> {
        let window = window.clone();
        self.write("advance_window", move |on| {
            advance(on, &window, state, rows)
        })
        .await
    }

    async fn purge(&self, window: &Window, limit: usize) -> Result<u64, StoreError> {
        let window = window.clone();
        self.write("purge", move |on| purge(on, &window, limit))
            .await
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        now_us: i64,
        ttl_us: i64,
    ) -> Result<bool, StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        let until_us = now_us.saturating_add(ttl_us);
        self.write("acquire_lease", move |on| {
            let mut take = on.prepare_cached(sql::TAKE_LEASE)?;
            Ok(take.execute(params![name, holder, until_us, now_us])? > 0)
        })
        .await
    }

    async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write("release_lease", move |on| {
            on.prepare_cached(sql::RELEASE_LEASE)?
                .execute([name, holder])?;
            Ok(())
        })
        .await
    }
}

impl SqliteStore {
    /// Runs a transaction on the writer thread.
    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&Transaction<'_>) -> Outcome<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.inner
            .writer
            .run(operation, move |side| {
                let on = side
                    .connection
                    .transaction_with_behavior(TransactionBehavior::Immediate)?;
                let outcome = job(&on)?;
                on.commit()?;
                Ok(outcome)
            })
            .await
    }

    /// Reads positions of this writer; nothing is read of another.
    async fn on_positions<T: Default + Send + 'static>(
        &self,
        writer_id: &str,
        bounds: [u64; 3],
        read: impl FnOnce(&Connection, [i64; 3]) -> Outcome<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        if writer_id != self.inner.writer_id {
            return Ok(T::default());
        }
        self.inner
            .readers
            .on_a_blocking_thread("scan", move |on| {
                // In one transaction, so that the ids are those of the rows.
                let on = on.unchecked_transaction()?;
                read(&on, bounds.map(clamped))
            })
            .await
    }

    async fn scan<T: Send + 'static>(
        &self,
        writer_id: &str,
        sql: &'static str,
        after: u64,
        to: u64,
        limit: usize,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<Vec<T>, StoreError> {
        if writer_id != self.inner.writer_id {
            return Ok(Vec::new());
        }
        let values = [clamped(after), clamped(to), clamped(limit as u64)];
        self.inner
            .readers
            .on_a_blocking_thread("scan", move |on| {
                let mut statement = on.prepare_cached(sql)?;
                let rows = statement.query_map(values, |row| read(row))?;
                Ok(rows.collect::<Result<Vec<_>, _>>()?)
            })
            .await
    }
}

fn clamped(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn committed(state: &State, table: LakeTable) -> u64 {
    let seq = match table {
        LakeTable::DelivererLocation => state.positions_seq,
        LakeTable::FleetEvent => state.fleet_events_seq,
        LakeTable::Rejected => state.rejected_seq,
    };
    seq.cast_unsigned()
}

fn state_name(state: WindowState) -> &'static str {
    match state {
        WindowState::Planned => "planned",
        WindowState::Committed => "committed",
        WindowState::Verified => "verified",
    }
}

fn read_state(name: &str) -> Outcome<WindowState> {
    [
        WindowState::Planned,
        WindowState::Committed,
        WindowState::Verified,
    ]
    .into_iter()
    .find(|state| state_name(*state) == name)
    .ok_or_else(|| Failure::data(format!("a lake window is in the unknown state {name:?}")))
}

type WindowColumns = (i64, i64, String, Option<i64>);

fn columns(row: &Row<'_>) -> rusqlite::Result<WindowColumns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn read_window(table: LakeTable, writer_id: &str, columns: &WindowColumns) -> Outcome<Window> {
    let (after, to, state, rows) = columns;
    Ok(Window {
        table,
        writer_id: writer_id.to_owned(),
        after: after.cast_unsigned(),
        to: to.cast_unsigned(),
        state: read_state(state)?,
        rows: rows.map(i64::cast_unsigned),
    })
}

fn last_window(on: &Connection, table: LakeTable, writer_id: &str) -> Outcome<Option<Window>> {
    let found = on
        .prepare_cached(sql::LAST_WINDOW)?
        .query_row([table.as_str(), writer_id], columns)
        .optional()?;
    found
        .map(|columns| read_window(table, writer_id, &columns))
        .transpose()
}

fn plan(on: &Transaction<'_>, window: &Window) -> Outcome<()> {
    let newest = last_window(on, window.table, &window.writer_id)?;
    if let Some(newest) = &newest
        && newest.state == WindowState::Planned
    {
        return Err(Failure::conflict(format!(
            "the window {}..={} is still planned; finish it first",
            newest.after, newest.to
        )));
    }
    let end = newest.map_or(0, |newest| newest.to);
    if window.after != end || window.to <= window.after {
        return Err(Failure::conflict(format!(
            "the window {}..={} does not begin at {end}, where the newest one ends, or is empty",
            window.after, window.to
        )));
    }
    let state = State::load(on)?;
    if window.writer_id != state.writer_id || window.to > committed(&state, window.table) {
        return Err(Failure::conflict(format!(
            "the window ends at {} of writer {}, beyond what is committed",
            window.to, window.writer_id
        )));
    }
    on.prepare_cached(sql::PLAN_WINDOW)?.execute(params![
        window.table.as_str(),
        window.writer_id,
        window.after.cast_signed(),
        window.to.cast_signed(),
    ])?;
    Ok(())
}

fn advance(on: &Transaction<'_>, window: &Window, to: WindowState, rows: u64) -> Outcome<()> {
    let newest = last_window(on, window.table, &window.writer_id)?;
    let newest = newest.filter(|newest| (newest.after, newest.to) == (window.after, window.to));
    let follows = match newest.map(|newest| newest.state) {
        Some(WindowState::Planned) => to == WindowState::Committed,
        Some(WindowState::Committed) => to == WindowState::Verified,
        Some(WindowState::Verified) | None => false,
    };
    if !follows {
        return Err(Failure::conflict(format!(
            "the window {}..={} is not the newest or not in the state before {}",
            window.after,
            window.to,
            state_name(to)
        )));
    }
    on.prepare_cached(sql::ADVANCE_WINDOW)?.execute(params![
        window.table.as_str(),
        window.writer_id,
        window.after.cast_signed(),
        state_name(to),
        rows.cast_signed(),
    ])?;
    Ok(())
}

fn purge(on: &Transaction<'_>, window: &Window, limit: usize) -> Outcome<u64> {
    let key = params![
        window.table.as_str(),
        window.writer_id,
        window.after.cast_signed()
    ];
    let found = on
        .prepare_cached(sql::GET_WINDOW)?
        .query_row(key, columns)
        .optional()?;
    let held = found
        .map(|columns| read_window(window.table, &window.writer_id, &columns))
        .transpose()?
        .filter(|held| held.to == window.to && held.state == WindowState::Verified);
    if held.is_none() {
        return Err(Failure::conflict(format!(
            "the window {}..={} is not verified, so its rows stay",
            window.after, window.to
        )));
    }
    let sql = match window.table {
        LakeTable::DelivererLocation => sql::PURGE_POSITIONS,
        LakeTable::FleetEvent => sql::PURGE_FLEET_EVENTS,
        LakeTable::Rejected => sql::PURGE_REJECTED,
    };
    let bounds = [window.after, window.to, limit as u64].map(clamped);
    let purged = on.prepare_cached(sql)?.execute(bounds)? as u64;
    let mut state = State::load(on)?;
    let rows = match window.table {
        LakeTable::DelivererLocation => &mut state.positions,
        LakeTable::FleetEvent => &mut state.fleet_events,
        LakeTable::Rejected => &mut state.rejected,
    };
    *rows -= purged.cast_signed();
    state.save(on)?;
    if window.table == LakeTable::DelivererLocation {
        on.prepare_cached(sql::DROP_SEGMENTS)?
            .execute([segment_of(state.positions_seq)])?;
    }
    Ok(purged)
}
