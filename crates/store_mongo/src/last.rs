//! Last positions: the greatest of a batch for each order and deliverer, written under a guard of recency.
//!
//! What is not known to have one is inserted, many by a command: on a server where each statement of an update is a
//! commit of its own, a new order then costs a twentieth. What turns out to have one, and what is known to, is updated.
//! A process remembers what it knows; forgetting costs an insertion that finds the document there.
//!
//! The guard is in the update, a pipeline that puts the new document only in place of one that is less recent,
//! or of none. It is not in the filter, which names the `_id` alone: not every server that speaks MongoDB's
//! protocol takes the index of `_id` when the filter asks for more. An update that finds nothing to update and
//! yet fails on the `_id` met another writer; it is tried once more: by then the document is there.
//!
//! Duplicates take part as well: the attempt that stored them may have died before this step.

use std::collections::HashMap;
use std::sync::MutexGuard;

use model::{OrderId, Position, RecencyKey};
use mongodb::bson::{RawDocumentBuf, doc, serialize_to_document, serialize_to_raw_document_buf};

use crate::database::{LAST_BY_DELIVERER, LAST_POSITIONS, Store};
use crate::error::{Failure, Outcome};
use crate::insert::insert_documents;
use crate::key;
use crate::many::{self, Update};
use crate::memory::Memory;
use crate::rows::PositionRow;

/// Documents in one insertion.
const CHUNK: usize = 1_000;

/// What a last position is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Order,
    Deliverer,
}

impl Of {
    fn collection(self) -> &'static str {
        match self {
            Self::Order => LAST_POSITIONS,
            Self::Deliverer => LAST_BY_DELIVERER,
        }
    }

    fn known(self, store: &Store) -> MutexGuard<'_, Memory> {
        match self {
            Self::Order => store.known_orders(),
            Self::Deliverer => store.known_deliverers(),
        }
    }
}

/// A last position on its way in.
struct Last<'a> {
    of: Of,
    id: &'a str,
    recency: String,
    position: &'a Position,
}

impl Last<'_> {
    fn row(&self) -> PositionRow<'_> {
        PositionRow::last(self.position, self.id, &self.recency)
    }

    fn document(&self) -> Outcome<RawDocumentBuf> {
        serialize_to_raw_document_buf(&self.row()).map_err(misfit)
    }

    fn update(&self) -> Outcome<Update> {
        let document = serialize_to_document(&self.row()).map_err(misfit)?;
        // What is missing compares as less than any string. What clients sent is literal: never read as an
        // expression.
        let is_newer = doc! { "$lt": ["$recency", { "$literal": &self.recency }] };
        let greater = doc! { "$cond": [is_newer, { "$literal": document }, "$$ROOT"] };
        Ok(Update {
            collection: self.of.collection(),
            filter: doc! { "_id": self.id },
            stage: doc! { "$replaceWith": greater },
        })
    }
}

fn misfit(error: impl std::fmt::Display) -> Failure {
    Failure::data(format!("a position does not fit a document: {error}"))
}

type Greatest<'a> = HashMap<&'a str, (RecencyKey, &'a Position)>;

fn note<'a>(greatest: &mut Greatest<'a>, id: &'a str, recency: RecencyKey, position: &'a Position) {
    let held = greatest.entry(id).or_insert((recency, position));
    if held.0 < recency {
        *held = (recency, position);
    }
}

/// Returns the greatest of each order and deliverer.
fn greatest<'a>(
    positions: impl Iterator<Item = &'a Position>,
    max_future_skew_us: i64,
) -> Vec<Last<'a>> {
    let (mut orders, mut deliverers) = (Greatest::new(), Greatest::new());
    for position in positions {
        if position.is_from_the_future(max_future_skew_us) {
            continue;
        }
        let recency = position.recency();
        if let Some(order) = position.order_id.as_ref().map(OrderId::as_str) {
            note(&mut orders, order, recency, position);
        }
        let deliverer = position.deliverer_id.as_str();
        note(&mut deliverers, deliverer, recency, position);
    }
    [(Of::Order, orders), (Of::Deliverer, deliverers)]
        .into_iter()
        .flat_map(|(of, found)| {
            found
                .into_iter()
                .map(move |(id, (recency, position))| Last {
                    of,
                    id,
                    recency: key::recency(recency),
                    position,
                })
        })
        .collect()
}

/// Inserts what has no document yet, and returns what turns out to have one.
async fn insert<'a, 'b>(store: &Store, new: &[&'b Last<'a>]) -> Outcome<Vec<&'b Last<'a>>> {
    let mut there = Vec::new();
    for part in new
        .chunk_by(|a, b| a.of == b.of)
        .flat_map(|of| of.chunks(CHUNK))
    {
        let documents: Vec<RawDocumentBuf> = part
            .iter()
            .map(|last| last.document())
            .collect::<Outcome<_>>()?;
        let Some(first) = part.first() else { continue };
        let refused = insert_documents(store, first.of.collection(), &documents).await?;
        there.extend(refused.into_iter().filter_map(|at| part.get(at).copied()));
    }
    Ok(there)
}

/// Updates under the guard, and returns what met another writer that inserted it.
async fn update<'a, 'b>(store: &Store, known: &[&'b Last<'a>]) -> Outcome<Vec<&'b Last<'a>>> {
    let updates: Vec<Update> = known
        .iter()
        .map(|last| last.update())
        .collect::<Outcome<_>>()?;
    let refused = many::run(store, &updates).await?.into_iter();
    Ok(refused.filter_map(|at| known.get(at).copied()).collect())
}

/// Writes the last positions a batch brings.
pub(crate) async fn write<'a>(
    store: &Store,
    positions: impl Iterator<Item = &'a Position>,
    max_future_skew_us: i64,
) -> Outcome<()> {
    let all = greatest(positions, max_future_skew_us);
    let (known, mut new): (Vec<&Last<'_>>, Vec<&Last<'_>>) = {
        let (mut orders, mut deliverers) = (store.known_orders(), store.known_deliverers());
        all.iter().partition(|last| match last.of {
            Of::Order => orders.knows(last.id),
            Of::Deliverer => deliverers.knows(last.id),
        })
    };
    // Neighbours in the server's trees are then written together.
    new.sort_unstable_by_key(|last| (last.of.collection(), last.id));
    let (mut again, there) = futures_util::try_join!(update(store, &known), insert(store, &new))?;
    again.extend(there);
    update(store, &update(store, &again).await?).await?;
    for last in new {
        last.of.known(store).learn(last.id.to_owned());
    }
    Ok(())
}
