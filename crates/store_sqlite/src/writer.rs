//! The writer thread: owns the one connection that writes, and takes jobs from a bounded queue.
//!
//! The queue holds [`QUEUE`] jobs; who brings one more waits. Jobs run one at a time, in order, each its
//! own transaction. A job whose caller went away still runs: dropping the future leaves it open whether
//! it was done, as the trait says.

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};
use store::{Appended, Batch, ErrorKind, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::append::append;
use crate::checkpoint::Checkpoints;
use crate::error::{Failure, Outcome};
use crate::intern::Interner;
use crate::{Options, SqliteStore, sql};

/// Jobs waiting at most: one that is made while one is written, and a few of the lake.
const QUEUE: usize = 4;

/// What a job works with.
pub(crate) struct WriteSide {
    pub(crate) connection: Connection,
    interner: Interner,
    max_future_skew_us: i64,
}

type Job = Box<dyn FnOnce(&mut WriteSide) + Send>;

pub(crate) struct WriteThread {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    log: PathBuf,
}

impl fmt::Debug for WriteThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteThread").finish_non_exhaustive()
    }
}

impl WriteThread {
    pub(crate) fn start(connection: Connection, path: &Path, options: &Options) -> Outcome<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let mut checkpoints = Checkpoints::start(path, options.log_bytes)?;
        let mut side = WriteSide {
            connection,
            interner: Interner::default(),
            max_future_skew_us: options.max_future_skew_us,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut side);
                    checkpoints.between_transactions(&side.connection);
                }
            })?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            log: log.into(),
        })
    }

    /// Runs a job on the writer thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&mut WriteSide) -> Outcome<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || Failure::new(ErrorKind::Internal, "the writer thread ended");
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |side| {
            if answer.send(job(side)).is_err() {
                tracing::debug!(operation, "nobody waits for the outcome of a write");
            }
        });
        let sent = match &self.jobs {
            Some(jobs) => jobs.send(job).await.is_ok(),
            None => false,
        };
        if !sent {
            return Err(gone().during(operation));
        }
        answered
            .await
            .unwrap_or_else(|_| Err(gone()))
            .map_err(|failure| failure.during(operation))
    }
}

impl Drop for WriteThread {
    /// Waits for the jobs already taken, so that the file is closed when this returns.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer thread of the store panicked");
        }
    }
}

#[async_trait]
impl store::Writer for SqliteStore {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        self.inner
            .writer
            .run("append", move |side| {
                append(
                    &mut side.connection,
                    &mut side.interner,
                    &batch,
                    side.max_future_skew_us,
                )
            })
            .await
    }

    async fn cursor(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.inner
            .readers
            .with(|on| cursor(on, source))
            .map_err(|failure| failure.during("cursor"))
    }

    async fn sync(&self, source: &str) -> Result<Option<u64>, StoreError> {
        let source = source.to_owned();
        let log = self.inner.writer.log.clone();
        self.inner
            .readers
            .on_a_blocking_thread("sync", move |on| {
                // The cursor first: what it speaks of is committed and thus in the write-ahead log, or
                // already in the file, which SQLite syncs before it lets go of the log.
                let next = cursor(on, &source)?;
                let synced = std::fs::File::open(log).and_then(|log| log.sync_data());
                // A failed fsync may have thrown the pages away; a second one would lie.
                synced.map_err(|error| Failure::new(ErrorKind::Data, error))?;
                Ok(next)
            })
            .await
    }
}

fn cursor(on: &Connection, source: &str) -> Outcome<Option<u64>> {
    let next = on
        .prepare_cached(sql::CURSOR)?
        .query_row([source], |row| row.get(0).map(i64::cast_unsigned))
        .optional()?;
    Ok(next)
}
