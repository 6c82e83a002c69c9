//! Deleting from the store what the lake has had for long enough: only that, only when it reads back, and whatever dies.

use std::collections::BTreeSet;

use bytes::Bytes;
use lake::LakeError;
use store::LakeTable;

use crate::storage::Death;
use crate::world::World;

/// Each run of a world begins an hour after the one before.
const HALF_AN_HOUR_US: i64 = 1_800_000_000;

fn world() -> World {
    let mut world = World::in_memory();
    world.purge_after_us = Some(HALF_AN_HOUR_US);
    world
}

fn purged(world: &World) -> usize {
    world.source.state.lock().unwrap().purged.len()
}

/// Every row of the first `count` numbers, and of no others, is purged.
fn exactly_the_first(world: &World, count: i64) {
    // A position each, every fourth with an event and a dead letter.
    let expected = count + 2 * ((count + 3) / 4);
    assert_eq!(i64::try_from(purged(world)).unwrap(), expected);
}

#[tokio::test]
async fn rows_leave_the_store_when_the_lake_has_had_them_long_enough() {
    let mut world = world();
    world.store(0, 60);
    let summary = world.run(None).await.unwrap();
    assert_eq!((summary.purged_rows(), purged(&world)), (0, 0), "too young");
    world.store(60, 21);
    let summary = world.run(None).await.unwrap();
    exactly_the_first(&world, 60);
    assert_eq!(summary.purged_rows(), purged(&world) as u64);
    assert_eq!(world.faults_found().await, Vec::<String>::new());
    world.run(None).await.unwrap();
    exactly_the_first(&world, 81);
    let summary = world.run(None).await.unwrap();
    assert_eq!((summary.rows(), summary.purged_rows()), (0, 0));
    assert_eq!(world.faults_found().await, Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_purged_unless_asked_for() {
    let mut world = World::in_memory();
    world.store(0, 60);
    for _ in 0..3 {
        world.run(None).await.unwrap();
    }
    assert_eq!(purged(&world), 0);
}

#[tokio::test]
async fn a_crash_at_any_call_of_a_purging_run_loses_nothing() {
    let prepared = || async {
        let mut world = world();
        world.store(0, 60);
        world.run(None).await.unwrap();
        world.store(60, 21);
        world
    };
    let mut undisturbed = prepared().await;
    undisturbed.run(None).await.unwrap();
    let calls = undisturbed.faults.calls();
    let mut died_in = BTreeSet::new();
    for number in 0..calls {
        let death = if number % 2 == 0 {
            Death::Before
        } else {
            Death::After
        };
        let mut world = prepared().await;
        drop(world.run(Some((number, death))).await);
        died_in.extend(world.faults.died_in());
        world.run(None).await.unwrap();
        world.run(None).await.unwrap();
        let wrong = world.faults_found().await;
        assert!(wrong.is_empty(), "{death:?} call {number}: {wrong:#?}");
        exactly_the_first(&world, 81);
    }
    assert!(died_in.contains("purge"), "{died_in:?}");
}

/// Negative control of the read-back: what the lake lost or damaged stays in the store, and is named.
#[tokio::test]
async fn rows_the_lake_lost_or_damaged_since_stay_in_the_store() {
    // Gone, or a bit of it turned: in its first byte, here and there, and in its last.
    let places = [0, 7, 31, 64, 97, 100].map(Some);
    for damaged in [None].into_iter().chain(places) {
        let mut world = world();
        world.store(0, 60);
        world.run(None).await.unwrap();
        let table = world.table(LakeTable::DelivererLocation);
        let snapshot = table.load().await.unwrap();
        let path = snapshot.files.keys().next().unwrap();
        let key = table.key(path).unwrap();
        if let Some(percent) = damaged {
            let content = world.storage.get(&key).await.unwrap().unwrap();
            let mut content = content.to_vec();
            let place = (content.len() - 1) * percent / 100;
            content[place] ^= 1;
            world.storage.put(&key, Bytes::from(content)).await.unwrap();
        } else {
            world.storage.delete(&key).await.unwrap();
        }
        let error = world.run(None).await.unwrap_err();
        let named = error.to_string();
        assert!(matches!(error, LakeError::Mismatch { .. }), "{named}");
        // Windows before the one that is wrong may have gone; rows of its files have not.
        let state = world.source.state.lock().unwrap();
        let gone = state
            .purged
            .iter()
            .map(|(table, writer, seq)| (*table, writer.as_str(), *seq));
        let part = lake::hive::PartName::parse(path).unwrap();
        for (table, writer, seq) in gone {
            let within = writer == part.writer_id && part.after < seq && seq <= part.to;
            assert!(table != "deliverer_location" || !within, "{named}");
        }
    }
}

#[tokio::test]
async fn a_table_that_does_not_read_back_holds_no_other_up() {
    let mut world = world();
    world.store(0, 60);
    world.run(None).await.unwrap();
    let table = world.table(LakeTable::DelivererLocation);
    let snapshot = table.load().await.unwrap();
    for path in snapshot.files.keys() {
        let key = table.key(path).unwrap();
        world.storage.delete(&key).await.unwrap();
    }
    world.store(60, 20);
    world.run(None).await.unwrap_err();
    for table in LakeTable::ALL {
        let rows = world.snapshot(table).await.rows();
        let stored = if table == LakeTable::DelivererLocation {
            80
        } else {
            20
        };
        assert_eq!(rows, stored, "{table:?} was not offloaded");
    }
    let state = world.source.state.lock().unwrap();
    let gone: BTreeSet<_> = state.purged.iter().map(|(table, _, _)| *table).collect();
    assert_eq!(gone, BTreeSet::from(["fleet_event", "rejected"]));
}
