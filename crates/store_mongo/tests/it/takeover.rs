//! Large batches: what a dead writer left is taken over by few commands, and who lives is waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mongodb::bson::{Document, doc};
use store::conformance::build::{batch, position};
use store::{Appended, Batch, ErrorKind, Reader, Writer};
use store_mongo::MongoStore;
use store_mongo::tuning::{Point, Tuning};
use tokio::task::JoinSet;

use crate::lake::Lake;
use crate::race::Gate;
use crate::server::{Fresh, until};

const ROWS: u64 = 10_000;
/// Commands the heir of a whole batch may send: by thousands, insert, see who holds the rows, take over, see
/// that it worked; and a dozen for the writers, what leads to the rows, last positions and the commit.
const FEW: usize = 4 * 10 + 12;

fn points(rows: u64) -> Batch {
    batch((0..rows).map(|seq| {
        let order = format!("o{}", seq % 50);
        position(Some(&order), "d", i64::try_from(seq).unwrap(), Some(seq))
    }))
}

async fn bring(store: &MongoStore, rows: u64) -> Appended {
    loop {
        match store.append(points(rows)).await {
            Ok(appended) => return appended,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
        }
    }
}

/// Counts commands by name and collection.
#[derive(Clone, Default)]
struct Count(Arc<Mutex<BTreeMap<String, usize>>>);

impl Count {
    fn watched(&self, tuning: Tuning) -> Tuning {
        let count = self.clone();
        let watch = move |name: &str, command: &Document| {
            let of = command.get_str(name).unwrap_or_default();
            *count
                .0
                .lock()
                .unwrap()
                .entry(format!("{name} {of}"))
                .or_default() += 1;
        };
        Tuning {
            watch: Some(Arc::new(watch)),
            ..tuning
        }
    }

    fn of(&self, command: &str) -> usize {
        self.0.lock().unwrap().get(command).copied().unwrap_or(0)
    }

    /// All but looks at writers and signs of life, whose number depends on the time it takes.
    fn of_work(&self) -> BTreeMap<String, usize> {
        let mut all = self.0.lock().unwrap().clone();
        all.retain(|name, _| name != "find writers" && name != "update writers");
        all
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// Takes the rows of a dead writer over and returns how many commands that took, and which.
async fn take_over(fresh: &Fresh, tuning: Tuning) -> (usize, String) {
    let gate = Gate::new();
    let dying = fresh.open_with(gate.at(Point::BeforeCommit)).await;
    let mut append = JoinSet::new();
    append.spawn(async move { dying.append(points(ROWS)).await });
    gate.reached.notified().await;
    append.shutdown().await;
    let count = Count::default();
    let heir = fresh.open_with(count.watched(tuning)).await;
    count.clear();
    let counted = bring(&heir, ROWS).await;
    assert_eq!((counted.stored, counted.duplicate), (ROWS, 0));
    let sent = count.of_work();
    let mut lake = Lake::default();
    lake.take(&heir).await;
    assert_eq!(lake.contradiction(ROWS), None);
    assert_eq!(heir.counts().await.unwrap().positions, ROWS);
    (sent.values().sum(), format!("{sent:?}"))
}

#[tokio::test]
async fn what_a_dead_writer_left_is_taken_over_by_few_commands() {
    let Some(fresh) = Fresh::new("takeover").await else {
        return;
    };
    let (sent, all) = take_over(&fresh, Tuning::default()).await;
    assert!(sent <= FEW, "{sent} commands for {ROWS} rows: {all:?}");
    fresh.drop().await;
}

#[tokio::test]
async fn control_a_takeover_of_few_rows_at_a_time_is_noticed() {
    let Some(fresh) = Fresh::new("takeover_control").await else {
        return;
    };
    let tuning = Tuning {
        rows_a_claim: Some(50),
        ..Tuning::default()
    };
    let (sent, _) = take_over(&fresh, tuning).await;
    assert!(sent > FEW, "{sent} commands went unnoticed");
    fresh.drop().await;
}

#[tokio::test]
async fn two_living_writers_with_the_same_large_batch_both_finish() {
    let Some(fresh) = Fresh::new("takeover_two").await else {
        return;
    };
    let one = fresh.open().await;
    let two = fresh.open().await;
    let (a, b) = tokio::join!(bring(&one, ROWS), bring(&two, ROWS));
    assert_eq!(
        (a.stored + b.stored, a.duplicate + b.duplicate),
        (ROWS, ROWS)
    );
    let mut lake = Lake::default();
    lake.take(&one).await;
    assert_eq!(lake.contradiction(ROWS), None);
    assert_eq!(one.counts().await.unwrap().positions, ROWS);
    fresh.drop().await;
}

/// A writer is held up before its commit while another one brings the same rows. Returns whether it was fenced
/// by then, and what the other one counted.
async fn slow(fresh: &Fresh, silent: bool) -> (bool, Appended) {
    const FEW_ROWS: u64 = 100;
    /// Looks of the other writer at it: more than its patience with a silent one allows for.
    const LOOKS: usize = 200;
    let gate = Gate::new();
    let tuning = Tuning {
        silent,
        ..gate.at(Point::BeforeCommit)
    };
    let slow = fresh.open_with(tuning).await;
    let mut working = JoinSet::new();
    working.spawn(async move { bring(&slow, FEW_ROWS).await });
    gate.reached.notified().await;
    let count = Count::default();
    let other = fresh.open_with(count.watched(Tuning::default())).await;
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { bring(&other, FEW_ROWS).await });
    let writers = fresh.raw.collection::<Document>("writers");
    let fenced = || async {
        let found = writers.find_one(doc! { "fenced": true }).await.unwrap();
        found.is_some()
    };
    until("patience is lost, or would have been", || async {
        count.of("find writers") > LOOKS || fenced().await
    })
    .await;
    let was_fenced = fenced().await;
    gate.release();
    let of_slow = working.join_next().await.unwrap().unwrap();
    let of_other = waiting.join_next().await.unwrap().unwrap();
    assert_eq!(of_slow.stored + of_other.stored, FEW_ROWS);
    (was_fenced, of_other)
}

#[tokio::test]
async fn a_writer_that_gives_signs_of_life_is_waited_for() {
    let Some(fresh) = Fresh::new("takeover_slow").await else {
        return;
    };
    let (fenced, of_other) = slow(&fresh, false).await;
    assert!(!fenced, "it was fenced while it was at work");
    assert_eq!(of_other.stored, 0);
    fresh.drop().await;
}

#[tokio::test]
async fn control_a_writer_that_gives_no_signs_of_life_is_fenced() {
    let Some(fresh) = Fresh::new("takeover_silent").await else {
        return;
    };
    let (fenced, _) = slow(&fresh, true).await;
    assert!(fenced);
    fresh.drop().await;
}
