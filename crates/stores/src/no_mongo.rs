//! Stands in for MongoDB in programs built without it.

use std::sync::Arc;

use store::{ErrorKind, Store, StoreError};

use crate::{Config, MongoConfig};

const WITHOUT: &str = "names a MongoDB, and this program was built without MongoDB; take the service of that name, or leave it out";

/// Refuses every URI, so that nothing is ever opened here.
pub(crate) fn check_uri(_uri: &str) -> Result<(), String> {
    Err(WITHOUT.to_owned())
}

fn refused() -> StoreError {
    StoreError {
        operation: "open",
        store: "mongodb",
        kind: ErrorKind::Internal,
        source: WITHOUT.into(),
    }
}

#[expect(
    clippy::unused_async,
    reason = "it has the signature of what it stands in for"
)]
pub(crate) async fn open(_: &MongoConfig, _: &Config) -> Result<Arc<dyn Store>, StoreError> {
    Err(refused())
}

#[expect(
    clippy::unused_async,
    reason = "it has the signature of what it stands in for"
)]
pub(crate) async fn open_writers(
    _: &MongoConfig,
    _: &Config,
    _: usize,
) -> Result<Vec<Arc<dyn Store>>, StoreError> {
    Err(refused())
}
