//! The handle of an open log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::TryAcquireError;

use crate::cursors::Cursors;
use crate::disk::Disk;
use crate::group::Commit;
use crate::keeper::Keeper;
use crate::reader::Reader;
use crate::record::RecordBatch;
use crate::recovery::{OpenReport, recover};
use crate::segment::Segments;
use crate::shared::{Parts, Shared};
use crate::spare::Spare;
use crate::sync::Bell;
use crate::writer::{Step, Writer};
use crate::{LogConfig, LogError, LogStatus};

/// An open log. Cheap to clone; the last clone that is dropped closes it in the background.
#[derive(Debug, Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

/// The two workers of a log that was opened without threads.
///
/// For tests that decide when what happens; see [`Log::open_stepped`].
#[derive(Debug)]
pub struct Steps {
    writer: Option<Writer>,
    keeper: Keeper,
}

impl Log {
    /// Opens the log in `config.dir`, or makes it, and starts its writer and keeper threads.
    ///
    /// It checks the segments, cuts what a crash tore, and leaves the last segment as it is: new records
    /// go to a new one, so that nothing behind the cut can come back. Blocks while it reads the last
    /// segment.
    ///
    /// # Errors
    /// [`LogError::Locked`], [`LogError::Corrupt`], [`LogError::Version`], [`LogError::Config`] or
    /// [`LogError::Io`]. Nothing is changed before all checks have passed.
    pub fn open(disk: Arc<dyn Disk>, config: LogConfig) -> Result<(Self, OpenReport), LogError> {
        let dir = config.dir.clone();
        let (log, steps, report) = Self::open_stepped(disk, config)?;
        let Steps { writer, keeper } = steps;
        let thread_error = |error| LogError::io("start a thread for", &dir, error);
        std::thread::Builder::new()
            .name("ingest-log".to_owned())
            .spawn(move || writer.into_iter().for_each(Writer::run))
            .map_err(thread_error)?;
        // Should this one fail to start, dropping `log` ends the writer.
        std::thread::Builder::new()
            .name("ingest-keeper".to_owned())
            .spawn(move || keeper.run())
            .map_err(thread_error)?;
        Ok((log, report))
    }

    /// Opens a log whose work is done by calling [`Steps`], so that a test decides the order of events.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_stepped(
        disk: Arc<dyn Disk>,
        config: LogConfig,
    ) -> Result<(Self, Steps, OpenReport), LogError> {
        config.check()?;
        let dir = &config.dir;
        let made = disk.create_dir(dir);
        made.map_err(|error| LogError::io("create", dir, error))?;
        let lock_path = dir.join("lock");
        let folder_lock = disk.lock(&lock_path).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => LogError::Locked { dir: dir.clone() },
            _ => LogError::io("lock", &lock_path, error),
        })?;
        let recovered = recover(&*disk, &config)?;
        let report = recovered.report;
        tracing::info!(
            dir = %dir.display(),
            segments = report.segments,
            first = report.first,
            next = report.next,
            cut_bytes = report.cut_bytes,
            elapsed_ms = report.elapsed.as_millis(),
            "opened the ingest log"
        );
        let bell = Arc::new(Bell::default());
        let held = config.held;
        let bounds = Arc::new(crate::cursors::Bounds::default());
        bounds.first.store(report.first, Ordering::Release);
        bounds.durable.store(report.next, Ordering::Release);
        let shared = Arc::new(Shared::new(Parts {
            disk,
            config,
            identity: recovered.identity,
            segments: Segments::new(recovered.segments),
            spare: Spare::new(recovered.next_ordinal),
            cursors: Cursors::new(
                recovered.cursors,
                held,
                Arc::clone(&bounds),
                Arc::clone(&bell),
            ),
            bounds,
            bell,
            folder_lock,
        }));
        let steps = Steps {
            writer: Some(Writer::new(Arc::clone(&shared), recovered.tail)),
            keeper: Keeper::new(Arc::clone(&shared), recovered.cursor_file),
        };
        let handle = Arc::new(Handle { shared });
        Ok((Self { handle }, steps, report))
    }

    /// Returns the log's own id, made when the log was: 32 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.handle.shared.id
    }

    /// Appends a batch; see [`Log::append_from`].
    ///
    /// # Errors
    /// As [`Log::append_from`].
    ///
    /// # Cancel safety
    /// As [`Log::append_from`].
    pub async fn append(&self, mut batch: RecordBatch) -> Result<Commit, LogError> {
        self.append_from(&mut batch).await
    }

    /// Appends a batch and empties it, keeping its memory for the next.
    ///
    /// Waits, first come first served, until there is room for the batch among the pending bytes; then
    /// returns at once. Batches get their sequences in the order in which these calls return. The batch
    /// is durable when the [`Commit`] has resolved, and not before.
    ///
    /// # Errors
    /// [`LogError::TooLarge`] when the batch is larger than `max_pending_bytes`; [`LogError::Failed`];
    /// [`LogError::Closed`]. The batch is then unchanged and none of it was appended.
    ///
    /// # Cancel safety
    /// Dropping the future before it resolves appends nothing and loses the place in the queue.
    pub async fn append_from(&self, batch: &mut RecordBatch) -> Result<Commit, LogError> {
        let shared = &self.handle.shared;
        let bytes = batch.bytes();
        let limit = shared.config.max_pending_bytes;
        let permits = u32::try_from(bytes).ok().filter(|_| bytes <= limit);
        let permits = permits.ok_or(LogError::TooLarge {
            what: "a batch",
            bytes,
            limit,
        })?;
        if batch.is_empty() {
            return Ok(Commit::of_nothing(shared.next_durable()));
        }
        let Ok(room) = shared.room.acquire_many(permits).await else {
            return Err(shared.refusal());
        };
        let commit = shared.gather(bytes, |group| {
            let seqs = group.add(batch.frames(), batch.len() as u64);
            Commit::new(seqs, Arc::clone(group.outcome()))
        })?;
        // The writer gives the room back when the group is answered.
        room.forget();
        batch.clear();
        Ok(commit)
    }

    /// Appends a batch and empties it if there is room for it now; `None`, and nothing is appended, if not.
    ///
    /// Overtakes nobody: while others wait for room there is none.
    ///
    /// # Errors
    /// As [`Log::append_from`], without waiting.
    pub fn try_append(&self, batch: &mut RecordBatch) -> Result<Option<Commit>, LogError> {
        let shared = &self.handle.shared;
        let bytes = batch.bytes();
        if batch.is_empty() {
            return Ok(Some(Commit::of_nothing(shared.next_durable())));
        }
        let permits = u32::try_from(bytes).map_err(|_| LogError::TooLarge {
            what: "a batch",
            bytes,
            limit: shared.config.max_pending_bytes,
        })?;
        let room = match shared.room.try_acquire_many(permits) {
            Ok(room) => room,
            Err(TryAcquireError::NoPermits) => return Ok(None),
            Err(TryAcquireError::Closed) => return Err(shared.refusal()),
        };
        let commit = shared.gather(bytes, |group| {
            let seqs = group.add(batch.frames(), batch.len() as u64);
            Commit::new(seqs, Arc::clone(group.outcome()))
        })?;
        room.forget();
        batch.clear();
        Ok(Some(commit))
    }

    /// Returns a reader whose first record is `from`.
    ///
    /// `from` may be the end of the log or lie ahead of it.
    pub fn reader(&self, from: u64) -> Reader {
        Reader::new(Arc::clone(&self.handle.shared), from)
    }

    /// Returns the first sequence that is not yet durable.
    pub fn next_durable(&self) -> u64 {
        self.handle.shared.next_durable()
    }

    /// Returns the sequence that the next accepted record gets: what was accepted before lies below.
    pub fn next_accepted(&self) -> u64 {
        self.handle.shared.next_accepted()
    }

    /// Returns the first sequence still held.
    pub fn first(&self) -> u64 {
        self.handle.shared.first()
    }

    /// Returns the cursors.
    pub fn cursors(&self) -> &Cursors {
        &self.handle.shared.cursors
    }

    /// Writes and syncs what was appended, persists the cursors, and ends the log.
    ///
    /// A log that is full fails its pending commits rather than wait. All clones are closed with it.
    ///
    /// # Errors
    /// [`LogError::Failed`] when the log has failed before or does so now.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the log closing.
    pub async fn close(&self) -> Result<(), LogError> {
        let shared = &self.handle.shared;
        shared.begin_close();
        let mut ended = shared.ended.subscribe();
        if ended.wait_for(|ended| *ended).await.is_err() {
            return Err(LogError::Closed);
        }
        match shared.refusal() {
            LogError::Closed => Ok(()),
            error => Err(error),
        }
    }

    /// Takes a snapshot of condition and counters.
    pub fn status(&self) -> LogStatus {
        let shared = &self.handle.shared;
        let (segments, disk_bytes) = shared.segments.size();
        let counters = &shared.counters;
        LogStatus {
            condition: shared.condition(),
            first: shared.first(),
            next_durable: shared.next_durable(),
            records: counters.records.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            commits: counters.commits.load(Ordering::Relaxed),
            syncs: counters.sync_times(),
            segments,
            disk_bytes,
            pending_bytes: shared.pending_bytes(),
            oldest_pending: shared.oldest_pending(),
        }
    }
}

impl Steps {
    /// Commits the group that has gathered; `true` when there was one and it is durable now.
    pub fn commit(&mut self) -> bool {
        match self.writer.as_mut().map(Writer::step) {
            Some(Step::Committed) => true,
            Some(Step::Ended) => {
                self.writer = None;
                false
            }
            Some(Step::Idle | Step::Full) | None => false,
        }
    }

    /// Does what is due besides commits: cursors, deletion, the next segment's file.
    pub fn keep(&mut self) {
        self.keeper.step();
    }

    /// Ends a log after [`Log::close`] was called or all handles were dropped.
    pub fn finish(mut self) {
        while self.commit() {}
        self.keeper.finish();
    }
}
