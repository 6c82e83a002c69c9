//! Opening the store, and waiting for one that is not there yet.
//!
//! Only what is `Unavailable` is worth waiting for; every other error comes back at once. The wait is told
//! once in the log and stands in the health of component `store`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use service::{Context, ErrorChain};
use store::{ErrorKind, Reader, Store, StoreError};
use store_sqlite::{Options, SqliteStore};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::{Config, Kind, Watched, mongo};

/// Longest wait for an `SQLite` file: for the subscriber to make it, or for a lock on it to go away. Longer
/// than any start takes; after it the path is taken to be wrong.
pub const SQLITE_WAIT: Duration = Duration::from_mins(2);

/// Name of the component that waits, in `/readyz`.
const COMPONENT: &str = "store";

impl Config {
    /// Opens the store once, and makes it where it is not.
    ///
    /// # Errors
    /// `Unavailable` when it does not answer; `Data` when it is none of this project.
    pub async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        match &self.kind {
            Kind::Sqlite { sqlite } => Ok(Arc::new(self.open_sqlite(sqlite, true).await?)),
            Kind::Mongodb(mongodb) => mongo::open(mongodb, self).await,
        }
    }

    /// Opens the store once, for `pipelines` that write side by side, and makes it where it is not. On
    /// MongoDB each has a writer identity of its own on one client; an `SQLite` file has one writer for all.
    ///
    /// # Errors
    /// As [`Config::open`].
    pub async fn open_writers(&self, pipelines: usize) -> Result<Vec<Arc<dyn Store>>, StoreError> {
        match &self.kind {
            Kind::Sqlite { .. } => Ok(vec![self.open().await?; pipelines]),
            Kind::Mongodb(mongodb) => mongo::open_writers(mongodb, self, pipelines).await,
        }
    }

    /// As [`Config::open_writers`], and waits while the store is unavailable: for a MongoDB until it is
    /// there, for an `SQLite` file [`SQLITE_WAIT`]. `None` when the process is stopped meanwhile.
    ///
    /// Call it after the health endpoint serves: until it returns, component `store` is not ready.
    ///
    /// # Errors
    /// The last error when the wait is over, and any that waiting does not mend.
    pub async fn wait_writers(
        &self,
        pipelines: usize,
        context: &Context,
    ) -> Result<Option<Vec<Arc<dyn Store>>>, StoreError> {
        let limit = (!self.is_mongodb()).then_some(SQLITE_WAIT);
        self.wait(context, limit, || self.open_writers(pipelines))
            .await
    }

    /// Opens a store that somebody else makes, and waits for it up to `limit`, or until it is there. `None`
    /// when the process is stopped meanwhile.
    ///
    /// # Errors
    /// As [`Config::wait_writers`].
    pub async fn open_existing(
        &self,
        context: &Context,
        limit: Option<Duration>,
    ) -> Result<Option<Arc<dyn Store>>, StoreError> {
        self.wait(context, limit, || self.try_existing()).await
    }

    /// Opens a store that somebody else makes, once.
    ///
    /// # Errors
    /// `Unavailable` when it is not there or does not answer; else as [`Config::open`].
    pub async fn try_existing(&self) -> Result<Arc<dyn Store>, StoreError> {
        match &self.kind {
            Kind::Sqlite { sqlite } => Ok(Arc::new(self.open_sqlite(sqlite, false).await?)),
            Kind::Mongodb(mongodb) => mongo::open(mongodb, self).await,
        }
    }

    /// Opens the store for reading. An `SQLite` file is waited for ([`SQLITE_WAIT`]); `None` when the process
    /// is stopped meanwhile. A MongoDB is given at once as a [`Watched`] reader, which answers `Unavailable`
    /// whenever the server is away and keeps the health of component `store`.
    ///
    /// # Errors
    /// As [`Config::open_existing`].
    pub async fn open_reader(
        &self,
        context: &Context,
    ) -> Result<Option<Arc<dyn Reader>>, StoreError> {
        if !self.is_mongodb() {
            let opened = self.open_existing(context, Some(SQLITE_WAIT)).await?;
            return Ok(opened.map(|store| store as Arc<dyn Reader>));
        }
        let (config, place) = (self.clone(), self.place());
        let open = move || {
            let config = config.clone();
            async move {
                let store = config.try_existing().await?;
                Ok(store as Arc<dyn Reader>)
            }
        };
        Ok(Some(Arc::new(Watched::start(open, place, context))))
    }

    async fn open_sqlite(&self, path: &Path, make: bool) -> Result<SqliteStore, StoreError> {
        let options = Options {
            max_future_skew_us: self.max_future_skew_us(),
            ..Options::default()
        };
        let path: PathBuf = path.to_owned();
        // It blocks on the disk, and for long after a crash with a large journal.
        let opened = tokio::task::spawn_blocking(move || {
            // Opening alone would make an empty one wherever --data points.
            if !make && let Err(source) = std::fs::metadata(&path) {
                return Err(no_file(&path, &source));
            }
            SqliteStore::open(&path, &options)
        });
        opened
            .await
            .map_err(|error| failure(ErrorKind::Internal, error.into()))?
    }

    /// Calls `open` until it succeeds, with one warning and a growing delay.
    async fn wait<T, Fut>(
        &self,
        context: &Context,
        limit: Option<Duration>,
        open: impl Fn() -> Fut,
    ) -> Result<Option<T>, StoreError>
    where
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let health = context.health.component(COMPONENT);
        let started = Instant::now();
        let mut backoff = Backoff::default();
        let mut waiting = false;
        loop {
            let attempt = tokio::select! {
                attempt = open() => attempt,
                () = context.tasks.stopped() => return Ok(None),
            };
            let failure = match attempt {
                Ok(opened) => {
                    if waiting {
                        let waited_ms = started.elapsed().as_millis();
                        tracing::info!(store = self.place(), waited_ms, "the store is there");
                    }
                    health.ready();
                    return Ok(Some(opened));
                }
                Err(error) if error.kind() != ErrorKind::Unavailable => return Err(error),
                Err(error) => error,
            };
            if limit.is_some_and(|limit| started.elapsed() >= limit) {
                return Err(failure);
            }
            health.not_ready(format!("waiting for the store: {}", ErrorChain(&failure)));
            if !waiting {
                waiting = true;
                let error = ErrorChain(&failure);
                tracing::warn!(store = self.place(), %error, "waiting for the store");
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = context.tasks.stopped() => return Ok(None),
            }
        }
    }
}

/// Says that nobody has made the store yet.
fn no_file(path: &Path, source: &std::io::Error) -> StoreError {
    let path = path.display();
    let hint =
        format!("there is no store at {path}; the subscriber makes it, check --data ({source})");
    failure(ErrorKind::Unavailable, hint.into())
}

fn failure(kind: ErrorKind, source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    StoreError {
        operation: "open",
        store: "sqlite",
        kind,
        source,
    }
}

#[cfg(test)]
mod tests;
