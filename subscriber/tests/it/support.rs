//! A log, a store and a subscriber between them; and a store that fails on demand.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ingest_log::{Log, LogConfig, RealDisk, RecordBatch, RecordHead};
use model::Record;
use service::{Common, Context};
use store::{Appended, Batch, Counts, ErrorKind, Reader, StoreError, Writer};
use store_sqlite::{Options, SqliteStore};
use subscriber::{Config, Counted, Settings, start_from_log};

/// Longest time any step may take; only a defect reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A folder with a log and a store.
pub(crate) struct Place {
    pub(crate) log: Log,
    pub(crate) store: SqliteStore,
    _folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(
            Arc::new(RealDisk),
            LogConfig::new(folder.path().join("log")),
        )
        .unwrap();
        Self {
            log,
            store: open_store(folder.path()),
            _folder: folder,
        }
    }

    /// Appends messages and waits until they are durable.
    pub(crate) async fn append<'a>(&self, messages: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
        let mut batch = RecordBatch::new();
        for (topic, payload) in messages {
            let head = RecordHead {
                qos: 1,
                retain: false,
                received_us: 1_767_355_200_000_000,
                topic,
                client_id: "test",
                properties: &[],
            };
            batch.push(&head, payload).unwrap();
        }
        self.log.append(batch).await.unwrap().await.unwrap();
    }

    /// Runs a subscriber over what the log holds, to its end, and returns what it counted.
    pub(crate) async fn subscribe(&self, store: Arc<dyn Writer>) -> Counted {
        let context = Context::for_tests();
        let handle = start_from_log(small_batches(), self.log.clone(), store, &context);
        context.tasks.stop(PATIENCE).await.unwrap();
        let failures = context.tasks.take_failures();
        assert!(failures.is_empty(), "{failures:?}");
        let counted = handle.counters.snapshot();
        assert!(counted.balances(), "{counted:?}");
        assert_eq!(counted.in_flight, 0, "{counted:?}");
        counted
    }

    pub(crate) fn writer(&self) -> Arc<dyn Writer> {
        Arc::new(self.store.clone())
    }

    pub(crate) async fn counts(&self) -> Counts {
        self.store.counts().await.unwrap()
    }
}

pub(crate) fn open_store(folder: &Path) -> SqliteStore {
    SqliteStore::open(&folder.join("store.sqlite"), &Options::default()).unwrap()
}

/// Batches of some records, so that a test of some hundred makes many of them.
pub(crate) fn small_batches() -> Config {
    let settings = Settings {
        batch_records: Some(16),
        batch_bytes: Some("2KiB".parse().unwrap()),
        ..Settings::default()
    };
    Config::resolve(settings, &Common::new("unused")).unwrap()
}

/// Native positions of deliverer `d`, one per second, as payloads.
pub(crate) fn positions(seconds: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    seconds
        .map(|second| {
            format!(
                r#"{{"order_id":"o","timestamp":{},"lat":52.1,"lon":4.2,"seq":{second}}}"#,
                1_767_355_200 + second
            )
            .into_bytes()
        })
        .collect()
}

pub(crate) const TOPIC: &str = "deliveries/d/location";

pub(crate) fn on_topic(payloads: &[Vec<u8>]) -> impl Iterator<Item = (&str, &[u8])> {
    payloads.iter().map(|payload| (TOPIC, payload.as_slice()))
}

/// What a call to a [`Faulty`] store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Works.
    None,
    /// Fails, and stores nothing.
    Fails(ErrorKind),
    /// Stores the batch and then says that it could not.
    StoresAndFails,
    /// Leaves out a record and says what it stored.
    Drops,
    /// Leaves out a record and says that all is stored.
    DropsAndLies,
}

/// A store that does as told, call by call, and works when it was told nothing.
pub(crate) struct Faulty {
    pub(crate) inner: SqliteStore,
    pub(crate) plan: Mutex<VecDeque<Fault>>,
    /// Refuses every batch that holds a position of this deliverer.
    pub(crate) refused: Option<&'static str>,
}

impl Faulty {
    pub(crate) fn new(inner: &SqliteStore, plan: impl IntoIterator<Item = Fault>) -> Arc<Self> {
        Arc::new(Self {
            inner: inner.clone(),
            plan: Mutex::new(plan.into_iter().collect()),
            refused: None,
        })
    }

    fn next(&self) -> Fault {
        self.plan.lock().unwrap().pop_front().unwrap_or(Fault::None)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.plan.lock().unwrap().is_empty()
    }
}

fn failure(kind: ErrorKind) -> StoreError {
    StoreError {
        operation: "append",
        store: "faulty",
        kind,
        source: Box::new(io::Error::other("as told")),
    }
}

#[async_trait]
impl Writer for Faulty {
    async fn append(&self, mut batch: Batch) -> Result<Appended, StoreError> {
        let refuses =
            |record: &Record| record.position().map(|p| p.deliverer_id.as_str()) == self.refused;
        if self.refused.is_some() && batch.records.iter().any(refuses) {
            return Err(failure(ErrorKind::Invalid));
        }
        match self.next() {
            Fault::None => self.inner.append(batch).await,
            Fault::Fails(kind) => Err(failure(kind)),
            Fault::StoresAndFails => {
                self.inner.append(batch).await?;
                Err(failure(ErrorKind::Unavailable))
            }
            Fault::Drops => {
                batch.records.pop().unwrap();
                self.inner.append(batch).await
            }
            Fault::DropsAndLies => {
                batch.records.pop().unwrap();
                let mut appended = self.inner.append(batch).await?;
                appended.stored += 1;
                Ok(appended)
            }
        }
    }

    async fn cursor(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.inner.cursor(source).await
    }

    async fn sync(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.inner.sync(source).await
    }
}
