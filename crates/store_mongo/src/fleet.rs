//! Pages of what is kept in the order stored: fleet events and dead letters.

use model::fleet_event::FleetAction;
use model::{FleetEvent, FleetSubject, Reject};
use mongodb::bson::{Document, doc};
use store::{FleetEventQuery, Page};

use crate::database::{FLEET_EVENTS, REJECTED, Store};
use crate::error::Outcome;
use crate::page;
use crate::reader::read;
use crate::rows::{FleetEventDoc, RejectDoc, StoredDoc};

/// Returns a page of fleet events.
pub(crate) async fn events(store: &Store, query: &FleetEventQuery) -> Outcome<Page<FleetEvent>> {
    let mut filter = Document::new();
    if let Some(id) = &query.organization_id {
        filter.insert("organization_id", id);
    }
    if let Some(id) = &query.entity_id {
        filter.insert("entity_id", id);
    }
    match (query.event, query.on) {
        (Some(action), _) => {
            filter.insert("event", action.as_str());
        }
        (None, Some(FleetSubject::OperatingPeriod)) => {
            // Few among many updates: the index of actions finds them.
            let actions = [FleetAction::Create, FleetAction::Delete].map(FleetAction::as_str);
            filter.insert("event", doc! { "$in": actions.to_vec() });
        }
        (None, _) => {}
    }
    if let Some(on) = query.on {
        filter.insert("on", on.as_str());
    }
    in_order::<FleetEventDoc>(
        store,
        FLEET_EVENTS,
        'e',
        filter,
        query.limit,
        query.after.as_deref(),
    )
    .await
}

/// Returns a page of dead letters.
pub(crate) async fn letters(
    store: &Store,
    limit: usize,
    after: Option<&str>,
) -> Outcome<Page<Reject>> {
    in_order::<RejectDoc>(store, REJECTED, 'r', Document::new(), limit, after).await
}

async fn in_order<D: StoredDoc>(
    store: &Store,
    collection: &str,
    letter: char,
    mut filter: Document,
    limit: usize,
    after: Option<&str>,
) -> Outcome<Page<D::Row>> {
    if let Some(after) = page::read_cursor(letter, collection, after)? {
        filter.insert("stored", doc! { "$gt": after });
    }
    let limit = page::limit(limit);
    let all = store.collection::<D>(collection);
    let found = all.find(filter).sort(doc! { "stored": 1 });
    let mut rows = read(found, limit).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().filter(|_| more);
    Ok(Page {
        next_cursor: last.map(|row| page::cursor(letter, collection, row.stored())),
        items: rows.into_iter().map(D::into_row).collect::<Outcome<_>>()?,
    })
}
