//! Last positions: whoever brings a point, and whatever a process remembers.

use model::{DelivererId, OrderId, Position};
use mongodb::bson::{Document, doc};
use store::conformance::build::{batch, position};
use store::{Reader, Writer};
use store_mongo::MongoStore;
use store_mongo::tuning::Tuning;
use tokio::task::JoinSet;

use crate::server::Fresh;

async fn lasts(store: &MongoStore) -> [Option<Position>; 2] {
    let order = OrderId::new("o").unwrap();
    let deliverer = DelivererId::new("d").unwrap();
    [
        store.last_by_order(&order).await.unwrap(),
        store.last_by_deliverer(&deliverer).await.unwrap(),
    ]
}

fn both_ways() -> [Tuning; 2] {
    [true, false].map(|bulk| Tuning {
        bulk_write: Some(bulk),
        ..Tuning::default()
    })
}

#[tokio::test]
async fn a_process_that_knows_nothing_neither_overwrites_a_newer_point_nor_keeps_an_older_one() {
    let Some(fresh) = Fresh::new("last_unknown").await else {
        return;
    };
    for tuning in both_ways() {
        fresh.raw.drop().await.unwrap();
        let [older, middle, newer] = [1, 5, 9].map(|at| position(Some("o"), "d", at, None));
        let first = fresh.open_with(tuning.clone()).await;
        first.append(batch([middle.clone()])).await.unwrap();
        let second = fresh.open_with(tuning.clone()).await;
        second.append(batch([older])).await.unwrap();
        assert_eq!(lasts(&first).await, [Some(middle.clone()), Some(middle)]);
        let third = fresh.open_with(tuning).await;
        third.append(batch([newer.clone()])).await.unwrap();
        assert_eq!(lasts(&first).await, [Some(newer.clone()), Some(newer)]);
    }
    fresh.drop().await;
}

#[tokio::test]
async fn a_last_position_that_was_deleted_comes_again() {
    let Some(fresh) = Fresh::new("last_deleted").await else {
        return;
    };
    for tuning in both_ways() {
        fresh.raw.drop().await.unwrap();
        let store = fresh.open_with(tuning).await;
        let [before, after] = [1, 2].map(|at| position(Some("o"), "d", at, None));
        store.append(batch([before])).await.unwrap();
        for name in ["last_positions", "last_by_deliverer"] {
            let collection = fresh.raw.collection::<Document>(name);
            collection.delete_many(doc! {}).await.unwrap();
        }
        assert_eq!(lasts(&store).await, [None, None]);
        store.append(batch([after.clone()])).await.unwrap();
        assert_eq!(lasts(&store).await, [Some(after.clone()), Some(after)]);
    }
    fresh.drop().await;
}

const ORDERS: i64 = 200;
const WRITERS: i64 = 4;

#[tokio::test]
async fn of_writers_that_bring_the_first_points_at_once_the_newest_wins() {
    let Some(fresh) = Fresh::new("last_at_once").await else {
        return;
    };
    for tuning in both_ways() {
        fresh.raw.drop().await.unwrap();
        let mut writing = JoinSet::new();
        for writer in 0..WRITERS {
            // Each a process of its own, which remembers nothing of the others.
            let store = fresh.open_with(tuning.clone()).await;
            writing.spawn(async move {
                // Each order has its newest point with another writer.
                let points = (0..ORDERS).map(|order| {
                    let at = (order + writer) % WRITERS;
                    let order = format!("o{order}");
                    position(Some(&order), &format!("d{writer}"), at, None)
                });
                store.append(batch(points)).await.unwrap();
            });
        }
        while let Some(done) = writing.join_next().await {
            done.unwrap();
        }
        let store = fresh.open_with(tuning).await;
        for order in 0..ORDERS {
            let id = OrderId::new(format!("o{order}")).unwrap();
            let last = store.last_by_order(&id).await.unwrap().unwrap();
            let newest = position(None, "d", WRITERS - 1, None);
            assert_eq!(last.event_time, newest.event_time, "o{order}");
        }
        assert_eq!(store.counts().await.unwrap().orders, ORDERS.cast_unsigned());
    }
    fresh.drop().await;
}
