//! Deleting what the lake has: bounded sets of ids, so that no reader ever waits for a purge.
//!
//! The rows are those of a verified window, found by writer and sequence. They are proven, so nobody takes
//! them over or changes them: what was read a moment ago is what its `_id` deletes. Only where another purge, or the
//! expiry, took a row first and its message was stored anew in that moment is another row deleted; the lake has that
//! position already. The filter names nothing but `_id`s, because some servers read all rows when it does.
//!
//! A list of rows goes with the last of them, once the purge has come to its end. So windows are purged in their
//! order; a list that reaches back into a window that was not purged stays as long as its rows.

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use store::Window;

use crate::database::{POSITION_LISTS, Store, answer, rows_of};
use crate::error::Outcome;
use crate::lists::{self, List, Lists};
use crate::page;
use crate::rows::Held;
use crate::window;

/// Rows deleted by one command: some ten milliseconds of a server's time.
const CHUNK: usize = 1_000;

/// Deletes at most `limit` rows of a window and returns how many went.
pub(crate) async fn purge(store: &Store, of: &Window, limit: usize) -> Outcome<u64> {
    window::must_be_verified(store, of).await?;
    if lists::lead_to(of.table) {
        by_lists(store, of, limit.max(1)).await
    } else {
        by_index(store, of, limit.max(1)).await
    }
}

fn who() -> Document {
    doc! { "_id": 1, "w": 1, "s": 1 }
}

async fn delete(store: &Store, of: &Window, ids: &[&str]) -> Outcome<u64> {
    let rows = store.documents(rows_of(of.table));
    let these = doc! { "_id": { "$in": ids } };
    let gone = answer(rows.delete_many(these)).await?.deleted_count;
    tracing::trace!(found = ids.len(), gone, "purged a chunk");
    Ok(gone)
}

async fn by_lists(store: &Store, of: &Window, limit: usize) -> Outcome<u64> {
    let mut lists = Lists::new(store, &of.writer_id, of.after, of.to);
    let mut left = limit;
    while left > 0
        && let Some(some) = lists.more().await?
    {
        for group in lists::groups(&some) {
            left -= of_group(store, of, group, left).await?;
            if left == 0 {
                break;
            }
        }
    }
    Ok((limit - left) as u64)
}

/// Deletes rows that lists lead to, and those of the lists that lead nowhere then; returns how many rows went.
async fn of_group(store: &Store, of: &Window, group: &[List], limit: usize) -> Outcome<usize> {
    let named: Vec<&str> = group
        .iter()
        .flat_map(List::rows)
        .map(|(_, id)| id)
        .collect();
    let mut rows = lists::rows_of::<Held>(store, &named, Some(who())).await?;
    rows.retain(|row| row.w == of.writer_id);
    let window = of.after.saturating_add(1)..=of.to;
    let (inside, mut stay): (Vec<Held>, Vec<Held>) = rows
        .into_iter()
        .partition(|row| window.contains(&row.s.cast_unsigned()));
    let mut ids: Vec<&str> = inside.iter().map(|row| row.id.as_str()).collect();
    ids.truncate(limit);
    let gone = if ids.is_empty() {
        0
    } else {
        delete(store, of, &ids).await?
    };
    let beyond_limit = ids.len();
    stay.extend(inside.into_iter().skip(beyond_limit));
    let is_done = |list: &&List| {
        let listed = list.first..=list.last;
        let mut stay = stay.iter().map(|row| row.s.cast_unsigned());
        list.last <= of.to && !stay.any(|seq| listed.contains(&seq))
    };
    let done: Vec<&str> = group
        .iter()
        .filter(is_done)
        .map(|list| list.id.as_str())
        .collect();
    if !done.is_empty() {
        let lists = store.documents(POSITION_LISTS);
        answer(lists.delete_many(doc! { "_id": { "$in": done } })).await?;
    }
    Ok(usize::try_from(gone).unwrap_or(limit).min(limit))
}

async fn by_index(store: &Store, of: &Window, limit: usize) -> Outcome<u64> {
    let rows = store.newest::<Held>(rows_of(of.table));
    let (mut deleted, mut left) = (0, limit);
    loop {
        let part = left.min(CHUNK);
        let range = doc! { "$gt": of.after.cast_signed(), "$lte": of.to.cast_signed() };
        let found = rows
            .find(doc! { "w": &of.writer_id, "s": range })
            .sort(doc! { "w": 1, "s": 1 })
            .projection(who())
            .limit(page::rows_to_read(part) - 1);
        let found: Vec<Held> = answer(async { found.await?.try_collect().await }).await?;
        if found.is_empty() {
            return Ok(deleted);
        }
        let ids: Vec<&str> = found.iter().map(|row| row.id.as_str()).collect();
        deleted += delete(store, of, &ids).await?;
        left -= part;
        // Rows that another purge took first are not counted, and do not end this one.
        if left == 0 && deleted > 0 {
            return Ok(deleted);
        }
        if left == 0 {
            left = part;
        }
    }
}
