//! Which rows a writer's sequences belong to: a list of `_id`s for each thousand of them.
//!
//! `positions` has no index but that of `_id`, because each costs the server about as much as the row itself. What
//! is found by writer and sequence (windows of the lake, purges) is found through these lists. One names the
//! rows of sequences that follow one another, from the one in its `_id` on, and is acknowledged by a majority
//! before `committed` reaches any of them.
//!
//! A list may name more rows than bear its sequences: duplicates, rows an unfinished append did not come to, rows
//! that changed hands (the heir's list names them too) or were deleted. So it is a hint where to look, never a
//! proof: each row is read by its `_id` and counts only if it bears this writer and this sequence.

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use mongodb::bson::{DateTime, Document, doc, serialize_to_raw_document_buf};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::{LakeTable, StoredPosition};

use crate::database::{POSITION_LISTS, POSITIONS, Store, answer};
use crate::error::{Failure, Outcome};
use crate::insert::{Numbered, Rows};
use crate::key::SEPARATOR;
use crate::rows::{PositionDoc, RowDoc, split};

/// Most rows of a list, and most `_id`s asked for by one query. A reader looks so far back for the list that a
/// sequence is in: a smaller number would hide lists written before.
pub(crate) const ROWS: usize = 1_000;
/// Most lists in one command: 5 MB with the longest ids, 1 MB with usual ones.
const LISTS: usize = 16;
/// Sequences whose lists are asked for at once, unless nothing was found.
const STRETCH: u64 = (LISTS * ROWS) as u64;
/// Queries for rows under way at once.
const UNDER_WAY: usize = 2;
/// Between `_id`s; no id holds a control character, and the separator within an `_id` is another one.
const LINE: char = '\n';

/// Tells whether the rows of a table are found by lists; those of the others by an index.
pub(crate) fn lead_to(table: LakeTable) -> bool {
    table == LakeTable::DelivererLocation
}

fn id_of(writer: &str, first: u64) -> String {
    format!("{writer}{SEPARATOR}{first:020}")
}

#[derive(Debug, Serialize, Deserialize)]
struct ListDoc {
    #[serde(rename = "_id")]
    id: String,
    /// The `_id`s of the rows, one a line.
    rows: String,
    /// When all of the rows had been received: the list expires with the last of them.
    received_before: DateTime,
}

/// A list read.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) id: String,
    rows: String,
    /// Its first sequence.
    pub(crate) first: u64,
    /// Its last sequence.
    pub(crate) last: u64,
}

impl List {
    fn read(found: ListDoc) -> Outcome<Self> {
        let digits = found.id.rsplit(SEPARATOR).next().unwrap_or_default();
        let first: u64 = digits
            .parse()
            .map_err(|_| Failure::data(format!("a list of rows has the _id {:?}", found.id)))?;
        let more = found.rows.matches(LINE).count() as u64;
        Ok(Self {
            id: found.id,
            rows: found.rows,
            first,
            last: first.saturating_add(more),
        })
    }

    /// Returns sequences and `_id`s.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u64, &str)> {
        (self.first..).zip(self.rows.split(LINE))
    }
}

/// Writes lists of rows about to be stored or taken over under the sequences given.
pub(crate) async fn write(
    store: &Store,
    rows: &dyn Rows,
    numbered: &[Numbered],
    writer: &str,
) -> Outcome<()> {
    if !lead_to(rows.table()) || store.tuning().omit_lists {
        return Ok(());
    }
    let runs = numbered.chunk_by(|(_, one), (_, next)| one + 1 == *next);
    let parts: Vec<&[Numbered]> = runs.flat_map(|run| run.chunks(ROWS)).collect();
    for some in parts.chunks(LISTS) {
        let lists = some
            .iter()
            .map(|part| {
                serialize_to_raw_document_buf(&list(rows, part, writer))
                    .map_err(|error| Failure::data(format!("a list is no document: {error}")))
            })
            .collect::<Outcome<Vec<_>>>()?;
        let collection = store.raw(POSITION_LISTS);
        answer(collection.insert_many(&lists).ordered(false)).await?;
    }
    Ok(())
}

fn list(rows: &dyn Rows, part: &[Numbered], writer: &str) -> ListDoc {
    let mut lines = String::new();
    for (at, &(index, _)) in part.iter().enumerate() {
        if at > 0 {
            lines.push(LINE);
        }
        lines.push_str(rows.id(index));
    }
    let received = part.iter().filter_map(|&(index, _)| rows.received(index));
    let newest = received.max().unwrap_or_default();
    ListDoc {
        id: id_of(writer, part.first().map_or(0, |(_, seq)| *seq)),
        rows: lines,
        received_before: split(newest.saturating_add_micros(1_000)).0,
    }
}

/// The lists of a range of a writer's sequences, a stretch at a time.
pub(crate) struct Lists<'a> {
    store: &'a Store,
    writer: &'a str,
    after: u64,
    to: u64,
    /// Where the next list may begin.
    next: u64,
    stretch: u64,
}

impl<'a> Lists<'a> {
    /// Begins with the list that has the first sequence after `after`, and ends with the one that has `to`.
    pub(crate) fn new(store: &'a Store, writer: &'a str, after: u64, to: u64) -> Self {
        Self {
            store,
            writer,
            after,
            to: to.min(i64::MAX.cast_unsigned()),
            next: after.saturating_sub(ROWS as u64 - 2),
            stretch: STRETCH,
        }
    }

    /// Returns the next lists, ascending, at least one; `None` when there are no more.
    ///
    /// Asks for a stretch of sequences at a time rather than for a number of lists, because not every server
    /// stops at the number asked for. Where nothing is, stretches grow.
    pub(crate) async fn more(&mut self) -> Outcome<Option<Vec<List>>> {
        let collection = self.store.collection::<ListDoc>(POSITION_LISTS);
        while self.next <= self.to {
            let end = self.to.min(self.next.saturating_add(self.stretch - 1));
            let range = doc! {
                "$gte": id_of(self.writer, self.next),
                "$lte": id_of(self.writer, end),
            };
            let leaps = self.stretch > STRETCH;
            let asked = collection
                .find(doc! { "_id": range })
                .sort(doc! { "_id": 1 })
                .batch_size(u32::try_from(STRETCH + 1).unwrap_or(u32::MAX))
                .limit(i64::from(leaps));
            let found: Vec<ListDoc> = answer(async { asked.await?.try_collect().await }).await?;
            let lists = found.into_iter().map(List::read);
            let mut lists = lists.collect::<Outcome<Vec<_>>>()?;
            match lists.first() {
                // Only where it is was asked.
                Some(list) if leaps => {
                    (self.next, self.stretch) = (list.first, STRETCH);
                    continue;
                }
                Some(_) => {}
                None => self.stretch = self.stretch.saturating_mul(2),
            }
            self.next = end + 1;
            lists.retain(|list| list.last > self.after);
            if !lists.is_empty() {
                return Ok(Some(lists));
            }
        }
        Ok(None)
    }
}

/// Cuts lists into groups that have at most [`ROWS`] rows together.
pub(crate) fn groups(lists: &[List]) -> Vec<&[List]> {
    let mut groups = Vec::new();
    let (mut begin, mut rows) = (0, 0);
    for (at, list) in lists.iter().enumerate() {
        let more = list.last - list.first + 1;
        if at > begin && rows + more > ROWS as u64 {
            groups.push(&lists[begin..at]);
            (begin, rows) = (at, 0);
        }
        rows += more;
    }
    groups.push(&lists[begin..]);
    groups
}

/// Returns the rows of these `_id`s, at most [`ROWS`] at once, whoever holds them.
pub(crate) async fn rows_of<D>(
    store: &Store,
    ids: &[&str],
    fields: Option<Document>,
) -> Outcome<Vec<D>>
where
    D: DeserializeOwned + Send + Sync + Unpin,
{
    // One more than there are, so that the first answer is known to be the last.
    let size = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX);
    let positions = store.collection::<D>(POSITIONS);
    let mut asked = positions
        .find(doc! { "_id": { "$in": ids } })
        .batch_size(size);
    if let Some(fields) = fields {
        asked = asked.projection(fields);
    }
    let mut found = answer(asked).await?;
    let mut rows = Vec::with_capacity(ids.len());
    while answer(found.advance()).await? {
        rows.push(found.deserialize_current()?);
    }
    Ok(rows)
}

/// Returns positions of a window by ascending sequence, at most `limit`.
pub(crate) async fn scan(
    store: &Store,
    writer: &str,
    (after, to): (u64, u64),
    limit: usize,
) -> Outcome<Vec<StoredPosition>> {
    let mut found = Vec::new();
    let mut lists = Lists::new(store, writer, after, to);
    while found.len() < limit
        && let Some(some) = lists.more().await?
    {
        let named: Vec<(u64, &str)> = some
            .iter()
            .flat_map(List::rows)
            .filter(|(seq, _)| (after.saturating_add(1)..=to).contains(seq))
            .collect();
        // Few at a time for who wants few, but not so few that many duplicates become many queries.
        let reads: Vec<BoxFuture<'_, Outcome<Vec<StoredPosition>>>> = named
            .chunks(limit.clamp(100, ROWS))
            .map(|part| positions(store, writer, part).boxed())
            .collect();
        let mut reads = stream::iter(reads).buffered(UNDER_WAY);
        while found.len() < limit
            && let Some(rows) = reads.try_next().await?
        {
            found.extend(rows);
        }
    }
    found.truncate(limit);
    Ok(found)
}

async fn positions(
    store: &Store,
    writer: &str,
    named: &[(u64, &str)],
) -> Outcome<Vec<StoredPosition>> {
    let ids: Vec<&str> = named.iter().map(|(_, id)| *id).collect();
    let mut rows: HashMap<u64, PositionDoc> = HashMap::with_capacity(ids.len());
    for row in rows_of::<PositionDoc>(store, &ids, None).await? {
        if row.writer() == Some(writer) {
            rows.insert(row.seq()?, row);
        }
    }
    // No two rows share writer and sequence, so whoever bears them is the one that was meant.
    named
        .iter()
        .filter_map(|(seq, _)| Some((*seq, rows.remove(seq)?)))
        .map(|(writer_seq, row)| {
            let row = row.into_row()?;
            Ok(StoredPosition { writer_seq, row })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_its_sequences_in_turn() {
        let list = List::read(ListDoc {
            id: id_of("w\u{1f}x-7", 41),
            rows: "a\u{1f}1\nb\u{1f}2\n\u{1f}d\u{1f}3".to_owned(),
            received_before: DateTime::from_millis(0),
        })
        .unwrap();
        let rows: Vec<_> = list.rows().collect();
        assert_eq!(
            rows,
            [(41, "a\u{1f}1"), (42, "b\u{1f}2"), (43, "\u{1f}d\u{1f}3")]
        );
        assert_eq!(list.last, 43);
    }

    #[test]
    fn groups_have_every_list_once_and_few_rows() {
        let list = |first: u64, rows: usize| {
            let id = id_of("w", first);
            let rows = vec!["a"; rows].join("\n");
            let received_before = DateTime::from_millis(0);
            List::read(ListDoc {
                id,
                rows,
                received_before,
            })
            .unwrap()
        };
        let lists: Vec<List> = [1_000, 1, 1, 998, 1, 600, 600]
            .into_iter()
            .zip([1, 1_001, 1_002, 1_003, 2_001, 2_002, 2_602])
            .map(|(rows, first)| list(first, rows))
            .collect();
        let sizes: Vec<usize> = groups(&lists).into_iter().map(<[_]>::len).collect();
        assert_eq!(sizes, [1, 3, 2, 1]);
    }
}
