//! Deleting what the lake has: bounded sets of ids, so that no reader ever waits for a purge.
//!
//! The rows are those of a verified window, found by writer and sequence. They are proven, so nobody takes
//! them over or changes them; deleting by `_id` deletes those rows and no others.

use futures_util::TryStreamExt;
use mongodb::bson::{RawDocumentBuf, doc};
use store::Window;

use crate::database::{Store, answer, rows_of};
use crate::error::{Failure, Outcome};
use crate::page;
use crate::window;

/// Rows deleted by one command: some ten milliseconds of a server's time.
const CHUNK: usize = 1_000;

/// Deletes at most `limit` rows of a window and returns how many went.
pub(crate) async fn purge(store: &Store, of: &Window, limit: usize) -> Outcome<u64> {
    window::must_be_verified(store, of).await?;
    let rows = store.raw(rows_of(of.table));
    let mut deleted = 0;
    let mut left = limit.max(1);
    loop {
        let part = left.min(CHUNK);
        let ids = ids(store, of, part).await?;
        if ids.is_empty() {
            return Ok(deleted);
        }
        let found = ids.len();
        let gone = answer(rows.delete_many(doc! { "_id": { "$in": ids }, "w": &of.writer_id }))
            .await?
            .deleted_count;
        deleted += gone;
        left -= part;
        // Rows that another purge took first are not counted, and do not end this one.
        if left == 0 && deleted > 0 {
            return Ok(deleted);
        }
        if left == 0 {
            left = part;
        }
        tracing::trace!(found, gone, "purged a chunk");
    }
}

async fn ids(store: &Store, of: &Window, limit: usize) -> Outcome<Vec<String>> {
    let rows = store.newest::<RawDocumentBuf>(rows_of(of.table));
    let range = doc! { "$gt": of.after.cast_signed(), "$lte": of.to.cast_signed() };
    let found = rows
        .find(doc! { "w": &of.writer_id, "s": range })
        .sort(doc! { "w": 1, "s": 1 })
        .projection(doc! { "_id": 1 })
        .limit(page::rows_to_read(limit) - 1);
    let found: Vec<RawDocumentBuf> = answer(async { found.await?.try_collect().await }).await?;
    found
        .iter()
        .map(|row| {
            let id = row
                .get_str("_id")
                .map_err(|error| Failure::data(format!("a row's _id is not ours: {error}")))?;
            Ok(id.to_owned())
        })
        .collect()
}
