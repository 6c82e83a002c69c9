//! Laws of the last position: the greatest recency, whatever arrives when.

use model::{DelivererId, OrderId, Position};

use super::build::{Chance, batch, latitude, position};
use super::{Verdict, Violation, ensure_eq};
use crate::{DEFAULT_MAX_FUTURE_SKEW_US, Store};

async fn last_of_order(store: &dyn Store, id: &str) -> Result<Option<Position>, Violation> {
    let id = OrderId::new(id).map_err(|e| Violation::new(e.to_string()))?;
    Ok(store.last_by_order(&id).await?)
}

async fn last_of_deliverer(store: &dyn Store, id: &str) -> Result<Option<Position>, Violation> {
    let id = DelivererId::new(id).map_err(|e| Violation::new(e.to_string()))?;
    Ok(store.last_by_deliverer(&id).await?)
}

pub(super) async fn the_last_is_the_greatest_whatever_the_arrival(store: &dyn Store) -> Verdict {
    let orders = ["a", "b", "c"];
    let deliverers = ["x", "y"];
    for seed in 0..8 {
        let mut chance = Chance::new(seed);
        let mut points: Vec<_> = (0..200)
            .map(|_| chance.position(&orders, &deliverers))
            .collect();
        // Times repeat, so that ties occur.
        for point in &mut points {
            point.event_time = super::build::at(i64::try_from(chance.below(20)).unwrap_or(0));
        }
        chance.shuffle(&mut points);
        // Fresh names keep the rounds apart in the one store.
        let named = |id: &str| format!("{id}{seed}");
        for point in &mut points {
            point.order_id = point
                .order_id
                .as_ref()
                .and_then(|id| OrderId::new(named(id.as_str())).ok());
            if let Ok(id) = DelivererId::new(named(point.deliverer_id.as_str())) {
                point.deliverer_id = id;
            }
        }
        for part in points.chunks(17) {
            store.append(batch(part.iter().cloned())).await?;
        }
        let recency = |point: &Position| (point.recency(), point.deliverer_id.clone());
        for order in orders.map(named) {
            let greatest = points
                .iter()
                .filter(|p| p.order_id.as_ref().is_some_and(|id| id.as_str() == order))
                .max_by_key(|p| p.recency())
                .map(Position::recency);
            let last = last_of_order(store, &order).await?;
            ensure_eq!(
                last.as_ref().map(Position::recency),
                greatest,
                "order {order}, seed {seed}"
            );
        }
        for deliverer in deliverers.map(named) {
            let greatest = points
                .iter()
                .filter(|p| p.deliverer_id.as_str() == deliverer)
                .max_by_key(|p| p.recency())
                .map(recency);
            let last = last_of_deliverer(store, &deliverer).await?;
            ensure_eq!(
                last.as_ref().map(recency),
                greatest,
                "deliverer {deliverer}, seed {seed}"
            );
        }
    }
    Ok(())
}

pub(super) async fn a_stale_point_never_overwrites(store: &dyn Store) -> Verdict {
    let newest = position(Some("o"), "d", 100, Some(5));
    store.append(batch([newest.clone()])).await?;
    let mut stale = position(Some("o"), "d", 99, Some(900));
    stale.received_time = super::build::at(1_000_000);
    store.append(batch([stale])).await?;
    store
        .append(batch([position(Some("o"), "d", 100, Some(4))]))
        .await?;
    ensure_eq!(
        last_of_order(store, "o").await?,
        Some(newest.clone()),
        "order"
    );
    ensure_eq!(
        last_of_deliverer(store, "d").await?,
        Some(newest),
        "deliverer"
    );
    ensure_eq!(store.counts().await?.positions, 3, "history keeps all");
    Ok(())
}

pub(super) async fn ties_are_decided_by_content(store: &dyn Store) -> Verdict {
    let point = |lat| Position {
        lat: latitude(lat),
        ..position(Some("o"), "d", 0, None)
    };
    let mut points: Vec<_> = (0..10).map(|i| point(50.0 + f64::from(i))).collect();
    points.sort_by_key(Position::recency);
    let newest = points.last().cloned();
    // The greatest arrives in the middle.
    let middle = points.len() / 2;
    let end = points.len() - 1;
    points.swap(middle, end);
    for one in points {
        store.append(batch([one])).await?;
    }
    ensure_eq!(last_of_order(store, "o").await?, newest, "without counters");
    let counted = position(Some("o"), "d", 0, Some(0));
    store.append(batch([counted.clone()])).await?;
    ensure_eq!(
        last_of_order(store, "o").await?,
        Some(counted),
        "a counter beats none at the same instant"
    );
    Ok(())
}

pub(super) async fn the_future_never_becomes_last(store: &dyn Store) -> Verdict {
    let ahead = |order: &str, skew| {
        let mut point = position(Some(order), "d", 0, Some(1));
        point.event_time = point.received_time.saturating_add_micros(skew);
        point
    };
    let beyond = ahead("o", DEFAULT_MAX_FUTURE_SKEW_US + 1);
    store.append(batch([beyond.clone()])).await?;
    ensure_eq!(last_of_order(store, "o").await?, None, "beyond the skew");
    let counts = store.counts().await?;
    ensure_eq!(
        (counts.positions, counts.orders, counts.deliverers),
        (1, 0, 0),
        "it is kept, and last of nothing"
    );
    let within = ahead("o", DEFAULT_MAX_FUTURE_SKEW_US);
    store.append(batch([beyond, within.clone()])).await?;
    ensure_eq!(
        last_of_order(store, "o").await?,
        Some(within.clone()),
        "within"
    );
    ensure_eq!(
        last_of_deliverer(store, "d").await?,
        Some(within),
        "within the skew"
    );
    ensure_eq!(store.counts().await?.orders, 1, "orders with a last");
    Ok(())
}

pub(super) async fn a_replay_changes_nothing(store: &dyn Store) -> Verdict {
    let mut chance = Chance::new(11);
    let points: Vec<_> = (0..300)
        .map(|_| chance.position(&["a", "b"], &["x", "y", "z"]))
        .collect();
    store.append(batch(points.clone())).await?;
    let before = (store.counts().await?, last_of_order(store, "a").await?);
    let again = store.append(batch(points)).await?;
    ensure_eq!(again.stored, 0, "stored by the replay");
    let after = (store.counts().await?, last_of_order(store, "a").await?);
    ensure_eq!(after, before, "counts and last");
    Ok(())
}
