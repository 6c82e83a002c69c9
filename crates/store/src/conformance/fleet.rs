//! Laws of fleet events: kept in the order stored, found by any filter.

use model::FleetSubject::{OperatingPeriod, Vehicle};
use model::fleet_event::FleetAction;
use model::{FleetEvent, Record};

use super::build::event;
use super::{Verdict, ensure, ensure_eq};
use crate::{Batch, FleetEventQuery, Store};

/// Events of two organisations, stored in this order and dated in the reverse.
fn events() -> Vec<FleetEvent> {
    [
        ("a", Vehicle, FleetAction::Register, "v1"),
        ("a", Vehicle, FleetAction::Deregister, "v1"),
        ("b", OperatingPeriod, FleetAction::Create, "p"),
        ("a", Vehicle, FleetAction::Register, "v2"),
        ("b", OperatingPeriod, FleetAction::Delete, "p"),
    ]
    .into_iter()
    .zip(0..)
    .map(|((organization, on, action, entity), i)| event(organization, on, action, entity, -i))
    .collect()
}

/// Questions for [`events`], each with a limit that makes some of them page.
fn filters() -> [FleetEventQuery; 6] {
    let query = |limit| FleetEventQuery {
        limit,
        ..FleetEventQuery::default()
    };
    [
        query(10),
        FleetEventQuery {
            organization_id: Some("b".into()),
            ..query(1)
        },
        FleetEventQuery {
            on: Some(Vehicle),
            ..query(2)
        },
        FleetEventQuery {
            on: Some(OperatingPeriod),
            ..query(10)
        },
        FleetEventQuery {
            entity_id: Some("v1".into()),
            ..query(1)
        },
        FleetEventQuery {
            event: Some(FleetAction::Register),
            organization_id: Some("a".into()),
            ..query(1)
        },
    ]
}

pub(super) async fn fleet_events_come_back_in_order_and_by_filter(store: &dyn Store) -> Verdict {
    let events = events();
    for one in &events {
        store
            .append(Batch {
                records: vec![Record::FleetEvent {
                    event: one.clone(),
                    position: None,
                }],
                ..Batch::default()
            })
            .await?;
    }
    for mut filter in filters() {
        let expected: Vec<_> = events
            .iter()
            .filter(|e| {
                filter
                    .organization_id
                    .as_ref()
                    .is_none_or(|id| **id == *e.organization_id)
                    && filter.on.is_none_or(|on| on == e.on)
                    && filter
                        .entity_id
                        .as_ref()
                        .is_none_or(|id| **id == *e.entity_id)
                    && filter.event.is_none_or(|action| action == e.event)
            })
            .cloned()
            .collect();
        let mut seen = Vec::new();
        loop {
            let page = store.fleet_events(&filter).await?;
            ensure!(page.items.len() <= filter.limit, "a page above its limit");
            seen.extend(page.items);
            filter.after = page.next_cursor;
            if filter.after.is_none() || seen.len() > events.len() {
                break;
            }
        }
        ensure_eq!(seen, expected, "events of {filter:?}");
    }
    Ok(())
}
