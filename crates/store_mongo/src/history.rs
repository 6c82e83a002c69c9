//! Pages of history: of an order by a range of `_id`, of a deliverer by many.

mod deliverer;

use model::Position;
use mongodb::bson::{Document, doc};
use store::{HistoryOf, HistoryQuery, Page};

use crate::database::{POSITIONS, Store};
use crate::error::Outcome;
use crate::reader::read;
use crate::rows::PositionDoc;
use crate::{key, page};

/// Returns a page.
pub(crate) async fn page(store: &Store, query: &HistoryQuery) -> Outcome<Page<Position>> {
    let limit = page::limit(query.limit);
    let (owner, mut items) = match &query.of {
        HistoryOf::Order(id) => {
            let owner = format!("order:{id}");
            let after = page::read_cursor('h', &owner, query.after.as_deref())?;
            let filter = of_order(id.as_str(), query, after)?;
            (owner, of_range(store, filter, limit).await?)
        }
        HistoryOf::Deliverer(id) => {
            let owner = format!("deliverer:{id}");
            let after = page::read_cursor('h', &owner, query.after.as_deref())?;
            let items = deliverer::first(store, id.as_str(), query, after, limit).await?;
            (owner, items)
        }
    };
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| more).map(key::position);
    Ok(Page {
        next_cursor: last.map(|id| page::cursor('h', &owner, &id)),
        items,
    })
}

/// Returns the first positions of a range of `_id`, at most one more than `limit`.
async fn of_range(store: &Store, filter: Document, limit: usize) -> Outcome<Vec<Position>> {
    let positions = store.collection::<PositionDoc>(POSITIONS);
    read(positions.find(filter).sort(doc! { "_id": 1 }), limit)
        .await?
        .into_iter()
        .map(PositionDoc::into_position)
        .collect()
}

fn of_order(order: &str, query: &HistoryQuery, after: Option<String>) -> Outcome<Document> {
    let first = key::track_from(order, query.from);
    let end = key::track_to(order, query.to);
    let range = match after {
        Some(after) if !after.starts_with(&key::track_from(order, None)) => {
            return Err(page::foreign_cursor());
        }
        Some(after) => doc! { "$gt": after, "$gte": first, "$lt": end },
        None => doc! { "$gte": first, "$lt": end },
    };
    Ok(doc! { "_id": range })
}
