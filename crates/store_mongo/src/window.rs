//! Windows of the lake: one document each, made and moved by compare and set.
//!
//! A window's `_id` holds its table, writer and beginning. Of several that plan the next window at once, all
//! want the same `_id`, so one succeeds. States only move forward, each step by an update that names the
//! state before.

use mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};
use store::{LakeTable, Window, WindowState};

use crate::database::{Store, WINDOWS, answer, within};
use crate::error::{Failure, Outcome, is_duplicate};
use crate::identity;
use crate::key::SEPARATOR;

#[derive(Debug, Serialize, Deserialize)]
struct WindowDoc {
    #[serde(rename = "_id")]
    id: String,
    table: LakeTable,
    writer_id: String,
    after: i64,
    to: i64,
    state: WindowState,
    rows: Option<i64>,
}

impl WindowDoc {
    fn new(window: &Window) -> Self {
        Self {
            id: id_of(window),
            table: window.table,
            writer_id: window.writer_id.clone(),
            after: window.after.cast_signed(),
            to: window.to.cast_signed(),
            state: WindowState::Planned,
            rows: None,
        }
    }

    fn into_window(self) -> Window {
        Window {
            table: self.table,
            writer_id: self.writer_id,
            after: self.after.cast_unsigned(),
            to: self.to.cast_unsigned(),
            state: self.state,
            rows: self.rows.map(i64::cast_unsigned),
        }
    }
}

fn id_of(window: &Window) -> String {
    let table = window.table.as_str();
    format!(
        "{table}{SEPARATOR}{}{SEPARATOR}{:020}",
        window.writer_id, window.after
    )
}

fn state_name(state: WindowState) -> &'static str {
    match state {
        WindowState::Planned => "planned",
        WindowState::Committed => "committed",
        WindowState::Verified => "verified",
    }
}

/// Returns the newest window of a writer in a table.
pub(crate) async fn last(
    store: &Store,
    table: LakeTable,
    writer_id: &str,
) -> Outcome<Option<Window>> {
    let windows = store.collection::<WindowDoc>(WINDOWS);
    let newest = windows
        .find_one(doc! { "table": table.as_str(), "writer_id": writer_id })
        .sort(doc! { "after": -1 });
    Ok(answer(newest).await?.map(WindowDoc::into_window))
}

/// Records a planned window. `again` tells that an earlier try may have done so.
pub(crate) async fn plan(store: &Store, window: &Window, again: bool) -> Outcome<()> {
    let newest = last(store, window.table, &window.writer_id).await?;
    if let Some(newest) = &newest
        && newest.state == WindowState::Planned
    {
        if again && (newest.after, newest.to) == (window.after, window.to) {
            return Ok(());
        }
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
    let writer = window.writer_id.as_str();
    let progress = identity::progress(store, &[writer]).await?;
    let committed = progress
        .get(writer)
        .map_or(0, |p| p.committed.of(window.table));
    if window.to > committed {
        return Err(Failure::conflict(format!(
            "the window ends at {} of writer {writer}, beyond the committed {committed}",
            window.to
        )));
    }
    let windows = store.collection::<WindowDoc>(WINDOWS);
    match within(windows.insert_one(WindowDoc::new(window))).await? {
        Err(error) if is_duplicate(&error) => Err(Failure::conflict(
            "another offload planned the same window; read the newest again",
        )),
        outcome => outcome.map(drop).map_err(Failure::from),
    }
}

/// Moves a window one state on. `again` tells that an earlier try may have done so.
pub(crate) async fn advance(
    store: &Store,
    window: &Window,
    state: WindowState,
    rows: u64,
    again: bool,
) -> Outcome<()> {
    let newest = last(store, window.table, &window.writer_id).await?;
    let newest = newest.filter(|newest| (newest.after, newest.to) == (window.after, window.to));
    if again
        && newest
            .as_ref()
            .is_some_and(|n| n.state == state && n.rows == Some(rows))
    {
        return Ok(());
    }
    let before = match (newest.map(|newest| newest.state), state) {
        (Some(WindowState::Planned), WindowState::Committed) => WindowState::Planned,
        (Some(WindowState::Committed), WindowState::Verified) => WindowState::Committed,
        _ => return Err(not_before(window, state)),
    };
    let filter = doc! {
        "_id": id_of(window),
        "to": window.to.cast_signed(),
        "state": state_name(before),
    };
    let change = doc! { "$set": { "state": state_name(state), "rows": rows.cast_signed() } };
    let updated = answer(store.documents(WINDOWS).update_one(filter, change)).await?;
    if updated.matched_count == 0 {
        return Err(not_before(window, state));
    }
    Ok(())
}

fn not_before(window: &Window, state: WindowState) -> Failure {
    Failure::conflict(format!(
        "the window {}..={} is not the newest or not in the state before {}",
        window.after,
        window.to,
        state_name(state)
    ))
}

/// Checks that a window was read back from the lake.
pub(crate) async fn must_be_verified(store: &Store, window: &Window) -> Outcome<()> {
    let filter: Document = doc! {
        "_id": id_of(window),
        "to": window.to.cast_signed(),
        "state": state_name(WindowState::Verified),
    };
    let held = answer(store.documents(WINDOWS).find_one(filter)).await?;
    if held.is_none() {
        return Err(Failure::conflict(format!(
            "the window {}..={} is not verified, so its rows stay",
            window.after, window.to
        )));
    }
    Ok(())
}
