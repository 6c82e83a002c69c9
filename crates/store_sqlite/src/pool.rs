//! Connections for reading, made when needed and kept for the next reader.
//!
//! A point read takes some microseconds and runs where it is asked for, so there are at most as many
//! connections in use as threads. Longer reads run on blocking threads, [`LONG_READS`] at a time; more
//! wait their turn.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use store::{ErrorKind, StoreError};
use tokio::sync::Semaphore;

use crate::error::{Failure, Outcome};
use crate::schema;

/// History pages and scans at work at one time.
const LONG_READS: usize = 8;
/// Connections kept when idle.
const KEPT: usize = 16;

#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    long_reads: Semaphore,
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            idle: Mutex::default(),
            long_reads: Semaphore::new(LONG_READS),
        }
    }

    /// Reads on the calling thread.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&Connection) -> Outcome<T>) -> Outcome<T> {
        let kept = self.lock().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => schema::open_reader(&self.path)?,
        };
        let outcome = read(&connection);
        let mut idle = self.lock();
        if idle.len() < KEPT {
            idle.push(connection);
        }
        outcome
    }

    /// Reads on a blocking thread.
    pub(crate) async fn on_a_blocking_thread<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        read: impl FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let internal = |e: &dyn std::fmt::Display| {
            Failure::new(ErrorKind::Internal, e.to_string()).during(operation)
        };
        let _permit = self.long_reads.acquire().await.map_err(|e| internal(&e))?;
        let readers = Arc::clone(self);
        tokio::task::spawn_blocking(move || readers.with(read))
            .await
            .map_err(|e| internal(&e))?
            .map_err(|failure| failure.during(operation))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // Connections are pushed and popped whole, so a panic elsewhere leaves nothing half done.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
