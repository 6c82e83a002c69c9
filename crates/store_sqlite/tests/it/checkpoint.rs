//! The write-ahead log is copied beside the writer, stays short, and costs no row.

use std::path::Path;

use model::OrderId;
use rusqlite::Connection;
use store::conformance::build::{batch, position};
use store::{Reader as _, Writer as _};
use store_sqlite::{Options, SqliteStore};

/// Length at which a log is copied here: 64 pages, one or two batches.
const LOG_BYTES: u64 = 256 << 10;
/// Rows of a batch.
const ROWS: i64 = 200;

fn open(path: &Path) -> SqliteStore {
    let options = Options {
        log_bytes: LOG_BYTES,
        ..Options::default()
    };
    SqliteStore::open(path, &options).unwrap()
}

/// Appends the batch of a number.
async fn append(store: &SqliteStore, number: i64) {
    let rows = (number * ROWS..(number + 1) * ROWS)
        .map(|i| position(Some(&format!("o{}", i % 50)), "d", i, None));
    let appended = store.append(batch(rows)).await.unwrap();
    assert_eq!(appended.stored, ROWS.cast_unsigned());
}

/// Returns how many pages are in the log.
fn pages(on: &Connection) -> i64 {
    on.query_row("PRAGMA main.wal_checkpoint(NOOP)", [], |row| row.get(1))
        .unwrap()
}

fn integrity(on: &Connection) -> String {
    on.query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap()
}

#[tokio::test]
async fn the_log_stays_short_while_batches_come_and_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let store = open(&path);
    let raw = Connection::open(&path).unwrap();
    let order = OrderId::new("o7").unwrap();
    let (mut longest, mut begun_anew, mut before) = (0, 0, 0);
    for number in 0..200 {
        append(&store, number).await;
        let last = store.last_by_order(&order).await.unwrap().unwrap();
        let expected = store::conformance::build::at(number * ROWS + 157);
        assert_eq!(last.event_time, expected, "batch {number}");
        let now = pages(&raw);
        begun_anew += i64::from(now < before);
        before = now;
        longest = longest.max(now);
    }
    assert!(
        begun_anew >= 10,
        "begun anew {begun_anew} times, {longest} pages"
    );
    // Four times its length, what one batch adds, and one that a reader held up.
    assert!(
        longest < 4 * 64 + 512,
        "{longest} pages, begun anew {begun_anew} times"
    );
    drop(store);
    assert_eq!(integrity(&raw), "ok");
    assert_eq!(open(&path).counts().await.unwrap().positions, 40_000);
}

#[tokio::test]
async fn a_reader_that_stays_makes_the_log_longer_and_nothing_worse() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let store = open(&path);
    append(&store, 0).await;
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let seen = || -> i64 {
        let sql = "SELECT count(*) FROM positions";
        reader.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(seen(), ROWS);
    let raw = Connection::open(&path).unwrap();
    let mut before = pages(&raw);
    for number in 1..60 {
        append(&store, number).await;
        let now = pages(&raw);
        assert!(now > before, "begun anew under a reader, at batch {number}");
        before = now;
    }
    assert_eq!(seen(), ROWS, "a transaction sees what it saw first");
    reader.execute_batch("COMMIT").unwrap();
    let mut number = 60;
    while pages(&raw) >= before {
        assert!(number < 200, "never begun anew after the reader went");
        append(&store, number).await;
        before = before.max(pages(&raw));
        number += 1;
    }
    drop((store, reader));
    assert_eq!(integrity(&raw), "ok");
    assert_eq!(
        open(&path).counts().await.unwrap().positions,
        (number * ROWS).cast_unsigned()
    );
}
