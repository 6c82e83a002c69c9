//! The folder keeps the seam's promises.

use std::sync::Arc;

use lake::storage::{LocalStorage, Storage};

use crate::suite::{self, key};

#[tokio::test]
async fn objects_are_written_listed_read_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(folder.path().join("not/yet"));
    suite::objects(&storage).await;
    storage.delete(&key("a/d=1/x")).await.unwrap();
    assert!(!folder.path().join("not/yet/a/d=1").exists());
    storage.put(&key("a/d=1/x"), "again".into()).await.unwrap();
    assert!(storage.head(&key("a/d=1/x")).await.unwrap().is_some());
}

#[tokio::test]
async fn exactly_one_of_many_creates_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(folder.path()));
    assert_eq!(suite::race(&storage, 8, 20).await, [1; 20]);
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
