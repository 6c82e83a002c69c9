//! Laws of values: what was stored is what comes back, and an id is never more than an id.

use model::fleet_event::FleetAction;
use model::{DelivererId, FleetSubject, OrderId, Position, Record};

use super::build::{Chance, batch, event, position};
use super::{Verdict, Violation, ensure, ensure_eq};
use crate::{Batch, FleetEventQuery, HistoryOf, HistoryQuery, Store};

/// Floats by their bits, so that -0 and 0 differ.
fn bits(point: &Position) -> [Option<u64>; 7] {
    [
        Some(point.lat.degrees().to_bits()),
        Some(point.lon.degrees().to_bits()),
        point.speed_mps.map(f64::to_bits),
        point.heading_deg.map(f64::to_bits),
        point.accuracy_m.map(f64::to_bits),
        point.altitude_m.map(f64::to_bits),
        point.battery.map(f64::to_bits),
    ]
}

pub(super) async fn every_field_comes_back_bit_for_bit(store: &dyn Store) -> Verdict {
    for seed in 0..200 {
        let mut point = Chance::new(seed).position(&["o"], &["d"]);
        let id = format!("order-{seed}");
        let order = OrderId::new(id).map_err(|e| Violation::new(e.to_string()))?;
        let deliverer =
            DelivererId::new(format!("d-{seed}")).map_err(|e| Violation::new(e.to_string()))?;
        point.order_id = Some(order.clone());
        point.deliverer_id = deliverer.clone();
        store.append(batch([point.clone()])).await?;
        let query = HistoryQuery {
            of: HistoryOf::Order(order.clone()),
            from: None,
            to: None,
            limit: 2,
            after: None,
        };
        let from_history = store.history(&query).await?.items;
        let seen = [
            store.last_by_order(&order).await?,
            store.last_by_deliverer(&deliverer).await?,
            from_history.into_iter().next(),
        ];
        for one in seen {
            ensure_eq!(one.as_ref(), Some(&point), "seed {seed}");
            ensure_eq!(one.as_ref().map(bits), Some(bits(&point)), "seed {seed}");
        }
    }
    let mut odd = event(
        "org \u{1f6b2}",
        FleetSubject::Vehicle,
        FleetAction::Register,
        "$v.1",
        3,
    );
    odd.data = "{ \"id\" :\t\"$v.1\", \"n\": 1e400, \"$set\": {} }".into();
    store
        .append(Batch {
            records: vec![Record::FleetEvent {
                event: odd.clone(),
                position: None,
            }],
            ..Batch::default()
        })
        .await?;
    let page = store
        .fleet_events(&FleetEventQuery {
            limit: 5,
            ..FleetEventQuery::default()
        })
        .await?;
    ensure_eq!(page.items, vec![odd], "an event's data as received");
    Ok(())
}

/// Ids that mean something to one database or another.
const ODD_IDS: [&str; 14] = [
    "{\"$gt\":\"\"}",
    "$where",
    "a.b",
    "o'; DROP TABLE positions; --",
    "\"",
    "\\",
    "%",
    "_",
    "NULL",
    "0",
    "00",
    "0.0",
    "\u{e9}",
    "e\u{301}",
];

pub(super) async fn odd_ids_are_only_ids(store: &dyn Store) -> Verdict {
    let longest = "\u{1f6b2}".repeat(32);
    let ids: Vec<&str> = ODD_IDS.into_iter().chain([longest.as_str()]).collect();
    let points: Vec<_> = ids
        .iter()
        .zip(0..)
        .map(|(id, i)| position(Some(id), id, i, None))
        .collect();
    let appended = store.append(batch(points.clone())).await?;
    ensure_eq!(appended.stored, ids.len() as u64, "odd ids");
    for (id, point) in ids.iter().zip(&points) {
        let order = OrderId::new(*id).map_err(|e| Violation::new(e.to_string()))?;
        let deliverer = DelivererId::new(*id).map_err(|e| Violation::new(e.to_string()))?;
        for last in [
            store.last_by_order(&order).await?,
            store.last_by_deliverer(&deliverer).await?,
        ] {
            ensure_eq!(last.as_ref(), Some(point), "last of {id:?}");
        }
        for of in [HistoryOf::Order(order), HistoryOf::Deliverer(deliverer)] {
            let query = HistoryQuery {
                of,
                from: None,
                to: None,
                limit: 100,
                after: None,
            };
            ensure_eq!(
                store.history(&query).await?.items,
                vec![point.clone()],
                "history of {id:?}"
            );
        }
    }
    let counts = store.counts().await?;
    ensure!(
        counts.orders == ids.len() as u64 && counts.deliverers == ids.len() as u64,
        "{counts:?} for {} ids",
        ids.len()
    );
    Ok(())
}
