//! What deliverers carried: found again by history, written once an hour, and complete after a crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::{DelivererId, Position};
use mongodb::bson::{Document, doc};
use store::conformance::build::{batch, position};
use store::{Batch, HistoryOf, HistoryQuery, Reader, Writer};
use store_mongo::MongoStore;
use store_mongo::tuning::{Point, Tuning};
use tokio::task::JoinSet;

use crate::race::Gate;
use crate::server::Fresh;

const HOUR_US: i64 = 3_600_000_000;

/// Positions of three orders and of none, by minute over some hours.
fn points() -> Vec<Position> {
    let orders = [Some("a"), Some("b"), None, Some("c")];
    let orders = orders.into_iter().cycle();
    (0..400_i64)
        .zip(orders)
        .map(|(minute, order)| position(order, "d", minute * HOUR_US / 60, None))
        .collect()
}

async fn history(store: &MongoStore, deliverer: &str, limit: usize) -> Vec<Position> {
    let mut query = HistoryQuery {
        of: HistoryOf::Deliverer(DelivererId::new(deliverer).unwrap()),
        from: None,
        to: None,
        limit,
        after: None,
    };
    let mut all = Vec::new();
    loop {
        let page = store.history(&query).await.unwrap();
        all.extend(page.items);
        query.after = page.next_cursor;
        if query.after.is_none() {
            return all;
        }
    }
}

async fn entries(fresh: &Fresh) -> u64 {
    let carried = fresh.raw.collection::<Document>("carried");
    carried.count_documents(doc! {}).await.unwrap()
}

/// Stores the points; one writer dies with all of it written but what was carried and the commit, and another one,
/// which knows nothing of that, brings them again.
async fn after_a_crash(fresh: &Fresh, omit_carried: bool) -> Vec<Position> {
    let gate = Gate::new();
    let tuning = Tuning {
        omit_carried: true,
        ..gate.at(Point::BeforeCommit)
    };
    let dying = fresh.open_with(tuning).await;
    let mut append = JoinSet::new();
    append.spawn(async move { dying.append(batch(points())).await });
    gate.reached.notified().await;
    append.shutdown().await;
    let tuning = Tuning {
        omit_carried,
        ..Tuning::default()
    };
    let heir = fresh.open_with(tuning).await;
    let appended = heir.append(batch(points())).await.unwrap();
    assert_eq!(appended.stored, points().len() as u64);
    history(&heir, "d", 33).await
}

#[tokio::test]
async fn what_a_dead_writer_did_not_note_its_heir_does() {
    let Some(fresh) = Fresh::new("carried").await else {
        return;
    };
    assert_eq!(after_a_crash(&fresh, false).await, points());
    assert_eq!(entries(&fresh).await, 3 * 7);
    fresh.drop().await;
}

#[tokio::test]
async fn control_orders_that_were_not_noted_are_missed() {
    let Some(fresh) = Fresh::new("carried_control").await else {
        return;
    };
    let seen = after_a_crash(&fresh, true).await;
    assert_eq!(
        seen.len(),
        points().len() / 4,
        "what has no order needs no note"
    );
    fresh.drop().await;
}

#[tokio::test]
async fn an_hour_of_an_order_is_noted_once() {
    let Some(fresh) = Fresh::new("carried_once").await else {
        return;
    };
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let watch = move |name: &str, command: &Document| {
        if command.get_str(name).is_ok_and(|of| of == "carried") {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    };
    let tuning = Tuning {
        watch: Some(Arc::new(watch)),
        ..Tuning::default()
    };
    let store = fresh.open_with(tuning).await;
    sent.store(0, Ordering::Relaxed);
    let part = |from: i64| -> Batch {
        batch((from..from + 50).map(|second| {
            let order = ["a", "b"][usize::try_from(second % 2).unwrap()];
            position(Some(order), "d", second * 1_000_000, None)
        }))
    };
    let writers = [store.another_writer(), store.clone()];
    for (turn, from) in (0..20).map(|turn| turn * 50).enumerate() {
        writers[turn % 2].append(part(from)).await.unwrap();
    }
    assert_eq!(
        (sent.load(Ordering::Relaxed), entries(&fresh).await),
        (1, 2)
    );
    store.append(part(3_600)).await.unwrap();
    assert_eq!(
        (sent.load(Ordering::Relaxed), entries(&fresh).await),
        (2, 4)
    );
    fresh.drop().await;
}

#[tokio::test]
async fn many_orders_in_an_hour_and_orders_that_change_hands_are_paged_through() {
    let Some(fresh) = Fresh::new("carried_many").await else {
        return;
    };
    let store = fresh.open().await;
    let mut all: Vec<Position> = (0..1_500_i64)
        .map(|i| position(Some(&format!("o{}", i % 300)), "d", i * 1_000, None))
        .collect();
    // An order that another deliverer has had for most of the hour.
    let others = (0..2_000_i64).map(|i| position(Some("o7"), "e", i, None));
    store
        .append(batch(all.iter().cloned().chain(others)))
        .await
        .unwrap();
    // The same orders in the same hour, received on another day.
    let late = (0..100_i64).map(|i| {
        let mut one = position(Some(&format!("o{i}")), "d", 1_500_000 + i, None);
        one.received_time = one.received_time.saturating_add_micros(48 * HOUR_US);
        one
    });
    let late: Vec<Position> = late.collect();
    store.append(batch(late.iter().cloned())).await.unwrap();
    assert_eq!(entries(&fresh).await, 300 + 1 + 100);
    all.extend(late);
    for limit in [400, 799, 5_000] {
        assert_eq!(history(&store, "d", limit).await, all, "pages of {limit}");
    }
    assert_eq!(history(&store, "e", 900).await.len(), 2_000);
    fresh.drop().await;
}
