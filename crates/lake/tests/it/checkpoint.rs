//! Checkpoints: what they spare, that they say what the commits say, and that none is ever needed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lake::LakeError;
use lake::delta::{Commit, Committed, LogPolicy, Snapshot, Table};
use lake::storage::{LocalStorage, ObjectKey, Storage};
use model::UtcMicros;

use crate::delta::{commit, schema};
use crate::storage::{Faults, MemoryStorage, Mortal};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(format!("raw/t/_delta_log/{name}")).unwrap()
}

fn checkpoint(version: u64) -> ObjectKey {
    key(&format!("{version:020}.checkpoint.parquet"))
}

fn table(storage: &Arc<dyn Storage>) -> Table {
    Table::new(storage.clone(), ObjectKey::new("raw/t").unwrap())
}

fn memory() -> (MemoryStorage, Arc<dyn Storage>) {
    let memory = MemoryStorage::default();
    (memory.clone(), Arc::new(memory))
}

/// Makes `count` commits, each of which adds a file, names a writer and, from the third on, replaces a file.
async fn fill(table: &Table, snapshot: &mut Snapshot, count: i64, now: UtcMicros) {
    let schema = schema(&["a"]);
    for number in 0..count {
        let path = format!("d=2026-01-01/x y {number}.parquet");
        let writer = format!("writer-{}", number % 3);
        let mut change = Commit {
            now,
            once: false,
            ..commit(&schema, &path, &writer, number)
        };
        change.adds[0].tags = Some([("window".to_owned(), "0-5".to_owned())].into());
        if number % 4 == 0 {
            change.adds[0].partition_values.insert("d".to_owned(), None);
        }
        if number > 2 {
            change.removes = vec![format!("d=2026-01-01/x y {}.parquet", number - 2)];
        }
        assert_eq!(
            table.commit(snapshot, &change).await.unwrap(),
            Committed::Now
        );
    }
}

/// Leaves out what a checkpoint does not keep: which commit a file came with.
fn essence(snapshot: &Snapshot) -> String {
    let mut files = snapshot.files.clone();
    for add in files.values_mut() {
        add.data_change = true;
    }
    format!(
        "{} {:?} {files:?} {:?}",
        snapshot.commits, snapshot.metadata, snapshot.transactions
    )
}

/// Reads a log by its commits alone.
async fn replayed(storage: &MemoryStorage) -> Snapshot {
    let without = MemoryStorage::default();
    for (name, content) in storage.objects.lock().unwrap().iter() {
        if !name.contains("checkpoint") {
            let mut objects = without.objects.lock().unwrap();
            objects.insert(name.clone(), content.clone());
        }
    }
    let without: Arc<dyn Storage> = Arc::new(without);
    table(&without).load().await.unwrap()
}

#[tokio::test]
async fn a_start_reads_a_checkpoint_and_the_commits_since() {
    let (memory, storage) = memory();
    let mut snapshot = Snapshot::default();
    fill(&table(&storage), &mut snapshot, 57, UtcMicros::default()).await;
    assert_eq!(snapshot.checkpoint(), Some(49));
    let counted = Faults::default();
    let mortal: Arc<dyn Storage> = Arc::new(Mortal {
        inner: storage.clone(),
        faults: counted.clone(),
    });
    let loaded = table(&mortal).load().await.unwrap();
    // The pointer, the checkpoint, seven commits, and the one that is not there yet.
    assert_eq!(counted.calls(), 10);
    assert_eq!(essence(&loaded), essence(&replayed(&memory).await));
    // Negative control: it is really the checkpoint that is read.
    for version in 0..50 {
        let commit = key(&format!("{version:020}.json"));
        storage.delete(&commit).await.unwrap();
    }
    let loaded = table(&storage).load().await.unwrap();
    assert_eq!(essence(&loaded), essence(&snapshot));
    storage.delete(&checkpoint(49)).await.unwrap();
    for version in [9, 19, 29, 39] {
        storage.delete(&checkpoint(version)).await.unwrap();
    }
    let error = table(&storage).load().await.unwrap_err();
    assert!(matches!(error, LakeError::Log { .. }), "{error}");
}

#[tokio::test]
async fn a_torn_or_damaged_checkpoint_is_passed_over() {
    let (memory, storage) = memory();
    fill(
        &table(&storage),
        &mut Snapshot::default(),
        25,
        UtcMicros::default(),
    )
    .await;
    let expected = essence(&replayed(&memory).await);
    let whole = storage.get(&checkpoint(19)).await.unwrap().unwrap();
    for cut in (0..whole.len()).step_by(97) {
        let torn = whole.slice(..cut);
        storage.put(&checkpoint(19), torn).await.unwrap();
        let loaded = table(&storage).load().await.unwrap();
        assert_eq!(essence(&loaded), expected, "torn at {cut}");
    }
    for place in (0..whole.len()).step_by(31) {
        let mut damaged = whole.to_vec();
        damaged[place] ^= 0x10;
        storage.put(&checkpoint(19), damaged.into()).await.unwrap();
        let loaded = table(&storage).load().await.unwrap();
        assert_eq!(essence(&loaded), expected, "damaged at {place}");
    }
    storage.put(&checkpoint(19), whole).await.unwrap();
    let pointer = key("_last_checkpoint");
    let good = storage.get(&pointer).await.unwrap().unwrap();
    for cut in 0..good.len() {
        storage.put(&pointer, good.slice(..cut)).await.unwrap();
        let loaded = table(&storage).load().await.unwrap();
        assert_eq!(essence(&loaded), expected, "pointer torn at {cut}");
    }
    // One that names what is not there, and one of a kind we do not read.
    for other in [
        r#"{"version":21,"size":1}"#,
        r#"{"version":19,"size":1,"parts":3}"#,
    ] {
        storage.put(&pointer, other.into()).await.unwrap();
        let loaded = table(&storage).load().await.unwrap();
        assert_eq!(essence(&loaded), expected, "{other}");
    }
}

/// Negative control of the test before: without the hash in the file, damage would be believed.
#[tokio::test]
async fn damage_that_still_is_parquet_is_noticed_by_the_hash_alone() {
    let (memory, storage) = memory();
    fill(
        &table(&storage),
        &mut Snapshot::default(),
        25,
        UtcMicros::default(),
    )
    .await;
    let expected = essence(&replayed(&memory).await);
    let whole = storage.get(&checkpoint(19)).await.unwrap().unwrap();
    let find = |what: &[u8]| whole.windows(what.len()).position(|bytes| bytes == what);
    // A letter of a file's path, in the clear; and one of what says where the hash is.
    let (path, mark) = (
        find(b"x%20y%200.p").unwrap(),
        find(b"content-hash").unwrap(),
    );
    let mut outcomes = Vec::new();
    for places in [vec![path], vec![path, mark]] {
        let mut damaged = whole.to_vec();
        for place in places {
            damaged[place] ^= 0x01;
        }
        storage.put(&checkpoint(19), damaged.into()).await.unwrap();
        let loaded = table(&storage).load().await.unwrap();
        outcomes.push(essence(&loaded) == expected);
    }
    assert_eq!(outcomes, [true, false]);
}

#[tokio::test]
async fn a_table_says_how_often_it_wants_a_checkpoint() {
    let (_, storage) = memory();
    let (table, mut snapshot) = (table(&storage), Snapshot::default());
    let policy = LogPolicy {
        checkpoint_every: 3,
        ..LogPolicy::default()
    };
    let now = UtcMicros::default();
    let none_yet = table.set_policy(&mut snapshot, policy, now).await.unwrap();
    assert_eq!((none_yet, snapshot.exists()), (Committed::Before, false));
    fill(&table, &mut snapshot, 1, now).await;
    for expected in [Committed::Now, Committed::Before] {
        let set = table.set_policy(&mut snapshot, policy, now).await.unwrap();
        assert_eq!(set, expected);
    }
    fill(&table, &mut snapshot, 1, now).await;
    assert_eq!(snapshot.checkpoint(), Some(2));
    let configuration = table.load().await.unwrap().metadata.unwrap().configuration;
    let interval = configuration.get("delta.checkpointInterval");
    assert_eq!(interval.map(String::as_str), Some("3"));
}

/// Makes an object of the log look `days` old.
fn age(folder: &Path, days: u64, version: u64) {
    let log = folder.join("raw/t/_delta_log");
    for name in [
        format!("{version:020}.json"),
        format!("{version:020}.checkpoint.parquet"),
    ] {
        let Ok(file) = std::fs::File::options().append(true).open(log.join(name)) else {
            continue;
        };
        let modified = file.metadata().unwrap().modified().unwrap();
        let then: SystemTime = modified - Duration::from_secs(days * 86_400);
        file.set_modified(then).unwrap();
    }
}

/// Returns when a commit was written.
fn modified(folder: &Path, version: u64) -> UtcMicros {
    let commit = folder.join(format!("raw/t/_delta_log/{version:020}.json"));
    let modified = std::fs::metadata(commit).unwrap().modified().unwrap();
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UtcMicros::new(i64::try_from(since.as_micros()).unwrap()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let log = std::fs::read_dir(folder.join("raw/t/_delta_log")).unwrap();
    let names = log.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn old_commits_go_when_a_checkpoint_covers_them() {
    let folder = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(folder.path()));
    let (table, mut snapshot) = (table(&storage), Snapshot::default());
    fill(&table, &mut snapshot, 1, UtcMicros::default()).await;
    let now = modified(folder.path(), 0);
    fill(&table, &mut snapshot, 28, now).await;
    assert_eq!(names(folder.path()).len(), 29 + 2 + 1);
    // Everything up to 24 is old: the checkpoint of 19 is the last that starts the young ones.
    for version in 0..=24 {
        age(folder.path(), 31, version);
    }
    fill(&table, &mut snapshot, 1, now).await;
    let left = names(folder.path());
    assert_eq!(
        left[0], "00000000000000000019.checkpoint.parquet",
        "{left:?}"
    );
    assert_eq!(left[1], "00000000000000000019.json");
    assert_eq!(left.len(), 11 + 2 + 1, "{left:?}");
    let loaded = table.load().await.unwrap();
    assert_eq!(essence(&loaded), essence(&snapshot));
    assert!(table.changed_since(5, &loaded).await.is_err());
    assert!(table.changed_since(20, &loaded).await.is_ok());
    // Without what names the newest, or with it torn, the older one does.
    storage.delete(&key("_last_checkpoint")).await.unwrap();
    storage.put(&checkpoint(29), "PAR1".into()).await.unwrap();
    let loaded = table.load().await.unwrap();
    assert_eq!(essence(&loaded), essence(&snapshot));
}

#[tokio::test]
async fn a_log_is_not_cleaned_below_a_checkpoint_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(folder.path()));
    let (table, mut snapshot) = (table(&storage), Snapshot::default());
    fill(&table, &mut snapshot, 19, UtcMicros::default()).await;
    let whole = storage.get(&checkpoint(9)).await.unwrap().unwrap();
    storage.put(&checkpoint(9), "PAR1".into()).await.unwrap();
    // Everything up to 14 is old: the checkpoint of 9 is the last that starts the young ones.
    for version in 0..=14 {
        age(folder.path(), 31, version);
    }
    let now = modified(folder.path(), 18);
    fill(&table, &mut snapshot, 1, now).await;
    assert_eq!(names(folder.path()).len(), 20 + 2 + 1);
    // Without the newest checkpoint, too, every row is found.
    storage.put(&checkpoint(19), "PAR1".into()).await.unwrap();
    let mut loaded = table.load().await.unwrap();
    assert_eq!(essence(&loaded), essence(&snapshot));
    // Negative control: when it can be read, they go.
    storage.put(&checkpoint(9), whole).await.unwrap();
    fill(&table, &mut loaded, 1, now).await;
    assert_eq!(
        names(folder.path())[0],
        "00000000000000000009.checkpoint.parquet"
    );
    let again = table.load().await.unwrap();
    assert_eq!(essence(&again), essence(&loaded));
}

/// A process that slept while others went on and cleaned up finds its next version's name free; what it puts there,
/// nobody reads.
#[tokio::test]
async fn a_commit_under_a_name_that_was_cleaned_up_is_refused() {
    let (memory, storage) = memory();
    let (table, mut snapshot) = (table(&storage), Snapshot::default());
    let now = UtcMicros::default();
    fill(&table, &mut snapshot, 5, now).await;
    let mut asleep = snapshot.clone();
    fill(&table, &mut snapshot, 20, now).await;
    for version in 0..19 {
        let commit = key(&format!("{version:020}.json"));
        memory.delete(&commit).await.unwrap();
    }
    let schema = schema(&["a"]);
    let change = commit(&schema, "late", "app", 1);
    let error = table.commit(&mut asleep, &change).await.unwrap_err();
    assert!(error.to_string().contains("cleaned up"), "{error}");
    let loaded = table.load().await.unwrap();
    assert_eq!(essence(&loaded), essence(&snapshot));
    let mut awake = loaded;
    table.commit(&mut awake, &change).await.unwrap();
    assert!(table.load().await.unwrap().files.contains_key("late"));
}
