//! A store and a lake in a temporary folder.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::{Decoded, Message, decode};
use lake::{Offload, OffloadConfig, Root};
use lake_models::{Model, ModelError, ModelSummary, Rows, Runner, builtin, query};
use model::{
    DelivererId, DeliveryState, Latitude, Longitude, OrderId, Position, Record, Source, UtcMicros,
};
use service::SystemClock;
use store::{Batch, Writer};
use store_sqlite::{Options, SqliteStore};
use tempfile::TempDir;

pub(crate) struct World {
    _folder: TempDir,
    pub(crate) store: SqliteStore,
    root: Root,
}

/// 2026-01-01T00:00:00Z.
const DAY_0: i64 = 1_767_225_600_000_000;

pub(crate) fn at(day: i64, second: i64) -> UtcMicros {
    UtcMicros::new(DAY_0 + (day * 86_400 + second) * 1_000_000).unwrap()
}

pub(crate) fn place(lat: f64, lon: f64) -> (Latitude, Longitude) {
    let lat = Latitude::from_degrees(lat).unwrap();
    (lat, Longitude::from_degrees(lon).unwrap())
}

pub(crate) fn position(deliverer: &str, time: UtcMicros, lat: f64) -> Position {
    let (lat, lon) = place(lat, 4.0);
    Position {
        order_id: Some(OrderId::new(format!("order of {deliverer}")).unwrap()),
        deliverer_id: DelivererId::new(deliverer).unwrap(),
        delivery_state: DeliveryState::new("start"),
        event_time: time,
        received_time: time,
        lat,
        lon,
        speed_mps: None,
        heading_deg: None,
        accuracy_m: None,
        altitude_m: None,
        battery: None,
        seq: None,
        source: Source::Native,
    }
}

impl World {
    /// A world whose lake is a folder.
    pub(crate) fn new() -> Self {
        Self::with(None)
    }

    /// A world whose lake is there.
    pub(crate) fn of(root: Root) -> Self {
        Self::with(Some(root))
    }

    fn with(root: Option<Root>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let store = SqliteStore::open(&path, &Options::default()).unwrap();
        let root = root.unwrap_or_else(|| Root::from_folder(folder.path().join("lake")));
        Self {
            _folder: folder,
            store,
            root,
        }
    }

    pub(crate) fn root(&self) -> Root {
        self.root.clone()
    }

    /// Returns the folder the lake is in.
    pub(crate) fn lake_folder(&self) -> PathBuf {
        self.root().folder().unwrap().to_owned()
    }

    pub(crate) async fn append(&self, records: Vec<Record>) {
        let batch = Batch {
            records,
            ..Batch::default()
        };
        self.store.append(batch).await.unwrap();
    }

    /// Takes messages as the subscriber does.
    pub(crate) async fn take(&self, topic: &str, payload: &str, received: &str) {
        let mut decoded = Decoded::default();
        let message = Message {
            topic,
            payload: payload.as_bytes(),
            received_time: UtcMicros::parse(received).unwrap(),
            log_seq: None,
        };
        decode(message, &mut decoded);
        assert!(decoded.rejects.is_empty(), "{:?}", decoded.rejects.first());
        self.append(decoded.records).await;
    }

    /// Takes the door2door sample.
    pub(crate) async fn take_sample(&self, sample: &Path) {
        let mut events = String::new();
        let file = std::fs::File::open(sample).unwrap();
        let mut file = flate2::read::MultiGzDecoder::new(file);
        file.read_to_string(&mut events).unwrap();
        let lines: Vec<_> = events.lines().collect();
        for lines in lines.chunks(5_000) {
            self.take(
                "fleet/org-id/events",
                &lines.join("\n"),
                "2019-06-02T00:00:00Z",
            )
            .await;
        }
    }

    pub(crate) async fn store(&self, positions: impl IntoIterator<Item = Position>) {
        self.append(positions.into_iter().map(Record::Position).collect())
            .await;
    }

    fn process(&self) -> Offload {
        let source = Arc::new(self.store.clone());
        let config = OffloadConfig::new("test");
        Offload::new(source, &self.root(), config, Arc::new(SystemClock))
    }

    pub(crate) async fn offload(&self) {
        let summary = self
            .process()
            .run_once(&mut |_| ControlFlow::Continue(()))
            .await
            .unwrap();
        assert!(summary.complete, "{summary:?}");
    }

    pub(crate) async fn run(&self, models: &[Model]) -> Result<Vec<ModelSummary>, ModelError> {
        let lease = self.process().lease().clone();
        let runner = Runner::new(self.root(), lease, Arc::new(SystemClock));
        runner.run(models, |_| ()).await
    }

    /// Offloads and runs all models of the project.
    pub(crate) async fn refresh(&self) -> Vec<ModelSummary> {
        self.offload().await;
        self.run(&builtin()).await.unwrap()
    }

    pub(crate) async fn query(&self, sql: &str) -> Result<Rows, ModelError> {
        query(&self.root(), &builtin(), sql).await
    }

    pub(crate) async fn cells(&self, sql: &str) -> Vec<Vec<String>> {
        self.query(sql).await.unwrap().cells().unwrap()
    }

    /// Returns the data files below a folder of the lake, with their content.
    pub(crate) fn files(&self, table: &str) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.lake_folder().join(table)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let content = std::fs::read(&path).unwrap();
                    found.push((path.to_string_lossy().into_owned(), content));
                }
            }
        }
        found.sort();
        found
    }
}
