//! Laws of history: complete, ordered, paged without loss or repetition.

use model::{DelivererId, OrderId, Position};

use super::build::{at, batch, position};
use super::{Verdict, Violation, ensure, ensure_eq};
use crate::{ErrorKind, HistoryOf, HistoryQuery, Store};

fn of_order(id: &str, limit: usize) -> Result<HistoryQuery, Violation> {
    let id = OrderId::new(id).map_err(|e| Violation::new(e.to_string()))?;
    Ok(query(HistoryOf::Order(id), limit))
}

fn of_deliverer(id: &str, limit: usize) -> Result<HistoryQuery, Violation> {
    let id = DelivererId::new(id).map_err(|e| Violation::new(e.to_string()))?;
    Ok(query(HistoryOf::Deliverer(id), limit))
}

fn query(of: HistoryOf, limit: usize) -> HistoryQuery {
    HistoryQuery {
        of,
        from: None,
        to: None,
        limit,
        after: None,
    }
}

/// Reads all pages; each must be within the limit, and full unless it is the last.
async fn all(store: &dyn Store, mut query: HistoryQuery) -> Result<Vec<Position>, Violation> {
    let mut seen: Vec<Position> = Vec::new();
    loop {
        let page = store.history(&query).await?;
        ensure!(page.items.len() <= query.limit, "a page above its limit");
        ensure!(
            page.next_cursor.is_none() || page.items.len() == query.limit,
            "a page of {} of {} that is not the last",
            page.items.len(),
            query.limit
        );
        seen.extend(page.items);
        ensure!(seen.len() <= 100_000, "history without end");
        query.after = page.next_cursor;
        if query.after.is_none() {
            break;
        }
    }
    ensure!(
        seen.is_sorted_by_key(|p| p.event_time),
        "history of {:?} is not in order of time",
        query.of
    );
    Ok(seen)
}

fn sorted(mut points: Vec<Position>) -> Vec<Position> {
    points.sort_by_key(|p| (p.recency(), p.order_id.clone(), p.deliverer_id.clone()));
    points
}

pub(super) async fn pages_hold_every_point_once(store: &dyn Store) -> Verdict {
    let points: Vec<_> = (0..37)
        .map(|i| position(Some("o"), "d", i * 10, Some(1)))
        .collect();
    let noise = (0..50).map(|i| position(Some("other"), "d", i, Some(1)));
    store
        .append(batch(points.iter().cloned().chain(noise)))
        .await?;
    for limit in [1, 2, 36, 37, 38, 1_000] {
        let seen = all(store, of_order("o", limit)?).await?;
        ensure_eq!(seen, points, "pages of {limit}");
    }
    let unknown = all(store, of_order("nobody", 5)?).await?;
    ensure!(unknown.is_empty(), "an unknown order has history");
    let first = store.history(&of_order("o", 3)?).await?;
    for (foreign, of) in [
        (Some("nonsense".to_owned()), of_order("o", 3)?),
        (first.next_cursor, of_order("other", 3)?),
    ] {
        let query = HistoryQuery {
            after: foreign,
            ..of
        };
        let answer = store.history(&query).await.map_err(|e| e.kind()).err();
        ensure_eq!(answer, Some(ErrorKind::Invalid), "a foreign cursor");
    }
    Ok(())
}

pub(super) async fn equal_times_are_paged_through(store: &dyn Store) -> Verdict {
    let points: Vec<_> = (0..25)
        .map(|i| position(Some("o"), "d", i64::from(i == 24), Some(i)))
        .collect();
    for part in points.chunks(7) {
        store.append(batch(part.iter().cloned())).await?;
    }
    for limit in [1, 3, 24] {
        let seen = all(store, of_order("o", limit)?).await?;
        ensure_eq!(sorted(seen), points, "pages of {limit}");
    }
    Ok(())
}

pub(super) async fn bounds_are_half_open(store: &dyn Store) -> Verdict {
    let points: Vec<_> = (0..10).map(|i| position(Some("o"), "d", i, None)).collect();
    store.append(batch(points.clone())).await?;
    for (from, to) in [(0, 10), (3, 7), (3, 3), (7, 3), (9, 100), (-5, 1)] {
        for of in [of_order("o", 2)?, of_deliverer("d", 3)?] {
            let bounded = HistoryQuery {
                from: Some(at(from)),
                to: Some(at(to)),
                ..of
            };
            let expected: Vec<_> = points
                .iter()
                .filter(|p| at(from) <= p.event_time && p.event_time < at(to))
                .cloned()
                .collect();
            ensure_eq!(all(store, bounded).await?, expected, "{from}..{to}");
        }
    }
    Ok(())
}

pub(super) async fn a_deliverers_history_spans_orders(store: &dyn Store) -> Verdict {
    let points: Vec<_> = [Some("a"), None, Some("b")]
        .into_iter()
        .cycle()
        .zip(0..30)
        .map(|(order, i)| position(order, "d", i, None))
        .collect();
    let noise = (0..30).map(|i| position(Some("a"), "e", i, None));
    store
        .append(batch(points.iter().cloned().chain(noise)))
        .await?;
    let seen = all(store, of_deliverer("d", 4)?).await?;
    ensure_eq!(seen, points, "deliverer d");
    let of_a = all(store, of_order("a", 7)?).await?;
    ensure_eq!(of_a.len(), 40, "points of order a by two deliverers");
    Ok(())
}

pub(super) async fn a_deliverers_history_spans_hours(store: &dyn Store) -> Verdict {
    const HOUR_US: i64 = 3_600_000_000;
    let orders = [Some("a"), Some("b"), Some("c"), None];
    let mut points = Vec::new();
    // Long gaps, and in each hour some points of the same instant, of one order and of several.
    for hour in [0, 1, 2, 50, 51, 20_000] {
        for (at_us, order) in [0, 0, 1, 1, 1, 7, HOUR_US - 1, HOUR_US - 1]
            .into_iter()
            .zip(orders.into_iter().cycle())
        {
            points.extend((0..3).map(|seq| {
                let time = hour * HOUR_US + at_us;
                position(order, "d", time, Some(seq))
            }));
        }
    }
    let noise = (0..900).map(|i| position(Some("a"), "e", i, None));
    store
        .append(batch(points.iter().cloned().chain(noise)))
        .await?;
    let points = sorted(points);
    for limit in [1, 2, 5, 24, 143, 144, 1_000] {
        let seen = all(store, of_deliverer("d", limit)?).await?;
        ensure_eq!(sorted(seen), points, "pages of {limit}");
    }
    for (from, to) in [(1, 3), (3, 50), (2, 20_000), (20_000, 20_001), (60, 70)] {
        let bounded = HistoryQuery {
            from: Some(at(from * HOUR_US)),
            to: Some(at(to * HOUR_US + 1)),
            ..of_deliverer("d", 7)?
        };
        let expected: Vec<_> = points
            .iter()
            .filter(|p| at(from * HOUR_US) <= p.event_time && p.event_time < at(to * HOUR_US + 1))
            .cloned()
            .collect();
        let seen = all(store, bounded).await?;
        ensure_eq!(sorted(seen), expected, "hours {from}..{to}");
    }
    Ok(())
}

pub(super) async fn late_points_take_their_place(store: &dyn Store) -> Verdict {
    let mut points: Vec<_> = (0..100)
        .map(|i| position(Some("o"), "d", i, Some(1)))
        .collect();
    let ordered = points.clone();
    super::build::Chance::new(5).shuffle(&mut points);
    for part in points.chunks(9) {
        store.append(batch(part.iter().cloned())).await?;
    }
    ensure_eq!(all(store, of_order("o", 11)?).await?, ordered, "order");
    ensure_eq!(all(store, of_deliverer("d", 100)?).await?, ordered, "all");
    Ok(())
}
