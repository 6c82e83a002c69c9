//! A purge beside readers: they see all that stays, all the time.

use model::OrderId;
use store::conformance::build::{batch, position};
use store::{HistoryOf, HistoryQuery, LakeSource, LakeTable, Reader, Window, WindowState, Writer};

use crate::server::Fresh;

#[tokio::test]
async fn readers_see_what_stays_while_the_rest_is_purged() {
    let Some(fresh) = Fresh::new("purge").await else {
        return;
    };
    let store = fresh.open().await;
    let old = |i: i64| position(Some("old"), "d", i, None);
    let kept = |i: i64| position(Some("kept"), "d", 1_000_000 + i, None);
    store.append(batch((0..6_000).map(old))).await.unwrap();
    let table = LakeTable::DelivererLocation;
    let writer = store.writers(table).await.unwrap().pop().unwrap();
    store.append(batch((0..100).map(kept))).await.unwrap();
    let window = Window {
        table,
        writer_id: writer.writer_id,
        after: 0,
        to: writer.committed,
        state: WindowState::Planned,
        rows: None,
    };
    store.plan_window(&window).await.unwrap();
    for state in [WindowState::Committed, WindowState::Verified] {
        store.advance_window(&window, state, 6_000).await.unwrap();
    }
    let purging = async {
        let mut purged = 0;
        loop {
            match store.purge(&window, 2_500).await.unwrap() {
                0 => return purged,
                n if n > 2_500 => panic!("a purge above its limit"),
                n => purged += n,
            }
        }
    };
    let query = HistoryQuery {
        of: HistoryOf::Order(OrderId::new("kept").unwrap()),
        from: None,
        to: None,
        limit: 1_000,
        after: None,
    };
    let reading = async {
        let mut reads = 0;
        loop {
            assert_eq!(store.history(&query).await.unwrap().items.len(), 100);
            reads += 1;
            let counts = store.counts().await.unwrap();
            if counts.positions == 100 {
                return reads;
            }
        }
    };
    let (purged, reads) = tokio::join!(purging, reading);
    assert_eq!(purged, 6_000);
    assert!(reads > 0);
    let last = store
        .last_by_order(&OrderId::new("old").unwrap())
        .await
        .unwrap();
    assert_eq!(last, Some(old(5_999)), "the last position stays");
    fresh.drop().await;
}
