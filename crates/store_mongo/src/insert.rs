//! New rows: unordered insertions in chunks, several under way at once.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use model::UtcMicros;
use mongodb::bson::RawDocumentBuf;
use mongodb::error::{Error, ErrorKind as Driver};
use store::LakeTable;

use crate::database::{Store, rows_of, within};
use crate::error::{DUPLICATE_KEY, Failure, Outcome};
use crate::lists;
use crate::rows::Place;

/// Insertions under way at once: enough that the server always has one to work on while another's reply
/// travels and a third is being encoded.
const UNDER_WAY: usize = 4;

/// Rows of one table on their way in.
pub(crate) trait Rows: Sync {
    /// The table.
    fn table(&self) -> LakeTable;

    /// Rows in one command. Together they stay far below the 48 MB of a message.
    fn chunk(&self) -> usize;

    /// Returns a row's `_id`.
    fn id(&self, index: usize) -> &str;

    /// Returns when the row was received, in a table whose rows are found by lists.
    fn received(&self, index: usize) -> Option<UtcMicros>;

    /// Writes the row's document.
    fn document(&self, index: usize, place: Place<'_>) -> Outcome<RawDocumentBuf>;
}

/// A row and the sequence it is to have.
pub(crate) type Numbered = (usize, u64);

/// Inserts rows, and the lists that lead to them, and returns those whose `_id` was there already. An error
/// leaves it open what was inserted.
pub(crate) async fn insert(
    store: &Store,
    rows: &dyn Rows,
    numbered: &[Numbered],
    writer: &str,
) -> Outcome<Vec<Numbered>> {
    // Boxed, because the compiler cannot see that a closure over these borrows is Send. Nothing is encoded
    // before a future is polled.
    let chunks: Vec<BoxFuture<'_, Outcome<Vec<Numbered>>>> = numbered
        .chunks(rows.chunk())
        .map(|chunk| insert_chunk(store, rows, chunk, writer).boxed())
        .collect();
    let inserting = stream::iter(chunks)
        .buffer_unordered(UNDER_WAY)
        .try_collect::<Vec<Vec<Numbered>>>();
    let listing = lists::write(store, rows, numbered, writer);
    let (there, ()) = futures_util::try_join!(inserting, listing)?;
    Ok(there.into_iter().flatten().collect())
}

async fn insert_chunk(
    store: &Store,
    rows: &dyn Rows,
    chunk: &[Numbered],
    writer: &str,
) -> Outcome<Vec<Numbered>> {
    let documents = chunk
        .iter()
        .map(|&(index, seq)| rows.document(index, Place { writer, seq }))
        .collect::<Outcome<Vec<_>>>()?;
    let there = insert_documents(store, rows_of(rows.table()), &documents).await?;
    let there = there.into_iter();
    Ok(there.filter_map(|at| chunk.get(at).copied()).collect())
}

/// Inserts documents, in any order, by one command, and returns which were there already, by their place.
/// An error leaves it open what was inserted.
pub(crate) async fn insert_documents(
    store: &Store,
    collection: &str,
    documents: &[RawDocumentBuf],
) -> Outcome<Vec<usize>> {
    let collection = store.raw(collection);
    let inserted = within(collection.insert_many(documents).ordered(false)).await?;
    inserted.map_or_else(refused, |_| Ok(Vec::new()))
}

/// Returns which documents of an insertion were there already, by their place in it.
///
/// # Errors
/// When it failed for another reason.
fn refused(error: Error) -> Outcome<Vec<usize>> {
    let Driver::InsertMany(errors) = &*error.kind else {
        return Err(error.into());
    };
    if errors.write_concern_error.is_some() {
        return Err(error.into());
    }
    let mut there = Vec::new();
    for one in errors.write_errors.iter().flatten() {
        if one.code != DUPLICATE_KEY {
            return Err(Failure::of_document(one.code, &one.message));
        }
        there.push(one.index);
    }
    Ok(there)
}
