//! Ids that would be operators, field paths or variables, were they anything but values.

use model::fleet_event::FleetAction;
use model::{DelivererId, FleetSubject, OrderId, Record};
use store::conformance::build::{batch, event, position};
use store::{
    Batch, FleetEventQuery, HistoryOf, HistoryQuery, LakeSource, Reader, SourceCursor, Writer,
};
use store_mongo::tuning::Tuning;

use crate::server::Fresh;

const IDS: [&str; 9] = [
    r#"{"$gt":""}"#,
    r#"{"$ne":null}"#,
    "$where",
    "$$ROOT",
    "$_id",
    "a.b",
    "a.$[].b",
    "_id",
    "$literal",
];

#[tokio::test]
async fn ids_are_never_operators() {
    let Some(fresh) = Fresh::new("ids").await else {
        return;
    };
    for bulk_write in [Some(true), Some(false)] {
        fresh.raw.drop().await.unwrap();
        let store = fresh
            .open_with(Tuning {
                bulk_write,
                ..Tuning::default()
            })
            .await;
        // Twice, so that last positions are updated as well as inserted.
        for round in 0..2 {
            let points = IDS.iter().zip(0..);
            let points = points.map(|(id, i)| position(Some(id), id, round * 100 + i, None));
            let mut whole = batch(points);
            whole
                .records
                .extend(IDS.iter().map(|id| Record::FleetEvent {
                    event: event(id, FleetSubject::Vehicle, FleetAction::Register, id, round),
                    position: None,
                }));
            let appended = store.append(whole).await.unwrap();
            assert_eq!(appended.stored, 2 * IDS.len() as u64);
        }
        for (id, i) in IDS.iter().zip(0..) {
            let newest = position(Some(id), id, 100 + i, None);
            let order = OrderId::new(*id).unwrap();
            let deliverer = DelivererId::new(*id).unwrap();
            let last = store.last_by_order(&order).await.unwrap();
            assert_eq!(last.as_ref(), Some(&newest));
            let last = store.last_by_deliverer(&deliverer).await.unwrap();
            assert_eq!(last, Some(newest));
            for of in [HistoryOf::Order(order), HistoryOf::Deliverer(deliverer)] {
                let query = HistoryQuery {
                    of,
                    from: None,
                    to: None,
                    limit: 10,
                    after: None,
                };
                assert_eq!(store.history(&query).await.unwrap().items.len(), 2, "{id}");
            }
            let of_entity = FleetEventQuery {
                organization_id: Some((*id).to_owned()),
                entity_id: Some((*id).to_owned()),
                limit: 10,
                ..FleetEventQuery::default()
            };
            let page = store.fleet_events(&of_entity).await.unwrap();
            assert_eq!(page.items.len(), 2, "{id}");
            let cursor = SourceCursor {
                source: (*id).to_owned(),
                next: 5,
            };
            let only_cursor = Batch {
                cursor: Some(cursor),
                ..Batch::default()
            };
            store.append(only_cursor).await.unwrap();
            assert_eq!(store.cursor(id).await.unwrap(), Some(5));
            assert!(store.acquire_lease(id, id, 0, 10).await.unwrap());
            assert!(!store.acquire_lease(id, "another", 0, 10).await.unwrap());
        }
        let counts = store.counts().await.unwrap();
        assert_eq!(
            (counts.orders, counts.deliverers),
            (IDS.len() as u64, IDS.len() as u64)
        );
    }
    fresh.drop().await;
}
