//! Several writers, one lake: every row in exactly one window, whoever dies or is cancelled when.

use std::sync::Arc;
use std::time::Duration;

use model::Position;
use store::conformance::build::{Chance, batch, position};
use store::{Appended, Batch, ErrorKind, Reader, Writer};
use store_mongo::tuning::{Point, Tuning};
use store_mongo::{MongoStore, Options};
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::task::JoinSet;

use crate::lake::Lake;
use crate::server::Fresh;

const ROWS: u64 = 300;

fn point(seq: u64) -> Position {
    let order = format!("o{}", seq % 7);
    position(Some(&order), "d", i64::try_from(seq).unwrap(), Some(seq))
}

fn points() -> Batch {
    batch((0..ROWS).map(point))
}

/// Holds appends up at a point until released.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) reached: Arc<Notify>,
    open: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            reached: Arc::default(),
            open: Arc::new(Semaphore::new(0)),
        }
    }

    /// What is held up is as silent as a process that was stopped.
    pub(crate) fn at(&self, held: Point) -> Tuning {
        let gate = self.clone();
        let stop = move |point| -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
            let gate = gate.clone();
            Box::pin(async move {
                if point == held {
                    gate.reached.notify_one();
                    drop(gate.open.acquire().await.unwrap());
                }
            })
        };
        Tuning {
            stop: Some(Arc::new(stop)),
            silent: true,
            ..Tuning::default()
        }
    }

    pub(crate) fn release(&self) {
        self.open.add_permits(1_000);
    }
}

/// Brings all points until they are stored, as a subscriber does: a writer that was taken over from a few
/// times in a row gives the batch back.
async fn bring(store: &MongoStore) -> Appended {
    loop {
        match store.append(points()).await {
            Ok(appended) => return appended,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
        }
    }
}

/// An append that is dropped when all of it is written but the commit: what a kill leaves behind.
async fn leave_orphans(fresh: &Fresh) {
    let gate = Gate::new();
    let store = fresh.open_with(gate.at(Point::BeforeCommit)).await;
    let mut append = JoinSet::new();
    append.spawn(async move { store.append(points()).await });
    gate.reached.notified().await;
    append.shutdown().await;
}

#[tokio::test]
async fn orphans_are_taken_over_once_and_counted_once() {
    let Some(fresh) = Fresh::new("orphans").await else {
        return;
    };
    for bulk in [true, false] {
        fresh.raw.drop().await.unwrap();
        leave_orphans(&fresh).await;
        let mut lake = Lake::default();
        let one = fresh
            .open_with(Tuning {
                bulk_write: Some(bulk),
                ..Tuning::default()
            })
            .await;
        lake.take(&one).await;
        assert!(lake.seen.is_empty(), "what was not committed was taken");
        let two = one.another_writer();
        let (a, b) = tokio::join!(bring(&one), bring(&two));
        assert_eq!(
            (a.stored + b.stored, a.duplicate + b.duplicate),
            (ROWS, ROWS)
        );
        let third = bring(&one).await;
        assert_eq!((third.stored, third.duplicate), (0, ROWS));
        lake.take(&one).await;
        assert_eq!(lake.contradiction(ROWS), None, "bulk write: {bulk}");
        assert_eq!(one.counts().await.unwrap().positions, ROWS);
    }
    fresh.drop().await;
}

#[tokio::test]
async fn a_pipeline_takes_its_own_orphans_over_at_once() {
    let Some(fresh) = Fresh::new("own_orphans").await else {
        return;
    };
    let store = fresh.open().await;
    // A future dropped at its first wait for the server, and at ever later ones.
    let mut stored = 0;
    for millis in [0, 1, 3, 10, 30, 100] {
        let append = store.append(points());
        if let Ok(done) = tokio::time::timeout(Duration::from_millis(millis), append).await {
            stored += done.unwrap().stored;
        }
    }
    let last = bring(&store).await;
    // An append that was dropped after its commit is not counted by anybody.
    assert!(stored + last.stored <= ROWS && last.stored + last.duplicate == ROWS);
    let mut lake = Lake::default();
    lake.take(&store).await;
    assert_eq!(lake.contradiction(ROWS), None);
    fresh.drop().await;
}

/// A writer stands still before its commit and comes back when another has fenced it and is about to take
/// its rows over. Returns the lake's contradiction and the stopped writer's count.
async fn zombie(fresh: &Fresh, ignore_fences: bool) -> (Option<String>, Appended) {
    let (before_commit, before_claim) = (Gate::new(), Gate::new());
    let tuning = Tuning {
        ignore_fences,
        ..before_commit.at(Point::BeforeCommit)
    };
    let slow = fresh.open_with(tuning).await;
    let (mut stopped, mut taking_over) = (JoinSet::new(), JoinSet::new());
    stopped.spawn(async move { bring(&slow).await });
    before_commit.reached.notified().await;
    let heir = fresh.open_with(before_claim.at(Point::BeforeClaim)).await;
    let lake_store = heir.clone();
    taking_over.spawn(async move { bring(&heir).await });
    before_claim.reached.notified().await;
    // With the guard the writer learns that it was fenced and writes its batch again; without, it commits.
    before_commit.release();
    let mut lake = Lake::default();
    let counted = stopped.join_next().await.unwrap().unwrap();
    lake.take(&lake_store).await;
    before_claim.release();
    let heir = taking_over.join_next().await.unwrap().unwrap();
    assert_eq!(counted.stored + counted.duplicate, ROWS);
    assert_eq!(heir.stored + heir.duplicate, ROWS);
    lake.take(&lake_store).await;
    (lake.contradiction(ROWS), counted)
}

#[tokio::test]
async fn a_fenced_writer_cannot_commit() {
    let Some(fresh) = Fresh::new("zombie").await else {
        return;
    };
    let (contradiction, _) = zombie(&fresh, false).await;
    assert_eq!(contradiction, None);
    fresh.drop().await;
}

#[tokio::test]
async fn control_a_writer_that_ignores_its_fence_puts_rows_into_two_windows() {
    let Some(fresh) = Fresh::new("zombie_control").await else {
        return;
    };
    let (contradiction, counted) = zombie(&fresh, true).await;
    assert_eq!(counted.stored, ROWS, "it committed");
    assert!(contradiction.is_some(), "two windows went unnoticed");
    fresh.drop().await;
}

/// A writer is about to take rows over while another does so, commits, and has them taken by the lake. Returns
/// the lake's contradiction once the first has gone on.
async fn late_claim(fresh: &Fresh, claim_unguarded: bool) -> Option<String> {
    leave_orphans(fresh).await;
    let before_claim = Gate::new();
    let tuning = Tuning {
        claim_unguarded,
        ..before_claim.at(Point::BeforeClaim)
    };
    let late = fresh.open_with(tuning).await;
    let mut taking_over = JoinSet::new();
    taking_over.spawn(async move { bring(&late).await });
    before_claim.reached.notified().await;
    let early = fresh.open().await;
    assert_eq!(bring(&early).await.stored, ROWS);
    let mut lake = Lake::default();
    lake.take(&early).await;
    assert_eq!(lake.contradiction(ROWS), None);
    before_claim.release();
    let late = taking_over.join_next().await.unwrap().unwrap();
    lake.take(&early).await;
    let contradiction = lake.contradiction(ROWS);
    let is_duplicate = (late.stored, late.duplicate) == (0, ROWS);
    assert_eq!(is_duplicate, contradiction.is_none(), "{late:?}");
    contradiction
}

#[tokio::test]
async fn what_another_took_over_meanwhile_stays_there() {
    let Some(fresh) = Fresh::new("late_claim").await else {
        return;
    };
    assert_eq!(late_claim(&fresh, false).await, None);
    fresh.drop().await;
}

#[tokio::test]
async fn control_a_takeover_without_a_guard_puts_rows_into_two_windows() {
    let Some(fresh) = Fresh::new("late_claim_control").await else {
        return;
    };
    let contradiction = late_claim(&fresh, true).await;
    assert!(contradiction.is_some(), "two windows went unnoticed");
    fresh.drop().await;
}

/// Brings every batch until it is stored, cancelling some on the way.
async fn deliver(store: MongoStore, mut chance: Chance, parts: Vec<Vec<u64>>) -> u64 {
    let mut stored = 0;
    for part in parts {
        loop {
            let append = store.append(batch(part.iter().map(|&seq| point(seq))));
            let patience = Duration::from_millis(match chance.below(4) {
                0 => chance.below(40),
                _ => 60_000,
            });
            match tokio::time::timeout(patience, append).await {
                Ok(Ok(appended)) => {
                    stored += appended.stored;
                    break;
                }
                Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
                Err(_) => {}
            }
        }
    }
    stored
}

#[tokio::test]
async fn writers_of_the_same_messages_and_a_lake_at_work_agree_on_every_row() {
    let Some(fresh) = Fresh::new("race").await else {
        return;
    };
    let store = fresh.open().await;
    let lake = Arc::new(Mutex::new(Lake::default()));
    let seed = 7;
    let mut tasks = JoinSet::new();
    for number in 0..3 {
        let mut chance = Chance::new(seed * 10 + number);
        let mut all: Vec<u64> = (0..ROWS).collect();
        // Mostly in order, cut differently, some parts twice.
        let mut parts = Vec::new();
        while !all.is_empty() {
            let size = usize::try_from(1 + chance.below(60))
                .unwrap()
                .min(all.len());
            let part: Vec<u64> = all.drain(..size).collect();
            if chance.below(4) == 0 {
                parts.push(part.clone());
            }
            parts.push(part);
        }
        tasks.spawn(deliver(store.another_writer(), chance, parts));
    }
    let (taking, of) = (lake.clone(), store.clone());
    let mut taker = JoinSet::new();
    taker.spawn(async move {
        loop {
            taking.lock().await.take(&of).await;
        }
    });
    let mut stored = 0;
    while let Some(of_one) = tasks.join_next().await {
        stored += of_one.unwrap();
    }
    let mut lake = lake.lock().await;
    drop(taker);
    lake.take(&store).await;
    assert_eq!(lake.contradiction(ROWS), None, "seed {seed}");
    assert!(stored <= ROWS, "{stored} counted as stored, seed {seed}");
    assert_eq!(store.counts().await.unwrap().positions, ROWS, "seed {seed}");
    fresh.drop().await;
}

#[tokio::test]
async fn no_server_is_unavailable() {
    let options = Options {
        timeout: Duration::from_millis(200),
        // The discard port: nothing listens there.
        ..Options::new("mongodb://user:hunter2@127.0.0.1:9/")
    };
    let error = MongoStore::open(&options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let told = format!("{error:?} {error} {options:?}");
    assert!(!told.contains("hunter2"), "{told}");
}
