//! The log: what it refuses, and commits that race.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use lake::LakeError;
use lake::delta::{Add, Commit, Committed, Snapshot, Table};
use lake::entity::TableSchema;
use lake::storage::{ObjectKey, Storage};
use model::UtcMicros;

use crate::storage::MemoryStorage;

pub(crate) fn schema(columns: &[&str]) -> TableSchema {
    let fields = columns
        .iter()
        .map(|name| Field::new(*name, DataType::Int64, true));
    TableSchema {
        file: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        partitions: vec![Field::new("d", DataType::Date32, true)],
    }
}

fn add(path: &str) -> Add {
    Add {
        path: path.to_owned(),
        partition_values: [("d".to_owned(), Some("2026-01-01".to_owned()))].into(),
        size: 1,
        modification_time: 0,
        data_change: true,
        stats: Some(Add::stats_of(3)),
        tags: None,
    }
}

pub(crate) fn commit<'a>(
    schema: &'a TableSchema,
    path: &str,
    app: &str,
    version: i64,
) -> Commit<'a> {
    Commit {
        operation: "WRITE",
        schema,
        now: UtcMicros::default(),
        adds: vec![add(path)],
        removes: Vec::new(),
        transactions: vec![(app.to_owned(), version)],
        once: true,
    }
}

fn table(storage: &MemoryStorage) -> Table {
    Table::new(Arc::new(storage.clone()), ObjectKey::new("raw/t").unwrap())
}

#[tokio::test]
async fn a_transaction_is_taken_once_also_from_a_stale_snapshot() {
    let (storage, schema) = (MemoryStorage::default(), schema(&["a"]));
    let table = table(&storage);
    let (mut first, mut stale) = (Snapshot::default(), Snapshot::default());
    let file = commit(&schema, "d=2026-01-01/x y.parquet", "app", 5);
    assert_eq!(
        table.commit(&mut first, &file).await.unwrap(),
        Committed::Now
    );
    assert_eq!(
        table.commit(&mut stale, &file).await.unwrap(),
        Committed::Before
    );
    assert_eq!((first.clone(), first.commits), (stale, 1));
    assert_eq!(first.rows(), 3);
    // Escaped in the log, plain in the snapshot.
    let key = ObjectKey::new("raw/t/_delta_log/00000000000000000000.json").unwrap();
    let text = storage.get(&key).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&text).contains("x%20y.parquet"));
    assert!(first.files.contains_key("d=2026-01-01/x y.parquet"));
}

#[tokio::test]
async fn racing_commits_each_get_a_version_and_none_is_lost() {
    let (storage, schema) = (MemoryStorage::default(), schema(&["a"]));
    let mut racers = tokio::task::JoinSet::new();
    for racer in 0..8_i64 {
        let (table, schema) = (table(&storage), schema.clone());
        racers.spawn(async move {
            let mut snapshot = Snapshot::default();
            for round in 1..=5_i64 {
                let path = format!("{racer}-{round}");
                let change = commit(&schema, &path, &format!("app-{racer}"), round);
                table.commit(&mut snapshot, &change).await.unwrap();
            }
        });
    }
    while let Some(racer) = racers.join_next().await {
        racer.unwrap();
    }
    let snapshot = table(&storage).load().await.unwrap();
    assert_eq!((snapshot.commits, snapshot.files.len()), (40, 40));
}

#[tokio::test]
async fn a_new_column_reaches_the_schema_with_the_next_commit() {
    let storage = MemoryStorage::default();
    let table = table(&storage);
    let mut snapshot = Snapshot::default();
    let (old, new) = (schema(&["a"]), schema(&["a", "b"]));
    table
        .commit(&mut snapshot, &commit(&old, "1", "app", 1))
        .await
        .unwrap();
    let id = snapshot.metadata.clone().unwrap().id;
    table
        .commit(&mut snapshot, &commit(&new, "2", "app", 2))
        .await
        .unwrap();
    let metadata = snapshot.metadata.unwrap();
    assert!(metadata.schema_string.contains(r#""b""#));
    assert_eq!((metadata.id, snapshot.files.len()), (id, 2));
}

#[tokio::test]
async fn replaced_files_leave_and_changes_are_named() {
    let (storage, schema) = (MemoryStorage::default(), schema(&["a"]));
    let table = table(&storage);
    let mut snapshot = Snapshot::default();
    table
        .commit(&mut snapshot, &commit(&schema, "1", "app", 1))
        .await
        .unwrap();
    let replace = Commit {
        removes: vec!["1".to_owned(), "never-there".to_owned()],
        ..commit(&schema, "2", "app", 2)
    };
    table.commit(&mut snapshot, &replace).await.unwrap();
    assert_eq!(snapshot.files.keys().collect::<Vec<_>>(), ["2"]);
    let changed = table.changed_since(1, &snapshot).await.unwrap();
    assert_eq!(changed.len(), 1);
    assert!(table.changed_since(2, &snapshot).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let log = |name: &str| ObjectKey::new(format!("raw/t/_delta_log/{name}.json")).unwrap();
    for (name, content) in [
        (
            "00000000000000000000",
            r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7}}"#,
        ),
        ("00000000000000000000", r#"{"add":"#),
        ("00000000000000000007", "{}"),
    ] {
        let storage = MemoryStorage::default();
        storage.put(&log(name), content.into()).await.unwrap();
        let error = table(&storage).load().await.unwrap_err();
        assert!(matches!(error, LakeError::Log { .. }), "{error}");
    }
    assert!(
        table(&MemoryStorage::default())
            .key("../../etc/passwd")
            .is_err()
    );
}
