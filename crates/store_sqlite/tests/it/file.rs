//! The file itself: reopened, of another program or version, shared, and read back by chance.

use std::path::Path;

use proptest::prelude::*;
use rusqlite::Connection;
use store::conformance::build::{Chance, batch, position};
use store::{Batch, ErrorKind, LakeSource, Reader, SourceCursor, Writer};
use store_sqlite::{Options, SqliteStore};

fn open(path: &Path) -> Result<SqliteStore, store::StoreError> {
    SqliteStore::open(path, &Options::default())
}

#[tokio::test]
async fn a_reopened_file_is_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/store.sqlite");
    let store = open(&path).unwrap();
    let id = store.id().to_owned();
    let first = Batch {
        cursor: Some(SourceCursor {
            source: "log".into(),
            next: 3,
        }),
        ..batch((0..10).map(|i| position(Some("o"), "d", i, None)))
    };
    store.append(first).await.unwrap();
    drop(store);
    let store = open(&path).unwrap();
    assert_eq!(store.id(), id);
    assert_eq!(store.sync("log").await.unwrap(), Some(3));
    let again = batch((0..11).map(|i| position(Some("o"), "d", i, None)));
    let appended = store.append(again).await.unwrap();
    assert_eq!((appended.stored, appended.duplicate), (1, 10));
}

#[test]
fn a_file_of_another_version_or_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    drop(open(&path).unwrap());
    let raw = Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.source.to_string().contains("schema version 99"));

    let other = folder.path().join("other.sqlite");
    let foreign = Connection::open(&other).unwrap();
    foreign.execute_batch("CREATE TABLE mine (x)").unwrap();
    let error = open(&other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.source.to_string().contains("another program"));

    let text = folder.path().join("notes.txt");
    std::fs::write(
        &text,
        "no database at all, and longer than a header of one hundred bytes. ".repeat(4),
    )
    .unwrap();
    assert_eq!(open(&text).unwrap_err().kind(), ErrorKind::Data);
    assert!(
        std::fs::read_to_string(&text)
            .unwrap()
            .starts_with("no database")
    );
}

#[tokio::test]
async fn two_stores_on_one_file_share_ids_counts_and_sequences() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let (one, two) = (open(&path).unwrap(), open(&path).unwrap());
    let points = |from: i64| {
        batch((from..from + 50).map(|i| position(Some(&format!("o{}", i % 9)), "d", i, None)))
    };
    for round in 0..10 {
        let (a, b) = tokio::join!(
            one.append(points(round * 50)),
            two.append(points(round * 50 + 25))
        );
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(a.stored + a.duplicate + b.stored + b.duplicate, 100);
    }
    assert_eq!(one.counts().await.unwrap(), two.counts().await.unwrap());
    assert_eq!(one.counts().await.unwrap().positions, 525);
    assert_eq!(one.counts().await.unwrap().orders, 9);
    let rows = two.scan_positions(one.id(), 0, 1_000, 1_000).await.unwrap();
    assert!(rows.iter().map(|row| row.writer_seq).eq(1..=525));
}

#[tokio::test]
async fn history_is_whole_across_segments() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store.sqlite")).unwrap();
    // Three segments and a bit, times shuffled across them, each tenth point of the order looked for.
    let mut chance = Chance::new(3);
    let mut points: Vec<_> = (0..100_000)
        .map(|i| {
            let order = if i % 10 == 0 { "wanted" } else { "noise" };
            position(Some(order), "d", i, Some(1))
        })
        .collect();
    chance.shuffle(&mut points);
    for part in points.chunks(10_000) {
        store.append(batch(part.iter().cloned())).await.unwrap();
    }
    let order = model::OrderId::new("wanted").unwrap();
    let mut query = store::HistoryQuery {
        of: store::HistoryOf::Order(order),
        from: None,
        to: None,
        limit: 999,
        after: None,
    };
    let mut times = Vec::new();
    loop {
        let page = store.history(&query).await.unwrap();
        times.extend(page.items.iter().map(|p| p.event_time));
        query.after = page.next_cursor;
        if query.after.is_none() {
            break;
        }
    }
    let expected = (0..100_000).step_by(10).map(store::conformance::build::at);
    assert!(times.into_iter().eq(expected));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_was_stored_is_what_the_lake_reads(seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let store = open(&folder.path().join("store.sqlite")).unwrap();
            let mut chance = Chance::new(seed);
            let mut points: Vec<_> = (0..60)
                .map(|_| chance.position(&["a", "b", "$c"], &["x", "y"]))
                .collect();
            store.append(batch(points.clone())).await.unwrap();
            let identity = |p: &model::Position| {
                (p.recency(), p.order_id.clone(), p.deliverer_id.clone())
            };
            points.sort_by_key(identity);
            points.dedup_by_key(|p| identity(p));
            let rows = store.scan_positions(store.id(), 0, 100, 100).await.unwrap();
            let mut rows: Vec<_> = rows.into_iter().map(|row| row.row).collect();
            rows.sort_by_key(identity);
            let keys = |all: &[model::Position]| all.iter().map(identity).collect::<Vec<_>>();
            assert_eq!(keys(&rows), keys(&points), "seed {seed}");
            for row in rows {
                // Of items with one identity any may be the one kept.
                let bits = |p: &model::Position| format!("{p:?} {:x}", p.lat.degrees().to_bits());
                let kept = bits(&row);
                let mut again = Chance::new(seed);
                let known = (0..60).any(|_| bits(&again.position(&["a", "b", "$c"], &["x", "y"])) == kept);
                assert!(known, "seed {seed}: {kept}");
            }
        });
    }
}
