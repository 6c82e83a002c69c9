//! What every storage promises.

use std::sync::Arc;

use bytes::Bytes;
use lake::storage::{Access, Creation, ObjectKey, Storage};

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

/// Objects are written, listed, read and deleted.
pub(crate) async fn objects(storage: &dyn Storage) {
    storage.check(Access::Write).await.unwrap();
    assert_eq!(storage.get(&key("a/b")).await.unwrap(), None);
    assert_eq!(storage.get_range(&key("a/b"), 0, 1).await.unwrap(), None);
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
    for (offset, len, expected) in [
        (1, 99, "hree"),
        (0, 2, "th"),
        (2, 0, ""),
        (5, 1, ""),
        (9, 9, ""),
    ] {
        let range = storage.get_range(&key("a/d=1/x"), offset, len).await;
        assert_eq!(
            range.unwrap(),
            Some(Bytes::from(expected)),
            "{offset}+{len}"
        );
    }
    assert_eq!(storage.head(&key("a/b")).await.unwrap().unwrap().size, 3);
    assert_eq!(storage.head(&key("a")).await.unwrap(), None);
    storage.put(&key("empty"), Bytes::new()).await.unwrap();
    assert_eq!(
        storage.get(&key("empty")).await.unwrap(),
        Some(Bytes::new())
    );
    storage.delete(&key("a/d=1/x")).await.unwrap();
    storage.delete(&key("a/d=1/x")).await.unwrap();
    assert_eq!(storage.get(&key("a/d=1/x")).await.unwrap(), None);
    storage.put(&key("a/d=1/x"), "again".into()).await.unwrap();
    assert_eq!(storage.list(&key("a")).await.unwrap().len(), 2);
    for odd in ["a/event=%2Fx y/part-b%2F2.parquet", "a/ü+&?#/x"] {
        storage.put(&key(odd), Bytes::from(odd)).await.unwrap();
        assert_eq!(
            storage.get(&key(odd)).await.unwrap(),
            Some(Bytes::from(odd))
        );
        let listed = storage.list(&key("a")).await.unwrap();
        assert!(listed.iter().any(|meta| meta.key == key(odd)), "{listed:?}");
    }
    storage.sweep().await.unwrap();
}

/// Returns how many of `racers` created a key, in each of `rounds`.
pub(crate) async fn race(storage: &Arc<dyn Storage>, racers: u32, rounds: u32) -> Vec<usize> {
    let mut winners = Vec::new();
    for round in 0..rounds {
        let mut race = tokio::task::JoinSet::new();
        for racer in 0..racers {
            let storage = storage.clone();
            race.spawn(async move {
                let content = Bytes::from(format!("by {racer}"));
                storage
                    .put_if_absent(&key(&format!("log/{round}")), content)
                    .await
            });
        }
        let mut created = 0;
        while let Some(outcome) = race.join_next().await {
            created += usize::from(outcome.unwrap().unwrap() == Creation::Created);
        }
        winners.push(created);
    }
    winners
}
