//! Lists of rows: the lake finds every row through them, and they go with their rows.

use mongodb::bson::{Document, doc};
use store::conformance::build::{batch, position};
use store::{LakeSource, LakeTable, Window, WindowState, Writer};
use store_mongo::MongoStore;
use store_mongo::tuning::Tuning;

use crate::lake::Lake;
use crate::server::Fresh;

const TABLE: LakeTable = LakeTable::DelivererLocation;

/// Stores rows of these numbers, in no order of time.
async fn bring(store: &MongoStore, rows: impl IntoIterator<Item = u64>) -> u64 {
    let points = rows.into_iter().map(|seq| {
        let order = (!seq.is_multiple_of(5)).then(|| format!("o{}", seq % 11));
        let time = i64::try_from(seq * 7_919 % 100_000).unwrap();
        position(order.as_deref(), "d", time, Some(seq))
    });
    store.append(batch(points)).await.unwrap().stored
}

async fn lists(fresh: &Fresh) -> u64 {
    let lists = fresh.raw.collection::<Document>("position_lists");
    lists.count_documents(doc! {}).await.unwrap()
}

#[tokio::test]
async fn every_limit_and_every_window_sees_the_same_rows() {
    const ROWS: u64 = 20_500;
    let Some(fresh) = Fresh::new("lists").await else {
        return;
    };
    let store = fresh.open().await;
    assert_eq!(bring(&store, 0..2_500).await, 2_500);
    // Lists of duplicates alone, of both, and of one row.
    assert_eq!(bring(&store, 0..1_700).await, 0);
    assert_eq!(bring(&store, 1_000..4_000).await, 1_500);
    assert_eq!(bring(&store, [4_000]).await, 1);
    assert_eq!(bring(&store, 4_001..ROWS).await, ROWS - 4_001);
    let writer = store.writers(TABLE).await.unwrap().pop().unwrap();
    let (id, committed) = (writer.writer_id.as_str(), writer.committed);
    let whole = store.scan_positions(id, 0, committed, usize::MAX).await;
    let whole = whole.unwrap();
    assert_eq!(whole.len() as u64, ROWS);
    assert!(whole.is_sorted_by(|a, b| a.writer_seq < b.writer_seq));
    for limit in [999, 1_000, 1_001, 7_000] {
        let (mut seen, mut after) = (Vec::new(), 0);
        loop {
            let part = store.scan_positions(id, after, committed, limit).await;
            let part = part.unwrap();
            assert!(part.len() <= limit);
            let Some(last) = part.last() else { break };
            after = last.writer_seq;
            seen.extend(part);
        }
        assert_eq!(seen, whole, "limit {limit}");
    }
    for (after, to) in [
        (0, 1),
        (999, 1_001),
        (1_234, 8_765),
        (2_499, 4_201),
        (20_000, u64::MAX),
    ] {
        let part = store.scan_positions(id, after, to, 100_000).await.unwrap();
        let expected = whole
            .iter()
            .filter(|row| after < row.writer_seq && row.writer_seq <= to);
        assert!(part.iter().eq(expected), "{after}..={to}");
    }
    fresh.drop().await;
}

#[tokio::test]
async fn control_rows_without_lists_are_missed() {
    let Some(fresh) = Fresh::new("lists_control").await else {
        return;
    };
    for (omit_lists, rows) in [(false, 1_200), (true, 300)] {
        fresh.raw.drop().await.unwrap();
        let tuning = Tuning {
            omit_lists,
            ..Tuning::default()
        };
        let store = fresh.open_with(tuning).await;
        bring(&store, 0..rows).await;
        let mut lake = Lake::default();
        lake.take(&store).await;
        assert_eq!(lake.contradiction(rows).is_some(), omit_lists);
    }
    fresh.drop().await;
}

async fn verify(store: &MongoStore, window: &Window) {
    store.plan_window(window).await.unwrap();
    for state in [WindowState::Committed, WindowState::Verified] {
        store.advance_window(window, state, 1).await.unwrap();
    }
}

#[tokio::test]
async fn lists_go_with_the_last_of_their_rows() {
    let Some(fresh) = Fresh::new("lists_purge").await else {
        return;
    };
    let store = fresh.open().await;
    bring(&store, 0..3_000).await;
    bring(&store, 2_000..3_500).await;
    // The last `_id` is that of a duplicate, so its number is beyond what is then committed.
    bring(&store, [4_000, 1]).await;
    bring(&store, 3_500..4_000).await;
    let writer = store.writers(TABLE).await.unwrap().pop().unwrap();
    assert_eq!(lists(&fresh).await, 3 + 2 + 1 + 1);
    let (mut after, mut left) = (0, 4_001);
    // Windows end within lists and between them.
    for to in [500, 2_000, 3_100, 4_400, 4_501, writer.committed] {
        let window = Window {
            table: TABLE,
            writer_id: writer.writer_id.clone(),
            after,
            to,
            state: WindowState::Planned,
            rows: None,
        };
        let id = window.writer_id.as_str();
        let rows = store.scan_positions(id, after, to, 10_000).await.unwrap();
        verify(&store, &window).await;
        let mut purged = 0;
        loop {
            match store.purge(&window, 700).await.unwrap() {
                0 => break,
                n => purged += n,
            }
        }
        assert_eq!(purged, rows.len() as u64, "{after}..={to}");
        left -= purged;
        let positions = fresh.raw.collection::<Document>("positions");
        assert_eq!(positions.count_documents(doc! {}).await.unwrap(), left);
        after = to;
    }
    assert_eq!((left, lists(&fresh).await), (0, 0));
    fresh.drop().await;
}

#[tokio::test]
async fn a_row_stored_anew_after_a_purge_is_another_row() {
    let Some(fresh) = Fresh::new("lists_anew").await else {
        return;
    };
    let store = fresh.open().await;
    bring(&store, 0..100).await;
    let writer = store.writers(TABLE).await.unwrap().pop().unwrap();
    let window = Window {
        table: TABLE,
        writer_id: writer.writer_id,
        after: 0,
        to: writer.committed,
        state: WindowState::Planned,
        rows: None,
    };
    verify(&store, &window).await;
    assert_eq!(store.purge(&window, 60).await.unwrap(), 60);
    // The same rows again: the list of the window still names them, by the same `_id`s.
    assert_eq!(bring(&store, 0..100).await, 60);
    assert_eq!(store.purge(&window, 1_000).await.unwrap(), 40);
    assert_eq!(store.purge(&window, 1_000).await.unwrap(), 0);
    let mut lake = Lake::default();
    lake.take(&store).await;
    assert_eq!(lake.seen.len(), 60);
    fresh.drop().await;
}
