//! Store against lake by date: agreement, and each way they may differ.

use lake::delta::Commit;
use lake::{DateCount, Dates, LakeError};
use model::content_hash::ContentHash;
use store::{LakeSource, LakeTable};

use crate::world::{World, position};

fn dates(first: &str, last: &str) -> Dates {
    Dates::new(first, last).unwrap()
}

async fn counts(world: &World, first: &str, last: &str) -> Vec<DateCount> {
    let process = world.process();
    process.reconcile(dates(first, last)).await.unwrap()
}

#[test]
fn dates_are_whole_days_in_order() {
    let names: Vec<_> = dates("2026-02-27", "2026-03-01").names().collect();
    assert_eq!(names, ["2026-02-27", "2026-02-28", "2026-03-01"]);
    for (first, last) in [
        ("2026-03-01", "2026-02-28"),
        ("2026-02-30", "2026-03-01"),
        ("yesterday", "2026-03-01"),
        ("2026-3-1", "2026-03-02"),
        ("1969-12-31", "1970-01-01"),
    ] {
        assert_eq!(Dates::new(first, last), None, "{first} {last}");
    }
}

#[tokio::test]
async fn what_was_offloaded_agrees_by_date_and_other_dates_are_left_out() {
    let mut world = World::in_memory();
    world.store(0, 90);
    world.chunk_bytes = 1_000;
    world.run(None).await.unwrap();
    let found = counts(&world, "2026-01-02", "2026-01-03").await;
    assert_eq!(found.len(), 2, "{found:?}");
    for count in &found {
        assert_eq!((count.store_rows, count.lake_rows), (30, 30), "{count:?}");
        assert!(count.agrees());
    }
    let all = counts(&world, "2026-01-01", "2026-12-31").await;
    let rows: u64 = all.iter().map(|count| count.lake_rows).sum();
    assert_eq!(rows, 90 + 23 + 23);
    // What the lake has not taken yet is not missing.
    world.store(90, 30);
    let before = counts(&world, "2026-01-01", "2026-12-31").await;
    assert_eq!(before, all);
}

#[tokio::test]
async fn rows_that_are_purged_are_the_lakes_alone() {
    let mut world = World::in_memory();
    world.purge_after_us = Some(1);
    world.store(0, 60);
    for _ in 0..2 {
        world.run(None).await.unwrap();
    }
    let found = counts(&world, "2026-01-01", "2026-01-01").await;
    assert!(!found.is_empty());
    for count in found {
        assert!(count.store_rows == 0 && count.lake_rows > 0 && count.agrees());
    }
}

/// Negative control: a row that slipped in under a window that was taken, a lost file, a file that came twice.
#[tokio::test]
async fn what_is_missing_or_there_twice_is_counted() {
    let mut world = World::in_memory();
    world.store(0, 60);
    world.run(None).await.unwrap();
    let table = world.table(LakeTable::DelivererLocation);
    let snapshot = table.load().await.unwrap();
    let of_day = |path: &&String| path.starts_with("event_date=2026-01-02");
    let path = snapshot.files.keys().find(of_day).unwrap();
    let key = table.key(path).unwrap();
    let content = world.storage.get(&key).await.unwrap().unwrap();
    world.storage.delete(&key).await.unwrap();
    let lost = snapshot.files[path].rows().unwrap();
    let found = counts(&world, "2026-01-02", "2026-01-02").await;
    assert_eq!((found[0].missing, found[0].repeated), (lost, 0));
    let other = counts(&world, "2026-01-03", "2026-01-03").await;
    assert!(other.iter().all(DateCount::agrees), "{other:?}");
    world.storage.put(&key, content).await.unwrap();

    // A file that came a second time, under the name of another range that ends there.
    let mut part = lake::hive::PartName::parse(path).unwrap();
    part.after += 1;
    let again = format!("event_date=2026-01-02/{}", part.file_name());
    let mut twice = snapshot.files[path].clone();
    let copied = world.storage.get(&key).await.unwrap().unwrap();
    let place = table.key(&again).unwrap();
    world.storage.put(&place, copied).await.unwrap();
    twice.path = again;
    let schema = lake::entities::DELIVERER_LOCATION.schema();
    let commit = Commit {
        adds: vec![twice],
        ..crate::delta::commit(&schema, path, "nobody", 1)
    };
    table.commit(&mut snapshot.clone(), &commit).await.unwrap();
    let found = counts(&world, "2026-01-02", "2026-01-02").await;
    assert_eq!((found[0].missing, found[0].repeated), (0, lost));

    // A row of another day now, at a sequence that the lake has taken.
    for rows in world.source.state.lock().unwrap().positions.values_mut() {
        rows[0].row = position(1, 1);
    }
    let found = counts(&world, "2026-01-02", "2026-01-02").await;
    assert_eq!(found[0].missing, 1, "{found:?}");
}

/// Files of earlier versions state another hash.
#[tokio::test]
async fn bytes_are_compared_with_whichever_hash_is_stated() {
    let mut world = World::in_memory();
    world.store(0, 60);
    world.run(None).await.unwrap();
    let table = world.table(LakeTable::DelivererLocation);
    let mut snapshot = table.load().await.unwrap();
    let add = snapshot.files.values().next().unwrap().clone();
    let content = world.storage.get(&table.key(&add.path).unwrap()).await;
    let earlier = ContentHash::default()
        .chain(&content.unwrap().unwrap())
        .finish();
    let tags = add.tags.clone().unwrap();
    assert!(tags.contains_key("lastmile.xxh64"), "{add:?}");
    let schema = lake::entities::DELIVERER_LOCATION.schema();
    for (version, tag, hash, is_right) in [
        (1, "lastmile.content", earlier, true),
        (2, "lastmile.content", earlier ^ 1, false),
        (3, "lastmile.xxh64", earlier, false),
    ] {
        let mut stated = add.clone();
        let mut tags = tags.clone();
        tags.remove("lastmile.xxh64");
        tags.insert(tag.to_owned(), format!("{hash:016x}"));
        stated.tags = Some(tags);
        let commit = Commit {
            adds: vec![stated],
            ..crate::delta::commit(&schema, &add.path, "nobody", version)
        };
        table.commit(&mut snapshot, &commit).await.unwrap();
        let found = counts(&world, "2026-01-01", "2026-12-31").await;
        let agrees = found.iter().all(DateCount::agrees);
        assert_eq!(agrees, is_right, "{tag} {version}: {found:?}");
    }
}

#[tokio::test]
async fn it_waits_its_turn() {
    let world = World::in_memory();
    let taken = world
        .source
        .acquire_lease("lake", "another", 0, i64::MAX)
        .await;
    assert!(taken.unwrap());
    let process = world.process();
    let error = process.reconcile(dates("2026-01-01", "2026-01-02")).await;
    assert!(matches!(error, Err(LakeError::LeaseHeld { .. })));
}
