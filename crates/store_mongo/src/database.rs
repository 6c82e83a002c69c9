//! The database and its collections, with the concerns every operation uses.
//!
//! Writes ask for a majority and the journal, reads for what a majority has, from the primary, whatever the
//! URI says: the laws of the store depend on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mongodb::bson::{Document, RawDocumentBuf};
use mongodb::options::{CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria};
use mongodb::{Client, Collection, Database};
use store::LakeTable;

use crate::error::{Failure, Outcome};
use crate::memory::Memory;
use crate::tuning::Tuning;

/// Longest wait for one answer. A server that stands still longer is taken for gone; what it may still do
/// with the request is why a writer gives up its identity.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) const POSITIONS: &str = "positions";
pub(crate) const POSITION_LISTS: &str = "position_lists";
pub(crate) const CARRIED: &str = "carried";
pub(crate) const FLEET_EVENTS: &str = "fleet_events";
pub(crate) const REJECTED: &str = "rejected";
pub(crate) const LAST_POSITIONS: &str = "last_positions";
pub(crate) const LAST_BY_DELIVERER: &str = "last_by_deliverer";
pub(crate) const WRITERS: &str = "writers";
pub(crate) const CURSORS: &str = "cursors";
pub(crate) const WINDOWS: &str = "lake_windows";
pub(crate) const LEASES: &str = "leases";
pub(crate) const META: &str = "meta";

/// Returns the collection of a table of the lake.
pub(crate) fn rows_of(table: LakeTable) -> &'static str {
    match table {
        LakeTable::DelivererLocation => POSITIONS,
        LakeTable::FleetEvent => FLEET_EVENTS,
        LakeTable::Rejected => REJECTED,
    }
}

fn options(tuning: &Tuning, read: ReadConcern) -> CollectionOptions {
    CollectionOptions::builder()
        .write_concern(tuning.durable())
        .read_concern(read)
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build()
}

/// A database on a client; clones share both.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    database: Database,
    bulk: bool,
    tuning: Tuning,
    carried: Mutex<Memory>,
    known_orders: Mutex<Memory>,
    known_deliverers: Mutex<Memory>,
    // Made once: making one allocates its name and options, and a last position is asked for often.
    last_positions: Collection<crate::rows::PositionDoc>,
    last_by_deliverer: Collection<crate::rows::PositionDoc>,
}

impl Store {
    /// `bulk` tells whether the server knows the bulk write of `MongoDB` 8.0.
    pub(crate) fn new(client: Client, database: &str, bulk: bool, tuning: Tuning) -> Self {
        let database = client.database(database);
        let last = |name| {
            let majority = options(&tuning, ReadConcern::majority());
            database.collection_with_options(name, majority)
        };
        Self {
            shared: Arc::new(Shared {
                last_positions: last(LAST_POSITIONS),
                last_by_deliverer: last(LAST_BY_DELIVERER),
                client,
                database,
                bulk: tuning.bulk_write.unwrap_or(bulk),
                tuning,
                carried: Mutex::default(),
                known_orders: Mutex::default(),
                known_deliverers: Mutex::default(),
            }),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }

    pub(crate) fn database(&self) -> &Database {
        &self.shared.database
    }

    pub(crate) fn tuning(&self) -> &Tuning {
        &self.shared.tuning
    }

    pub(crate) fn has_bulk_write(&self) -> bool {
        self.shared.bulk
    }

    /// Returns what is known to be written of what deliverers carried.
    pub(crate) fn carried(&self) -> MutexGuard<'_, Memory> {
        held(&self.shared.carried)
    }

    /// Returns which orders are known to have a last position.
    pub(crate) fn known_orders(&self) -> MutexGuard<'_, Memory> {
        held(&self.shared.known_orders)
    }

    /// Returns which deliverers are known to have a last position.
    pub(crate) fn known_deliverers(&self) -> MutexGuard<'_, Memory> {
        held(&self.shared.known_deliverers)
    }

    pub(crate) fn last_positions(&self) -> &Collection<crate::rows::PositionDoc> {
        &self.shared.last_positions
    }

    pub(crate) fn last_by_deliverer(&self) -> &Collection<crate::rows::PositionDoc> {
        &self.shared.last_by_deliverer
    }

    /// Returns a collection that reads what a majority has.
    pub(crate) fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.shared
            .database
            .collection_with_options(name, options(self.tuning(), ReadConcern::majority()))
    }

    /// Returns a collection that reads the newest state of the primary, which may yet be rolled back.
    pub(crate) fn newest<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.shared
            .database
            .collection_with_options(name, options(self.tuning(), ReadConcern::local()))
    }

    pub(crate) fn documents(&self, name: &str) -> Collection<Document> {
        self.collection(name)
    }

    pub(crate) fn raw(&self, name: &str) -> Collection<RawDocumentBuf> {
        self.collection(name)
    }
}

fn held(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    // Each change of it is one insertion into a set: a panic leaves nothing half done.
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for an answer, but not for ever.
pub(crate) async fn answer<T>(
    asked: impl IntoFuture<Output = mongodb::error::Result<T>>,
) -> Outcome<T> {
    Ok(within(asked).await??)
}

/// Waits for an answer, but not for ever; leaves the driver's error to the caller.
pub(crate) async fn within<T>(
    asked: impl IntoFuture<Output = mongodb::error::Result<T>>,
) -> Outcome<mongodb::error::Result<T>> {
    tokio::time::timeout(ANSWER_TIMEOUT, asked.into_future())
        .await
        .map_err(|_| Failure {
            waited: true,
            ..Failure::unavailable(format!(
                "MongoDB has not answered for {} s",
                ANSWER_TIMEOUT.as_secs()
            ))
        })
}
