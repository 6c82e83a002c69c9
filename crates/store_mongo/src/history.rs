//! Pages of history: of an order by a range of `_id`, of a deliverer through an index in the same order of time.

use model::{Position, UtcMicros};
use mongodb::bson::{Bson, Document, doc};
use store::{HistoryOf, HistoryQuery, Page};

use crate::database::{POSITIONS, Store};
use crate::error::Outcome;
use crate::reader::read;
use crate::rows::{PositionDoc, split};
use crate::{key, page};

/// Returns a page.
pub(crate) async fn page(store: &Store, query: &HistoryQuery) -> Outcome<Page<Position>> {
    let (owner, filter, sort) = match &query.of {
        HistoryOf::Order(id) => {
            let owner = format!("order:{id}");
            let after = page::read_cursor('h', &owner, query.after.as_deref())?;
            let filter = of_order(id.as_str(), query, after)?;
            (owner, filter, doc! { "_id": 1 })
        }
        HistoryOf::Deliverer(id) => {
            let owner = format!("deliverer:{id}");
            let after = page::read_cursor('h', &owner, query.after.as_deref())?;
            let filter = of_deliverer(id.as_str(), query, after)?;
            let sort = doc! { "deliverer_id": 1, "event_time": 1, "event_time_us": 1, "_id": 1 };
            (owner, filter, sort)
        }
    };
    let limit = page::limit(query.limit);
    let positions = store.collection::<PositionDoc>(POSITIONS);
    let mut items = read(positions.find(filter).sort(sort), limit)
        .await?
        .into_iter()
        .map(PositionDoc::into_position)
        .collect::<Outcome<Vec<_>>>()?;
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| more).map(key::position);
    Ok(Page {
        next_cursor: last.map(|id| page::cursor('h', &owner, &id)),
        items,
    })
}

fn of_order(order: &str, query: &HistoryQuery, after: Option<String>) -> Outcome<Document> {
    let first = key::order_from(order, query.from);
    let end = key::order_to(order, query.to);
    let range = match after {
        Some(after) if !after.starts_with(&key::order_from(order, None)) => {
            return Err(page::foreign_cursor());
        }
        Some(after) => doc! { "$gt": after, "$gte": first, "$lt": end },
        None => doc! { "$gte": first, "$lt": end },
    };
    Ok(doc! { "_id": range })
}

/// Matches what is at or beyond an instant, in the order of the index: `beyond` or `at or beyond`.
fn since(time: UtcMicros, id: Option<&str>) -> Document {
    let (date, below) = split(time);
    // An absent part of a millisecond sorts before every other and means 0.
    let same = below.map_or(Bson::Null, Bson::from);
    let later_within = doc! { "event_time": date, "event_time_us": { "$gt": below.unwrap_or(0) } };
    let mut tie = doc! { "event_time": date, "event_time_us": same };
    if let Some(id) = id {
        tie.insert("_id", doc! { "$gt": id });
    }
    doc! { "$or": [{ "event_time": { "$gt": date } }, later_within, tie] }
}

fn of_deliverer(deliverer: &str, query: &HistoryQuery, after: Option<String>) -> Outcome<Document> {
    let mut bounds = Document::new();
    let mut exact = Vec::new();
    if let Some(after) = after {
        let time = key::event_time(&after).ok_or_else(page::foreign_cursor)?;
        exact.push(since(time, Some(&after)));
        bounds.insert("$gte", split(time).0);
    }
    if let Some(from) = query.from {
        let date = split(from).0;
        exact.push(since(from, None));
        // With a cursor the later of both bounds the scan; the exact conditions decide.
        let held = bounds.get_datetime("$gte").is_ok_and(|held| *held > date);
        if !held {
            bounds.insert("$gte", date);
        }
    }
    if let Some(to) = query.to {
        exact.push(doc! { "$nor": [since(to, None)] });
        bounds.insert("$lte", split(to).0);
    }
    let mut filter = doc! { "deliverer_id": deliverer };
    if !bounds.is_empty() {
        filter.insert("event_time", bounds);
    }
    if !exact.is_empty() {
        filter.insert("$and", exact);
    }
    Ok(filter)
}
