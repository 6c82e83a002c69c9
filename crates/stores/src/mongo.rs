//! The arm that opens MongoDB.

use std::sync::Arc;

use store::{Store, StoreError};
use store_mongo::{MongoStore, Options};

use crate::{Config, MongoConfig};

pub(crate) use store_mongo::check_uri;

fn options(mongodb: &MongoConfig, config: &Config) -> Options {
    Options {
        database: mongodb.mongodb_database.clone(),
        writer: config.writer.clone(),
        max_future_skew_us: config.max_future_skew_us(),
        ttl: mongodb.mongodb_ttl.map(Into::into),
        ..Options::new(mongodb.mongodb_uri.expose().clone())
    }
}

pub(crate) async fn open(
    mongodb: &MongoConfig,
    config: &Config,
) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(MongoStore::open(&options(mongodb, config)).await?))
}

/// Opens one client with an identity for each of `pipelines`.
pub(crate) async fn open_writers(
    mongodb: &MongoConfig,
    config: &Config,
    pipelines: usize,
) -> Result<Vec<Arc<dyn Store>>, StoreError> {
    let first = MongoStore::open(&options(mongodb, config)).await?;
    let mut writers: Vec<Arc<dyn Store>> = Vec::with_capacity(pipelines);
    for _ in 1..pipelines {
        writers.push(Arc::new(first.another_writer()));
    }
    writers.push(Arc::new(first));
    Ok(writers)
}
