//! Last positions: the greatest of a batch for each order and deliverer, written under a guard of recency.
//!
//! The guard is in the update, a pipeline that puts the new document only in place of one that is less recent,
//! or of none. It is not in the filter, which names the `_id` alone: not every server that speaks MongoDB's
//! protocol takes the index of `_id` when the filter asks for more. Two writers may insert the first last position
//! of an order at once; the one that fails on the `_id` is tried once more: by then the document is there.
//!
//! Duplicates take part as well: the attempt that stored them may have died before this step.

use std::collections::HashMap;

use model::{OrderId, Position, RecencyKey};
use mongodb::bson::{doc, serialize_to_document};

use crate::database::{LAST_BY_DELIVERER, LAST_POSITIONS, Store};
use crate::error::{Failure, Outcome};
use crate::key;
use crate::many::{self, Update};
use crate::rows::PositionRow;

type Greatest<'a> = HashMap<&'a str, (RecencyKey, &'a Position)>;

fn note<'a>(greatest: &mut Greatest<'a>, id: &'a str, recency: RecencyKey, position: &'a Position) {
    let held = greatest.entry(id).or_insert((recency, position));
    if held.0 < recency {
        *held = (recency, position);
    }
}

/// Writes the last positions a batch brings.
pub(crate) async fn write<'a>(
    store: &Store,
    positions: impl Iterator<Item = &'a Position>,
    max_future_skew_us: i64,
) -> Outcome<()> {
    let (mut orders, mut deliverers) = (Greatest::new(), Greatest::new());
    for position in positions {
        if position.is_from_the_future(max_future_skew_us) {
            continue;
        }
        let recency = position.recency();
        if let Some(order) = position.order_id.as_ref().map(OrderId::as_str) {
            note(&mut orders, order, recency, position);
        }
        note(
            &mut deliverers,
            position.deliverer_id.as_str(),
            recency,
            position,
        );
    }
    let orders = orders.into_iter().map(|found| (LAST_POSITIONS, found));
    let deliverers = deliverers
        .into_iter()
        .map(|found| (LAST_BY_DELIVERER, found));
    let updates: Vec<Update> = orders
        .chain(deliverers)
        .map(|(collection, (id, (recency, position)))| update(collection, id, recency, position))
        .collect::<Outcome<_>>()?;
    let refused = many::run(store, &updates).await?;
    if refused.is_empty() {
        return Ok(());
    }
    let again: Vec<Update> = refused.into_iter().map(|i| updates[i].clone()).collect();
    many::run(store, &again).await?;
    Ok(())
}

fn update(
    collection: &'static str,
    id: &str,
    recency: RecencyKey,
    position: &Position,
) -> Outcome<Update> {
    let recency = key::recency(recency);
    let document = serialize_to_document(&PositionRow::last(position, &recency))
        .map_err(|error| Failure::data(format!("a position does not fit a document: {error}")))?;
    // What is missing compares as less than any string. What clients sent is literal: never read as an
    // expression.
    let is_newer = doc! { "$lt": ["$recency", { "$literal": recency }] };
    let greater = doc! { "$cond": [is_newer, { "$literal": document }, "$$ROOT"] };
    Ok(Update {
        collection,
        filter: doc! { "_id": id },
        stage: doc! { "$replaceWith": greater },
    })
}
