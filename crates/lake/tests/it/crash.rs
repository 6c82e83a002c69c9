//! The window protocol: a process dies at every call it makes, before or after the call is carried out, and
//! the next one repairs what it left.

use std::collections::BTreeSet;
use std::sync::Arc;

use lake::storage::LocalStorage;
#[cfg(feature = "s3")]
use lake::storage::{Access, Storage};
use lake::{LakeError, Lease, Root};
use service::ManualClock;
use store::{LakeSource, LakeTable, WindowState};

use crate::source::MemorySource;
use crate::storage::{Death, MemoryStorage};
use crate::world::{DAY_0, World, at};

/// Dies at call `number`, then gets more rows, late ones among them, and runs to the end.
async fn dies_at(
    mut world: World,
    number: u64,
    death: Death,
) -> (Vec<String>, Option<&'static str>) {
    world.store(0, 60);
    let outcome = world.run(Some((number, death))).await;
    let died_in = world.faults.died_in();
    assert!(outcome.is_err() || died_in.is_none_or(|call| call == "release_lease"));
    world.store(60, 21);
    let summary = world.run(None).await.unwrap();
    assert!(summary.complete, "{summary:?}");
    (world.faults_found().await, died_in)
}

/// The calls an undisturbed first run makes.
async fn calls() -> u64 {
    let mut world = World::in_memory();
    world.store(0, 60);
    world.run(None).await.unwrap();
    world.faults.calls()
}

#[tokio::test]
async fn a_crash_at_any_call_loses_nothing_and_repeats_nothing() {
    let calls = calls().await;
    assert!(calls > 60, "{calls}");
    let mut died_in = BTreeSet::new();
    for number in 0..calls {
        for death in [Death::Before, Death::After] {
            let (wrong, call) = dies_at(World::in_memory(), number, death).await;
            assert!(
                wrong.is_empty(),
                "{death:?} call {number} ({call:?}): {wrong:#?}"
            );
            died_in.extend(call);
        }
    }
    for call in [
        "plan_window",
        "put",
        "put_if_absent",
        "advance_window",
        "get",
    ] {
        assert!(died_in.contains(call), "never died in {call}: {died_in:?}");
    }
}

#[tokio::test]
async fn a_crash_leaves_a_folder_repairable_too() {
    for number in (0..calls().await).step_by(5) {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new(Root::from_folder(folder.path()).open());
        let (wrong, call) = dies_at(world, number, Death::After).await;
        assert!(wrong.is_empty(), "call {number} ({call:?}): {wrong:#?}");
    }
}

#[cfg(feature = "s3")]
#[tokio::test]
async fn a_crash_leaves_a_bucket_repairable_too() {
    for (index, number) in (0..calls().await).step_by(6).enumerate() {
        let Some((endpoint, bucket)) = crate::moto::moto("lake::crash over S3") else {
            return;
        };
        let storage = crate::s3::storage(&bucket, crate::s3::options(&endpoint));
        let storage: Arc<dyn Storage> = Arc::new(storage);
        storage.check(Access::Write).await.unwrap();
        let death = [Death::Before, Death::After][index % 2];
        let (wrong, call) = dies_at(World::new(storage), number, death).await;
        assert!(
            wrong.is_empty(),
            "{death:?} call {number} ({call:?}): {wrong:#?}"
        );
    }
}

#[tokio::test]
async fn crash_upon_crash_ends_well_too() {
    let mut world = World::in_memory();
    world.store(0, 60);
    // Each process gets one call further than the one before.
    for number in 0..calls().await {
        drop(world.run(Some((number, Death::After))).await);
    }
    world.run(None).await.unwrap();
    assert_eq!(world.faults_found().await, Vec::<String>::new());
}

/// Negative control: without the last transaction id, a crash between the commit and the watermark makes the
/// next run commit again, and the checks above notice.
#[tokio::test]
async fn without_the_transaction_check_the_checks_notice_the_second_commit() {
    let mut noticed = 0;
    for number in 0..calls().await {
        let storage = MemoryStorage {
            forget_transactions: true,
            ..MemoryStorage::default()
        };
        let mut world = World::new(Arc::new(storage));
        world.window_rows = 1_000;
        world.store(0, 60);
        drop(world.run(Some((number, Death::After))).await);
        if world.faults.died_in() != Some("put_if_absent") {
            continue;
        }
        world.run(None).await.unwrap();
        let wrong = world.faults_found().await;
        noticed += usize::from(
            wrong
                .iter()
                .any(|fault| fault.contains("committed 2 times")),
        );
    }
    assert!(noticed > 0, "the second commit went unnoticed");
}

#[tokio::test]
async fn a_damaged_file_is_never_verified() {
    let mut world = World::in_memory();
    world.store(0, 60);
    let undisturbed = calls().await;
    // Die right after the commit of the first window, then lose a byte of one of its files.
    for number in 0..undisturbed {
        if world.faults.died_in() == Some("put_if_absent") {
            break;
        }
        world = World::in_memory();
        world.store(0, 60);
        drop(world.run(Some((number, Death::After))).await);
    }
    let snapshot = world.snapshot(LakeTable::DelivererLocation).await;
    let add = snapshot.files.values().next().unwrap();
    let key = world
        .table(LakeTable::DelivererLocation)
        .key(&add.path)
        .unwrap();
    let content = world.storage.get(&key).await.unwrap().unwrap();
    world.storage.put(&key, content.slice(1..)).await.unwrap();
    let error = world.run(None).await.unwrap_err();
    assert!(matches!(error, LakeError::Mismatch { .. }), "{error}");
    let window = world
        .source
        .state
        .lock()
        .unwrap()
        .windows
        .values()
        .next()
        .cloned();
    assert_eq!(window.unwrap()[0].state, WindowState::Committed);
}

#[tokio::test]
async fn a_lake_that_is_not_the_one_offloaded_to_is_refused() {
    let mut world = World::in_memory();
    world.store(0, 60);
    world.run(None).await.unwrap();
    world.storage = Arc::new(MemoryStorage::default());
    world.store(60, 9);
    let error = world.run(None).await.unwrap_err();
    assert!(
        matches!(error, LakeError::Diverged { in_lake: 0, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn two_runners_never_work_at_once() {
    let mut world = World::in_memory();
    world.store(0, 60);
    let now = DAY_0 + 100 * 86_400_000_000;
    let taken = world.source.acquire_lease("lake", "another", now, 1).await;
    assert!(taken.unwrap());
    let error = world.run(None).await.unwrap_err();
    assert!(matches!(error, LakeError::LeaseHeld { .. }), "{error}");
}

#[tokio::test]
async fn a_lease_is_kept_through_long_work_and_its_loss_ends_the_work() {
    let source = MemorySource::default();
    let clock = Arc::new(ManualClock::new(at(DAY_0)));
    let lease = |holder| Lease::new(Arc::new(source.clone()), clock.clone(), holder, 40_000);
    let (kept, other) = (lease("kept"), lease("other"));
    kept.acquire().await.unwrap();
    let long = async {
        // Ten times the lease's length goes by on the clock, never more than a quarter between renewals.
        for calls in 1..=40 {
            while source.faults.calls() < calls {
                tokio::task::yield_now().await;
            }
            clock.advance_micros(10_000);
        }
        Ok::<_, LakeError>(())
    };
    kept.keep(long).await.unwrap();
    clock.advance_micros(40_000);
    other.acquire().await.unwrap();
    let forever = std::future::pending::<Result<(), LakeError>>();
    let error = kept.keep(forever).await.unwrap_err();
    assert!(matches!(error, LakeError::LeaseHeld { .. }), "{error}");
}

#[tokio::test]
async fn the_same_window_makes_the_same_bytes() {
    let mut folders = Vec::new();
    for _ in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::new(Arc::new(LocalStorage::new(folder.path())));
        world.store(0, 200);
        world.run(None).await.unwrap();
        let mut files = Vec::new();
        for table in LakeTable::ALL {
            let delta = world.table(table);
            for path in delta.load().await.unwrap().files.into_keys() {
                let key = delta.key(&path).unwrap();
                files.push((path, world.storage.get(&key).await.unwrap().unwrap()));
            }
        }
        folders.push(files);
    }
    assert!(folders[0].len() > 10);
    assert_eq!(folders[0], folders[1]);
}
