//! `kill -9` of the writing process and of the server: what was answered `Ok` is there, once.
//!
//! The writing child is this test binary again, told by the environment what to write.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use store::conformance::build::{Chance, batch, position};
use store::{Batch, ErrorKind, Reader, SourceCursor, Writer};
use store_mongo::{MongoStore, Options};
use tokio::task::JoinSet;

use crate::lake::Lake;
use crate::server::{Durability, Fresh, Server, own, until};

const URI: &str = "LASTMILE_TEST_KILL_URI";
const DATABASE: &str = "LASTMILE_TEST_KILL_DATABASE";
const CURSOR_FIRST: &str = "LASTMILE_TEST_KILL_CURSOR_FIRST";

fn rows(from: u64, to: u64) -> Batch {
    batch((from..to).map(|i| {
        let order = format!("o{}", i % 7);
        position(Some(&order), "d", i64::try_from(i).unwrap(), Some(i))
    }))
}

fn cursor(next: u64) -> SourceCursor {
    SourceCursor {
        source: "log".into(),
        next,
    }
}

/// Writes for ever, from where the cursor stands; does nothing unless told to by the environment.
#[tokio::test]
async fn child() {
    let (Ok(uri), Ok(database)) = (std::env::var(URI), std::env::var(DATABASE)) else {
        return;
    };
    let cursor_first = std::env::var_os(CURSOR_FIRST).is_some();
    let options = Options {
        database: Some(database),
        ..Options::new(uri)
    };
    let store = MongoStore::open(&options).await.unwrap();
    let mut chance = Chance::new(u64::from(std::process::id()));
    let mut next = store.cursor("log").await.unwrap().unwrap_or(0);
    loop {
        let end = next + 1 + chance.below(300);
        let mut whole = rows(next, end);
        if cursor_first {
            let ahead = Batch {
                cursor: Some(cursor(end)),
                ..Batch::default()
            };
            store.append(ahead).await.unwrap();
            println!("at {end}");
        } else {
            whole.cursor = Some(cursor(end));
        }
        store.append(whole).await.unwrap();
        println!("at {end}");
        std::io::stdout().flush().unwrap();
        next = end;
    }
}

/// Lets a child write for a while and kills it; returns the last progress it reported.
fn write_and_kill(fresh: &Fresh, lines: u64, delay: Duration, cursor_first: bool) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "kill::child", "--nocapture"])
        .env(URI, &fresh.options.uri)
        .env(DATABASE, fresh.raw.name())
        .stdout(Stdio::piped());
    if cursor_first {
        command.env(CURSOR_FIRST, "1");
    }
    let mut child = command.spawn().unwrap();
    let (mut reported, mut left) = (0, lines);
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
    // Into the middle of the next batch: the only way to hit between its steps is by time.
    std::thread::park_timeout(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(said);
    reported
}

#[tokio::test]
async fn after_every_kill_of_a_writer_each_row_is_in_one_window() {
    let Some(fresh) = Fresh::new("kill_writer").await else {
        return;
    };
    let store = fresh.open().await;
    let mut chance = Chance::new(4711);
    let mut lake = Lake::default();
    for cycle in 0..12 {
        let delay = Duration::from_millis(chance.below(40));
        let reported = write_and_kill(&fresh, 1 + chance.below(5), delay, false);
        let next = store.cursor("log").await.unwrap().unwrap_or(0);
        assert!(next >= reported, "cycle {cycle}: {next} after {reported}");
        lake.take(&store).await;
        assert_eq!(lake.contradiction(next), None, "cycle {cycle}");
    }
    // What the last child left behind is brought again.
    let next = store.cursor("log").await.unwrap().unwrap();
    let end = next + 400;
    store.append(rows(next, end)).await.unwrap();
    lake.take(&store).await;
    assert_eq!(lake.contradiction(end), None);
    assert_eq!(store.counts().await.unwrap().positions, end);
    fresh.drop().await;
}

#[tokio::test]
async fn control_a_cursor_written_before_its_rows_is_caught() {
    let Some(fresh) = Fresh::new("kill_control").await else {
        return;
    };
    let store = fresh.open().await;
    let mut lake = Lake::default();
    for lines in 1..=60 {
        // An odd line tells that only the cursor was written.
        write_and_kill(&fresh, lines, Duration::ZERO, true);
        let next = store.cursor("log").await.unwrap().unwrap_or(0);
        lake.take(&store).await;
        if lake.contradiction(next).is_some() {
            return fresh.drop().await;
        }
    }
    panic!("60 kills between cursor and rows went unnoticed");
}

/// Brings batch after batch until told to stop, each until it is stored; returns how many rows those were.
async fn write(store: MongoStore, stop: Arc<AtomicBool>, stored: Arc<AtomicU64>) {
    let mut chance = Chance::new(99);
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let end = next + 1 + chance.below(500);
        while let Err(error) = store.append(rows(next, end)).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        }
        next = end;
        stored.store(end, Ordering::Relaxed);
    }
}

/// Kills a server again and again under load; returns how the rows it then has differ from those acknowledged.
async fn kill_servers(test: &str, durability: Durability) -> Option<Result<(), String>> {
    let folder = tempfile::tempdir().unwrap();
    let mut server = own(test, folder.path(), durability)?;
    let port = server.port();
    let mut fresh = Fresh::on(&server.uri(), test).await;
    fresh.options.timeout = Duration::from_millis(500);
    let store = fresh.open().await;
    let (stop, stored) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut writing = JoinSet::new();
    writing.spawn(write(store.another_writer(), stop.clone(), stored.clone()));
    for _ in 0..4 {
        let before = stored.load(Ordering::Relaxed);
        until("rows are stored again", || async {
            stored.load(Ordering::Relaxed) > before + 500
        })
        .await;
        server.kill();
        server = Server::start(folder.path(), port, durability).unwrap();
    }
    let before = stored.load(Ordering::Relaxed);
    until("rows are stored at last", || async {
        stored.load(Ordering::Relaxed) > before
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    writing.join_next().await.unwrap().unwrap();
    let mut lake = Lake::default();
    lake.take(&store).await;
    let stored = stored.load(Ordering::Relaxed);
    let counted = store.counts().await.unwrap().positions;
    let (seen, contradiction) = (lake.seen.len() as u64, lake.contradiction(stored));
    if contradiction.is_none() && seen == stored && counted == stored {
        return Some(Ok(()));
    }
    Some(Err(format!(
        "{stored} acknowledged, {counted} counted, {seen} in windows; {contradiction:?}"
    )))
}

#[tokio::test]
async fn after_every_kill_of_the_server_nothing_is_lost_or_twice() {
    if let Some(outcome) = kill_servers("kill_server", Durability::Journal).await {
        assert_eq!(outcome, Ok(()));
    }
}

#[tokio::test]
async fn control_a_server_that_answers_before_it_writes_is_caught() {
    for _ in 0..5 {
        match kill_servers("kill_server_control", Durability::None).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
    panic!("20 kills of a server that keeps acknowledged writes in memory went unnoticed");
}
