//! What the files hold.

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use lake::entities::{DELIVERER_LOCATION, FLEET_EVENT, REJECTED};
use store::LakeTable;

use crate::source::add;
use crate::storage::MemoryStorage;
use crate::world::{World, latitudes, position, reject};

#[tokio::test]
async fn files_are_sorted_typed_and_leave_the_partition_to_the_folder() {
    let mut world = World::in_memory();
    world.window_rows = 1_000;
    world.store(0, 300);
    let summary = world.run(None).await.unwrap();
    assert_eq!(summary.tables[0].rows, 300);
    assert_eq!(summary.tables[0].windows, 2);
    for (path, batch) in world.batches(LakeTable::DelivererLocation).await {
        assert!(path.starts_with("event_date=2026-01-0"), "{path}");
        assert!(batch.column_by_name("event_date").is_none());
        let names: Vec<_> = batch
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        let declared: Vec<_> = DELIVERER_LOCATION.columns.iter().map(|c| c.name).collect();
        assert_eq!(names, declared);
        let time = batch.column_by_name("event_time").unwrap();
        assert_eq!(time.data_type(), &lake::entity::instant());
        let deliverers = batch.column_by_name("deliverer_id").unwrap();
        assert_eq!(deliverers.data_type(), &DataType::Utf8);
        let (deliverers, times) = (
            deliverers.as_string::<i32>(),
            time.as_primitive::<TimestampMicrosecondType>(),
        );
        let keys: Vec<_> = (0..batch.num_rows())
            .map(|row| (deliverers.value(row), times.value(row)))
            .collect();
        assert!(keys.is_sorted());
    }
}

#[tokio::test]
async fn every_declared_column_carries_its_value() {
    let mut world = World::in_memory();
    world.store(0, 8);
    world.run(None).await.unwrap();
    let batches = world.batches(LakeTable::DelivererLocation).await;
    let mut lats: Vec<f64> = batches
        .iter()
        .flat_map(|(_, batch)| latitudes(batch))
        .collect();
    lats.sort_by(f64::total_cmp);
    let expected: Vec<_> = (0..8).map(|n| position(n, 0).lat.degrees()).collect();
    assert_eq!(lats, expected);
    let with_order: usize = batches
        .iter()
        .map(|(_, batch)| batch.num_rows() - batch.column_by_name("order_id").unwrap().null_count())
        .sum();
    assert_eq!(with_order, 5);
    for (_, batch) in world.batches(LakeTable::FleetEvent).await {
        let data = batch.column_by_name("data").unwrap().as_string::<i32>();
        assert!(data.value(0).starts_with(r#"{"id":"v"#));
        assert_eq!(batch.num_columns(), FLEET_EVENT.columns.len());
    }
    for (_, batch) in world.batches(LakeTable::Rejected).await {
        let payload = batch.column_by_name("payload").unwrap().as_binary::<i32>();
        assert_eq!(payload.value(0).first(), Some(&0xff));
        assert_eq!(batch.num_columns(), REJECTED.columns.len());
    }
}

#[tokio::test]
async fn a_window_too_large_for_memory_is_cut_into_files_by_sequence() {
    let mut world = World::in_memory();
    world.window_rows = 10_000;
    world.chunk_bytes = 1;
    {
        let mut state = world.source.state.lock().unwrap();
        for number in 0..1_200 {
            add(&mut state.rejects, "w", reject(number));
        }
    }
    world.run(None).await.unwrap();
    let snapshot = world.snapshot(LakeTable::Rejected).await;
    let names: Vec<_> = snapshot
        .files
        .keys()
        .filter_map(|p| p.rsplit('/').next())
        .collect();
    assert_eq!(
        names,
        [
            "part-w-0-512.parquet",
            "part-w-1024-1200.parquet",
            "part-w-512-1024.parquet"
        ]
    );
    assert_eq!(snapshot.commits, 1);
    assert_eq!(world.faults_found().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_late_row_lands_in_its_own_date_in_a_new_file() {
    let mut world = World::in_memory();
    world.window_rows = 1_000;
    {
        let mut state = world.source.state.lock().unwrap();
        (0..5).for_each(|n| add(&mut state.positions, "w", position(n, n)));
    }
    world.run(None).await.unwrap();
    add(
        &mut world.source.state.lock().unwrap().positions,
        "w",
        position(99, 1),
    );
    world.run(None).await.unwrap();
    let snapshot = world.snapshot(LakeTable::DelivererLocation).await;
    let of_that_day: Vec<_> = snapshot
        .files
        .keys()
        .filter(|path| path.contains("event_date=2026-01-02/"))
        .cloned()
        .collect();
    assert_eq!(
        of_that_day,
        [
            "event_date=2026-01-02/part-w-0-5.parquet",
            "event_date=2026-01-02/part-w-5-6.parquet"
        ]
    );
    assert_eq!(world.faults_found().await, Vec::<String>::new());
}

#[tokio::test]
async fn nothing_new_makes_no_commit() {
    let mut world = World::in_memory();
    world.store(0, 60);
    world.run(None).await.unwrap();
    let before = world.snapshot(LakeTable::DelivererLocation).await;
    let summary = world.run(None).await.unwrap();
    assert_eq!((summary.rows(), summary.complete), (0, true));
    assert_eq!(world.snapshot(LakeTable::DelivererLocation).await, before);
}

#[tokio::test]
async fn an_empty_store_makes_no_lake() {
    let storage = MemoryStorage::default();
    let mut world = World::new(std::sync::Arc::new(storage.clone()));
    world.run(None).await.unwrap();
    assert!(storage.objects.lock().unwrap().is_empty());
}

#[tokio::test]
async fn sequences_are_kept() {
    let mut world = World::in_memory();
    world.store(0, 30);
    world.run(None).await.unwrap();
    let batches = world.batches(LakeTable::Rejected).await;
    let seqs = batches.iter().flat_map(|(_, batch)| {
        let seqs = batch.column_by_name("writer_seq").unwrap();
        seqs.as_primitive::<Int64Type>().values().to_vec()
    });
    assert!(seqs.into_iter().all(|seq| seq >= 1));
}
