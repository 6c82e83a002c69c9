//! Compaction and vacuum: the same rows in fewer files, and nothing live ever deleted.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use lake::compact::{CompactSummary, Compaction, compact};
use lake::delta::{Add, Commit, Snapshot, Table};
use lake::entity::TableSchema;
use lake::parquet_file::FileWriter;
use lake::storage::{ObjectKey, Storage};
use lake::vacuum::{Shape, Vacuum, Vacuumed};
use lake::{LakeError, Lease};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use service::ManualClock;

use crate::delta::schema;
use crate::source::MemorySource;
use crate::storage::{Death, Faults, MemoryStorage, Mortal};
use crate::world::{DAY_0, at};

const AT_ONCE: Vacuum = Vacuum {
    retention_us: 0,
    grace_us: 0,
};

/// A table as a model makes it, of whole numbers, by day.
pub(crate) struct Numbers {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<ManualClock>,
    schema: TableSchema,
}

impl Numbers {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            clock: Arc::new(ManualClock::new(at(DAY_0))),
            schema: schema(&["a", "b"]),
        }
    }

    pub(crate) fn table(storage: &Arc<dyn Storage>) -> Table {
        Table::new(storage.clone(), ObjectKey::new("treated/numbers").unwrap())
    }

    /// Adds a file of these numbers, the larger first, without the second column where `narrow`.
    pub(crate) async fn add(&self, day: u32, numbers: std::ops::Range<i64>, narrow: bool) {
        let column = |factor: i64| {
            let values = numbers.clone().rev().map(|number| number * factor);
            Arc::new(values.collect::<Int64Array>()) as _
        };
        let (file, columns) = if narrow {
            (schema(&["a"]).file, vec![column(1)])
        } else {
            (self.schema.file.clone(), vec![column(1), column(2)])
        };
        let mut writer = FileWriter::new("numbers", &file).unwrap();
        writer
            .write(&RecordBatch::try_new(file, columns).unwrap())
            .unwrap();
        let (content, rows) = writer.finish().unwrap();
        let day = format!("2026-01-{day:02}");
        let path = format!("d={day}/from-{}.parquet", numbers.start);
        let table = Self::table(&self.storage);
        let size = content.len() as u64;
        let key = table.key(&path).unwrap();
        self.storage.put(&key, content).await.unwrap();
        let commit = Commit {
            operation: "WRITE",
            schema: &self.schema,
            now: at(DAY_0),
            adds: vec![Add {
                path,
                partition_values: [("d".to_owned(), Some(day))].into(),
                size,
                modification_time: 0,
                data_change: true,
                stats: Some(Add::stats_of(rows)),
                tags: None,
            }],
            removes: Vec::new(),
            transactions: Vec::new(),
            once: false,
        };
        let mut snapshot = table.load().await.unwrap();
        table.commit(&mut snapshot, &commit).await.unwrap();
    }

    /// Compacts in a process that uses `storage`.
    pub(crate) async fn compact(
        &self,
        storage: &Arc<dyn Storage>,
    ) -> Result<CompactSummary, LakeError> {
        let source = Arc::new(MemorySource::default());
        let lease = Lease::new(source, self.clock.clone(), "test", 60_000_000);
        let order = ["a".to_owned()];
        let table = Self::table(storage);
        let how = Compaction {
            order: &order,
            target_bytes: 100_000,
            keep_replaced: false,
        };
        compact(&table, how, &lease, self.clock.as_ref()).await
    }

    pub(crate) async fn tidy(&self, storage: &Arc<dyn Storage>) -> Result<Vacuumed, LakeError> {
        let table = Self::table(storage);
        let snapshot = table.load().await?;
        table.vacuum(&snapshot, AT_ONCE, at(DAY_0)).await
    }

    /// Returns the numbers of the live files by day, each file's in its order, and fails when one is gone.
    pub(crate) async fn live(&self) -> Vec<(String, Vec<i64>)> {
        let table = Self::table(&self.storage);
        let snapshot = table.load().await.unwrap();
        let mut found = Vec::new();
        for add in snapshot.files.values() {
            let key = table.key(&add.path).unwrap();
            let content = self.storage.get(&key).await.unwrap();
            // `None`: a live file is gone.
            let reader = ParquetRecordBatchReaderBuilder::try_new(content.unwrap()).unwrap();
            let mut numbers = Vec::new();
            for batch in reader.build().unwrap() {
                let batch = batch.unwrap();
                numbers.extend(batch.column(0).as_primitive::<Int64Type>().values());
            }
            found.push((add.partition_values["d"].clone().unwrap(), numbers));
        }
        found
    }

    /// Returns all numbers by day, sorted.
    pub(crate) async fn sorted(&self) -> Vec<(String, i64)> {
        let live = self.live().await.into_iter();
        let mut all: Vec<_> = live
            .flat_map(|(day, numbers)| numbers.into_iter().map(move |n| (day.clone(), n)))
            .collect();
        all.sort();
        all
    }

    pub(crate) async fn data_files(&self) -> usize {
        let folder = ObjectKey::new("treated/numbers").unwrap();
        let listed = self.storage.list(&folder).await.unwrap();
        let names = listed.iter().map(|object| object.key.as_str());
        names.filter(|name| !name.contains("_delta_log")).count()
    }
}

async fn filled() -> Numbers {
    let numbers = Numbers::new(Arc::new(MemoryStorage::default()));
    for part in 0..6 {
        numbers.add(1, part * 10..part * 10 + 10, part == 0).await;
    }
    numbers.add(2, 0..5, false).await;
    numbers
}

#[tokio::test]
async fn small_files_of_a_partition_become_one_sorted_file() {
    let numbers = filled().await;
    let before = numbers.sorted().await;
    let summary = numbers.compact(&numbers.storage).await.unwrap();
    assert_eq!((summary.files_before, summary.files_after), (6, 1));
    assert_eq!((summary.rows, numbers.data_files().await), (60, 2));
    assert_eq!(numbers.sorted().await, before);
    let live = numbers.live().await;
    let whole: Vec<i64> = (0..60).collect();
    assert!(live.contains(&("2026-01-01".to_owned(), whole)), "{live:?}");
    // To a model that reads the table nothing changed.
    let table = Numbers::table(&numbers.storage);
    let snapshot = table.load().await.unwrap();
    assert!(table.changed_since(7, &snapshot).await.unwrap().is_empty());
    // A second time there is nothing to do.
    let summary = numbers.compact(&numbers.storage).await.unwrap();
    assert_eq!(summary.files_before, 0);
    assert_eq!(table.load().await.unwrap(), snapshot);
    // More comes, and joins what there is.
    numbers.add(1, 60..70, false).await;
    let summary = numbers.compact(&numbers.storage).await.unwrap();
    assert_eq!((summary.files_before, summary.files_after), (2, 1));
    assert_eq!(numbers.live().await.len(), 2);
}

#[tokio::test]
async fn a_crash_at_any_call_of_a_compaction_loses_and_repeats_nothing() {
    let before = filled().await.sorted().await;
    for number in 0.. {
        for death in [Death::Before, Death::After] {
            let numbers = filled().await;
            let faults = Faults::default();
            faults.restart(Some((number, death)));
            let mortal: Arc<dyn Storage> = Arc::new(Mortal {
                inner: numbers.storage.clone(),
                faults: faults.clone(),
            });
            let outcome = numbers.compact(&mortal).await;
            let context = format!("{death:?} call {number}, in {:?}", faults.died_in());
            assert_eq!(numbers.sorted().await, before, "{context}");
            numbers.tidy(&numbers.storage).await.unwrap();
            numbers.compact(&numbers.storage).await.unwrap();
            assert_eq!(numbers.sorted().await, before, "{context}");
            // What is there is live: a reader of plain files sees every row once.
            assert_eq!(numbers.data_files().await, 2, "{context}");
            if faults.died_in().is_none() {
                assert!(outcome.is_ok() && number > 10);
                return;
            }
        }
    }
}

/// Files that state their hash are compared with it before they are decoded, which damage can make a panic.
#[tokio::test]
async fn a_damaged_file_is_refused_and_nothing_changes() {
    let numbers = filled().await;
    numbers.compact(&numbers.storage).await.unwrap();
    numbers.add(1, 60..70, false).await;
    let table = Numbers::table(&numbers.storage);
    let before = table.load().await.unwrap();
    let path = before.files.keys().find(|path| path.contains("/part-"));
    let key = table.key(path.unwrap()).unwrap();
    let whole = numbers.storage.get(&key).await.unwrap().unwrap();
    for place in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[place] ^= 0x10;
        numbers.storage.put(&key, damaged.into()).await.unwrap();
        let error = numbers.compact(&numbers.storage).await.unwrap_err();
        assert!(error.to_string().contains(key.as_str()), "{place}: {error}");
        assert_eq!(table.load().await.unwrap(), before, "{place}");
    }
    // Negative control: whole, it is taken.
    numbers.storage.put(&key, whole).await.unwrap();
    let summary = numbers.compact(&numbers.storage).await.unwrap();
    assert_eq!(summary.files_before, 2);
}

/// Two who read the same version: one of them wins. Negative control: a commit that does not look whether what it
/// replaces is still there puts rows there twice.
#[tokio::test]
async fn a_compaction_that_was_overtaken_changes_nothing() {
    let numbers = filled().await;
    let before = numbers.sorted().await;
    let table = Numbers::table(&numbers.storage);
    let mut stale = table.load().await.unwrap();
    let old: Vec<_> = stale.files.values().cloned().collect();
    numbers.compact(&numbers.storage).await.unwrap();
    let schema = schema(&["a", "b"]);
    let again = Commit {
        operation: "OPTIMIZE",
        schema: &schema,
        now: at(DAY_0),
        removes: old.iter().map(|add| add.path.clone()).collect(),
        adds: old[..1].to_vec(),
        transactions: Vec::new(),
        once: false,
    };
    let error = table.commit_at(&mut stale.clone(), &again).await;
    assert!(
        matches!(error, Err(LakeError::Contended { .. })),
        "{error:?}"
    );
    assert_eq!(numbers.sorted().await, before);
    table.commit(&mut stale, &again).await.unwrap();
    let rows = table.load().await.unwrap().rows();
    assert_ne!(rows, before.len() as u64);
}

#[tokio::test]
async fn replaced_files_stay_as_long_as_asked_for_and_live_ones_for_ever() {
    let memory = MemoryStorage::default();
    let numbers = Numbers::new(Arc::new(memory));
    numbers.add(1, 0..10, false).await;
    numbers.add(1, 10..20, false).await;
    let table = Numbers::table(&numbers.storage);
    let mut snapshot = table.load().await.unwrap();
    let path = snapshot.files.keys().next().unwrap().clone();
    let schema = schema(&["a", "b"]);
    let replace = Commit {
        operation: "WRITE",
        schema: &schema,
        now: at(DAY_0),
        removes: vec![path.clone()],
        adds: Vec::new(),
        transactions: Vec::new(),
        once: false,
    };
    table.commit(&mut snapshot, &replace).await.unwrap();
    let orphan = table.key("d=2026-01-09/orphan.parquet").unwrap();
    numbers.storage.put(&orphan, "x".into()).await.unwrap();
    let hour = 3_600_000_000;
    let rule = Vacuum {
        retention_us: 2 * hour,
        grace_us: hour,
    };
    let gone = table.vacuum(&snapshot, rule, at(DAY_0 + hour)).await;
    assert_eq!(gone.unwrap(), Vacuumed::default());
    assert_eq!(numbers.data_files().await, 3);
    let gone = table.vacuum(&snapshot, rule, at(DAY_0 + 2 * hour)).await;
    assert_eq!(gone.unwrap().files, 1, "the replaced one");
    let gone = table.vacuum(&snapshot, AT_ONCE, at(DAY_0)).await;
    assert_eq!(gone.unwrap().files, 1, "the orphan");
    assert_eq!(numbers.sorted().await.len(), 10);
    let none = table.vacuum(&Snapshot::default(), AT_ONCE, at(DAY_0)).await;
    assert_eq!(none.unwrap(), Vacuumed::default());
    let shape = Shape::of(&snapshot, 1 << 20);
    assert_eq!((shape.files, shape.small_files), (1, 1));
    assert_eq!(Shape::of(&snapshot, 1).small_files, 0);
}

/// In raw a file that was never live is deleted only when its rows are in the lake in another one.
#[tokio::test]
async fn in_raw_only_files_go_whose_rows_were_taken() {
    use store::LakeTable;
    let mut world = crate::world::World::in_memory();
    world.store(0, 60);
    world.run(None).await.unwrap();
    let table = world.table(LakeTable::DelivererLocation);
    let snapshot = table.load().await.unwrap();
    let live = snapshot.files.keys().next().unwrap();
    let mut part = lake::hive::PartName::parse(live).unwrap();
    let content = world.storage.get(&table.key(live).unwrap()).await.unwrap();
    let content = content.unwrap();
    let put = async |part: &lake::hive::PartName| {
        let path = format!("event_date=2026-01-01/{}", part.file_name());
        let key = table.key(&path).unwrap();
        world.storage.put(&key, content.clone()).await.unwrap();
        key
    };
    part.after = part.to - 1;
    let taken = put(&part).await;
    part.to = 1_000_000;
    let to_come = put(&part).await;
    let gone = table.vacuum(&snapshot, AT_ONCE, at(DAY_0)).await.unwrap();
    assert_eq!(gone.files, 1);
    assert_eq!(world.storage.get(&taken).await.unwrap(), None);
    assert!(world.storage.get(&to_come).await.unwrap().is_some());
    assert_eq!(world.faults_found().await, Vec::<String>::new());
}
