//! A store, a lake and the processes that offload from one to the other, and what must hold between them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use lake::delta::{Snapshot, Table};
use lake::storage::{ObjectKey, Storage};
use lake::{LakeError, Offload, OffloadConfig, Summary};
use model::fleet_event::FleetAction;
use model::reject::Defect;
use model::{
    DelivererId, DeliveryState, FleetEvent, FleetSubject, Latitude, Longitude, OrderId, Position,
    Reject, RejectReason, Source, UtcMicros,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use service::ManualClock;
use store::{LakeTable, WindowState};

use crate::source::{MemorySource, add};
use crate::storage::{Death, Faults, MemoryStorage, Mortal};

/// 2026-01-01T00:00:00Z.
pub(crate) const DAY_0: i64 = 1_767_225_600_000_000;
const DAY: i64 = 86_400_000_000;

pub(crate) struct World {
    pub(crate) source: MemorySource,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) faults: Faults,
    clock: Arc<ManualClock>,
    runs: u32,
    pub(crate) window_rows: u64,
    pub(crate) chunk_bytes: usize,
    pub(crate) purge_after_us: Option<i64>,
}

pub(crate) fn at(micros: i64) -> UtcMicros {
    UtcMicros::new(micros).unwrap()
}

pub(crate) fn position(number: i64, day: i64) -> Position {
    let event_time = at(DAY_0 + day * DAY + number * 1_000_003);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let lat = number as f64 / 1_000.0;
    Position {
        order_id: (number % 3 != 0).then(|| OrderId::new(format!("order-{}", number % 5)).unwrap()),
        deliverer_id: DelivererId::new(format!("d{}", number % 7)).unwrap(),
        delivery_state: DeliveryState::new(if number % 2 == 0 { "start" } else { "lost" }),
        event_time,
        received_time: at(DAY_0 + 5 * DAY),
        lat: Latitude::from_degrees(lat).unwrap(),
        lon: Longitude::from_degrees(-lat).unwrap(),
        speed_mps: (number % 4 == 0).then_some(1.5),
        heading_deg: None,
        accuracy_m: Some(3.0),
        altitude_m: None,
        battery: None,
        seq: (number % 2 == 0).then_some(7),
        source: Source::Native,
    }
}

pub(crate) fn event(number: i64) -> FleetEvent {
    let action = [FleetAction::Register, FleetAction::Update][usize::try_from(number % 2).unwrap()];
    FleetEvent {
        organization_id: "org".into(),
        on: FleetSubject::Vehicle,
        event: action,
        entity_id: format!("v{}", number % 3).into(),
        at: at(DAY_0 + number * 7_000_000),
        received_time: at(DAY_0 + DAY),
        data: format!(r#"{{"id":"v{}","n":{number}}}"#, number % 3).into(),
    }
}

pub(crate) fn reject(number: i64) -> Reject {
    Reject {
        defect: Defect::new(RejectReason::Malformed, format!("letter {number}")),
        topic: "test/deliverer_data".into(),
        payload: vec![0xff, 0, u8::try_from(number % 256).unwrap()].into(),
        received_time: at(DAY_0 + number),
        item: 0,
        log_seq: Some(u64::try_from(number).unwrap()),
    }
}

impl World {
    pub(crate) fn new(inner: Arc<dyn Storage>) -> Self {
        let faults = Faults::default();
        Self {
            source: MemorySource {
                faults: faults.clone(),
                ..MemorySource::default()
            },
            storage: inner,
            faults,
            clock: Arc::new(ManualClock::new(at(DAY_0 + 9 * DAY))),
            runs: 0,
            window_rows: 40,
            chunk_bytes: usize::MAX,
            purge_after_us: None,
        }
    }

    pub(crate) fn in_memory() -> Self {
        Self::new(Arc::new(MemoryStorage::default()))
    }

    /// Stores `count` rows of each kind, the positions over three days.
    pub(crate) fn store(&self, first: i64, count: i64) {
        let mut state = self.source.state.lock().unwrap();
        for number in first..first + count {
            let writer = if number % 3 == 0 { "writer-a" } else { "b.2/x" };
            add(&mut state.positions, writer, position(number, number % 3));
            if number % 4 == 0 {
                add(&mut state.events, writer, event(number));
                add(&mut state.rejects, writer, reject(number));
            }
        }
    }

    /// Runs a new process, which dies at its call number `die_at`.
    pub(crate) async fn run(&mut self, die_at: Option<(u64, Death)>) -> Result<Summary, LakeError> {
        self.faults.restart(die_at);
        self.runs += 1;
        // Longer than any lease: whoever died has lost it.
        self.clock.advance_micros(3_600_000_000);
        self.process()
            .run_once(&mut |_| ControlFlow::Continue(()))
            .await
    }

    /// Runs two new processes at once, the lease of the first of which ran out before it knew; each meets its own
    /// faults.
    pub(crate) async fn two_at_once(&mut self, faults: &[Faults; 2]) {
        self.clock.advance_micros(3_600_000_000);
        let [one, other] = faults.each_ref().map(|faults| {
            self.runs += 1;
            let source = MemorySource {
                faults: faults.clone(),
                leases_for_all: true,
                ..self.source.clone()
            };
            self.process_of(source, faults.clone())
        });
        let run = async |process: Offload| {
            drop(process.run_once(&mut |_| ControlFlow::Continue(())).await);
        };
        tokio::join!(run(one), run(other));
    }

    /// Returns how many rows of a table were ever stored.
    pub(crate) fn stored(&self, table: LakeTable) -> u64 {
        let state = self.source.state.lock().unwrap();
        let rows: usize = match table {
            LakeTable::DelivererLocation => state.positions.values().map(Vec::len).sum(),
            LakeTable::FleetEvent => state.events.values().map(Vec::len).sum(),
            LakeTable::Rejected => state.rejects.values().map(Vec::len).sum(),
        };
        rows as u64
    }

    pub(crate) fn process(&self) -> Offload {
        self.process_of(self.source.clone(), self.faults.clone())
    }

    fn process_of(&self, source: MemorySource, faults: Faults) -> Offload {
        let mortal = Mortal {
            inner: self.storage.clone(),
            faults,
        };
        let config = OffloadConfig {
            window_rows: self.window_rows,
            chunk_bytes: self.chunk_bytes,
            purge_after_us: self.purge_after_us,
            ..OffloadConfig::new(format!("runner-{}", self.runs))
        };
        let source = Arc::new(source);
        Offload::with_storage(source, Arc::new(mortal), config, self.clock.clone())
    }

    pub(crate) fn table(&self, table: LakeTable) -> Table {
        let folder = ObjectKey::new(format!("raw/{}", table.as_str())).unwrap();
        Table::new(self.storage.clone(), folder)
    }

    pub(crate) async fn snapshot(&self, table: LakeTable) -> Snapshot {
        self.table(table).load().await.unwrap()
    }

    /// Reads the live files of a table, each with its partition.
    pub(crate) async fn batches(&self, table: LakeTable) -> Vec<(String, RecordBatch)> {
        let delta = self.table(table);
        let mut batches = Vec::new();
        for add in delta.load().await.unwrap().files.values() {
            let key = delta.key(&add.path).unwrap();
            let content = self.storage.get(&key).await.unwrap().unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(content).unwrap();
            for batch in reader.build().unwrap() {
                batches.push((add.path.clone(), batch.unwrap()));
            }
        }
        batches
    }

    /// Returns what is wrong between store and lake: rows missing, rows twice, windows not verified, files
    /// committed twice.
    pub(crate) async fn faults_found(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut in_store: BTreeMap<(&str, String, u64), i64> = BTreeMap::new();
        {
            let state = self.source.state.lock().unwrap();
            for (writer, rows) in &state.positions {
                in_store.extend(rows.iter().map(|s| {
                    let key = ("deliverer_location", writer.clone(), s.writer_seq);
                    (key, s.row.event_time.as_micros())
                }));
            }
            for (writer, rows) in &state.events {
                in_store.extend(rows.iter().map(|s| {
                    (
                        ("fleet_event", writer.clone(), s.writer_seq),
                        s.row.at.as_micros(),
                    )
                }));
            }
            for (writer, rows) in &state.rejects {
                in_store.extend(rows.iter().map(|s| {
                    let key = ("rejected", writer.clone(), s.writer_seq);
                    (key, s.row.received_time.as_micros())
                }));
            }
            for window in state.windows.values().flatten() {
                if window.state != WindowState::Verified {
                    wrong.push(format!("not verified: {window:?}"));
                }
            }
        }
        let mut in_lake = BTreeMap::new();
        for table in LakeTable::ALL {
            for (path, batch) in self.batches(table).await {
                let writers = batch
                    .column_by_name("writer_id")
                    .unwrap()
                    .as_string::<i32>();
                let seqs = batch.column_by_name("writer_seq").unwrap();
                let times = ["event_time", "at", "received_time"];
                let times = times
                    .iter()
                    .find_map(|name| batch.column_by_name(name))
                    .unwrap();
                let times = times.as_primitive::<TimestampMicrosecondType>();
                for (row, seq) in seqs.as_primitive::<Int64Type>().values().iter().enumerate() {
                    let writer = writers.value(row).to_owned();
                    let time = times.value(row);
                    if !path.contains(&at(time).date()) {
                        wrong.push(format!("{path} holds a row of {}", at(time).date()));
                    }
                    let key = (table.as_str(), writer, seq.cast_unsigned());
                    if in_lake.insert(key.clone(), time).is_some() {
                        wrong.push(format!("twice in the lake: {key:?}"));
                    }
                }
            }
            wrong.extend(self.committed_twice(table).await);
        }
        if in_lake != in_store {
            let (lake, store) = (in_lake.len(), in_store.len());
            wrong.push(format!(
                "{lake} rows in the lake are not the {store} of the store"
            ));
        }
        wrong
    }

    /// Names files that more than one commit added: a reader that follows the log would see them twice.
    async fn committed_twice(&self, table: LakeTable) -> Vec<String> {
        let log = ObjectKey::new(format!("raw/{}/_delta_log", table.as_str())).unwrap();
        let mut added = BTreeMap::new();
        for commit in self.storage.list(&log).await.unwrap() {
            let content = self.storage.get(&commit.key).await.unwrap().unwrap();
            for line in content.split(|byte| *byte == b'\n') {
                let Ok(line) = serde_json::from_slice::<serde_json::Value>(line) else {
                    continue;
                };
                if let Some(path) = line.pointer("/add/path") {
                    *added.entry(path.to_string()).or_insert(0) += 1;
                }
            }
        }
        let twice = added.into_iter().filter(|(_, times)| *times > 1);
        twice
            .map(|(path, times)| format!("{path} committed {times} times"))
            .collect()
    }
}

/// Returns a row's latitude by writer and sequence.
pub(crate) fn latitudes(batch: &RecordBatch) -> Vec<f64> {
    let column = batch.column_by_name("lat").unwrap();
    column.as_primitive::<Float64Type>().values().to_vec()
}
