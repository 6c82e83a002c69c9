//! The folder keeps the seam's promises.

use std::sync::Arc;

use bytes::Bytes;
use lake::storage::{Creation, LocalStorage, ObjectKey, Storage};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

#[tokio::test]
async fn objects_are_written_listed_read_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(folder.path().join("not/yet"));
    assert_eq!(storage.get(&key("a/b")).await.unwrap(), None);
    assert_eq!(storage.list(&key("a")).await.unwrap(), []);
    storage.put(&key("a/d=1/x"), "one".into()).await.unwrap();
    storage.put(&key("a/d=1/x"), "three".into()).await.unwrap();
    storage.put(&key("a/b"), "two".into()).await.unwrap();
    storage.put(&key("ab"), "no".into()).await.unwrap();
    let listed = storage.list(&key("a")).await.unwrap();
    let names: Vec<_> = listed
        .iter()
        .map(|meta| (meta.key.as_str(), meta.size))
        .collect();
    assert_eq!(names, [("a/b", 3), ("a/d=1/x", 5)]);
    let range = storage.get_range(&key("a/d=1/x"), 1, 99).await.unwrap();
    assert_eq!(range, Some(Bytes::from("hree")));
    assert_eq!(storage.head(&key("a/b")).await.unwrap().unwrap().size, 3);
    assert_eq!(storage.head(&key("a")).await.unwrap(), None);
    storage.delete(&key("a/d=1/x")).await.unwrap();
    storage.delete(&key("a/d=1/x")).await.unwrap();
    assert!(!folder.path().join("not/yet/a/d=1").exists());
    storage.put(&key("a/d=1/x"), "again".into()).await.unwrap();
    assert_eq!(storage.list(&key("a")).await.unwrap().len(), 2);
}

#[tokio::test]
async fn exactly_one_of_many_creates_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(LocalStorage::new(folder.path()));
    for round in 0..20 {
        let mut racers = tokio::task::JoinSet::new();
        for racer in 0..8 {
            let storage = storage.clone();
            racers.spawn(async move {
                let content = Bytes::from(format!("by {racer}"));
                storage
                    .put_if_absent(&key(&format!("log/{round}")), content)
                    .await
            });
        }
        let mut created = 0;
        while let Some(outcome) = racers.join_next().await {
            created += usize::from(outcome.unwrap().unwrap() == Creation::Created);
        }
        assert_eq!(created, 1, "round {round}");
    }
}

#[tokio::test]
async fn leftovers_of_a_dead_process_are_swept_and_never_listed() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(folder.path());
    storage.put(&key("raw/x"), "x".into()).await.unwrap();
    std::fs::write(folder.path().join(".tmp/12-left"), "half").unwrap();
    storage.sweep().await.unwrap();
    assert!(
        std::fs::read_dir(folder.path().join(".tmp"))
            .unwrap()
            .next()
            .is_none()
    );
    assert_eq!(storage.list(&key("raw")).await.unwrap().len(), 1);
}
