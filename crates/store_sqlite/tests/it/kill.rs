//! `kill -9` at any moment: the cursor on disk says exactly which rows are there.
//!
//! The child is this test binary again, told by the environment to write; the parent kills it after
//! some lines of progress drawn by chance.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use store::conformance::build::{Chance, batch, position};
use store::{Batch, LakeSource, LakeTable, Reader, SourceCursor, Writer};
use store_sqlite::{Options, SqliteStore};

const FILE: &str = "LASTMILE_TEST_KILL_FILE";
const CURSOR_FIRST: &str = "LASTMILE_TEST_KILL_CURSOR_FIRST";

fn open(path: &Path) -> SqliteStore {
    // So short that the log is copied and begun anew every few batches.
    let options = Options {
        log_bytes: 64 << 10,
        ..Options::default()
    };
    SqliteStore::open(path, &options).unwrap()
}

/// Writes for ever, from where the cursor stands; does nothing unless told to by the environment.
#[tokio::test]
async fn child() {
    let Some(path) = std::env::var_os(FILE) else {
        return;
    };
    let cursor_first = std::env::var_os(CURSOR_FIRST).is_some();
    let store = open(Path::new(&path));
    let mut chance = Chance::new(u64::from(std::process::id()));
    let mut next = store.cursor("log").await.unwrap().unwrap_or(0);
    loop {
        let end = next + 1 + chance.below(300);
        let rows = (next..end).map(|i| {
            let order = format!("o{}", i % 7);
            position(Some(&order), "d", i64::try_from(i).unwrap(), Some(i))
        });
        let cursor = Some(SourceCursor {
            source: "log".into(),
            next: end,
        });
        let mut whole = batch(rows);
        if cursor_first {
            let ahead = Batch {
                cursor,
                ..Batch::default()
            };
            store.append(ahead).await.unwrap();
            println!("at {end}");
        } else {
            whole.cursor = cursor;
        }
        store.append(whole).await.unwrap();
        println!("at {end}");
        std::io::stdout().flush().unwrap();
        next = end;
    }
}

/// Lets a child write for a while and kills it; returns the last progress it reported.
fn write_and_kill(path: &Path, lines: u64, cursor_first: bool) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "kill::child", "--nocapture"])
        .env(FILE, path)
        .stdout(Stdio::piped());
    if cursor_first {
        command.env(CURSOR_FIRST, "1");
    }
    let mut child = command.spawn().unwrap();
    let mut reported = 0;
    let mut left = lines;
    // Open until the child is dead: it would end by itself at the first line that nobody can read.
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in said.by_ref() {
        let line = line.unwrap();
        let Some((_, at)) = line.split_once("at ") else {
            continue;
        };
        reported = at.parse().unwrap_or(reported);
        left -= 1;
        if left == 0 {
            break;
        }
    }
    assert_eq!(left, 0, "the child ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(said);
    reported
}

/// Returns what does not fit together in the file, if anything.
async fn contradiction(path: &Path, reported: u64) -> Option<String> {
    let store = open(path);
    let cursor = store.cursor("log").await.unwrap().unwrap_or(0);
    let counts = store.counts().await.unwrap();
    let committed = store.writers(LakeTable::DelivererLocation).await.unwrap()[0].committed;
    let rows = store
        .scan_positions(store.id(), 0, u64::MAX, usize::MAX)
        .await
        .unwrap();
    let seen: Vec<_> = rows.iter().filter_map(|row| row.row.seq).collect();
    let sum = (cursor, counts.positions, committed, rows.len() as u64);
    let is_right = cursor >= reported
        && sum == (cursor, cursor, cursor, cursor)
        && seen.iter().copied().eq(0..cursor)
        && counts.orders == cursor.min(7);
    (!is_right).then(|| format!("cursor, counted, committed, rows: {sum:?}; reported {reported}"))
}

#[tokio::test]
async fn after_every_kill_rows_and_cursor_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    let mut chance = Chance::new(4711);
    for cycle in 0..20 {
        let reported = write_and_kill(&path, 1 + chance.below(40), false);
        let wrong = contradiction(&path, reported).await;
        assert_eq!(wrong, None, "cycle {cycle}");
    }
}

#[tokio::test]
async fn control_a_cursor_written_apart_is_caught() {
    for lines in 1..=60 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let reported = write_and_kill(&path, lines, true);
        if contradiction(&path, reported).await.is_some() {
            return;
        }
    }
    panic!("60 kills between cursor and rows went unnoticed");
}
