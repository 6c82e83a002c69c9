//! What the handles of a log, its writer and its keeper have in common.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use crate::cursors::{Bounds, Cursors};
use crate::disk::{Disk, DiskLock};
use crate::group::Group;
use crate::segment::{Identity, Segments};
use crate::spare::Spare;
use crate::status::Counters;
use crate::sync::{Bell, lock};
use crate::{LogCondition, LogConfig, LogError};

/// One open log.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) config: LogConfig,
    pub(crate) identity: Identity,
    pub(crate) id: String,
    gathering: Mutex<Gathering>,
    /// Wakes the writer.
    work: Condvar,
    /// One permit for each byte that may still be accepted.
    pub(crate) room: Semaphore,
    pending_bytes: AtomicUsize,
    pub(crate) segments: Segments,
    pub(crate) spare: Mutex<Spare>,
    pub(crate) bounds: Arc<Bounds>,
    /// Tells readers that the durable end or the condition changed.
    pub(crate) news: watch::Sender<()>,
    pub(crate) cursors: Cursors,
    /// Wakes the keeper.
    pub(crate) bell: Arc<Bell>,
    pub(crate) counters: Counters,
    condition: Mutex<LogCondition>,
    writer_ended: AtomicBool,
    /// Turns true when writer and keeper have ended and the folder is free.
    pub(crate) ended: watch::Sender<bool>,
    pub(crate) folder_lock: Mutex<Option<Box<dyn DiskLock>>>,
}

/// The group that takes records now.
#[derive(Debug)]
pub(crate) struct Gathering {
    pub(crate) group: Group,
    /// When its first record came.
    pub(crate) since: Option<Instant>,
    /// When the first record of the group being written came.
    pub(crate) writing_since: Option<Instant>,
    pub(crate) phase: Phase,
    writer_sleeps: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Open,
    /// No more records; what is here is still to be written.
    Closing,
    Failed(LogError),
}

/// What [`Shared::new`] is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) config: LogConfig,
    pub(crate) identity: Identity,
    pub(crate) segments: Segments,
    pub(crate) spare: Spare,
    pub(crate) bounds: Arc<Bounds>,
    pub(crate) cursors: Cursors,
    pub(crate) bell: Arc<Bell>,
    pub(crate) folder_lock: Box<dyn DiskLock>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let next = parts.bounds.durable.load(Ordering::Relaxed);
        Self {
            id: hex(&parts.identity.id),
            room: Semaphore::new(parts.config.max_pending_bytes),
            pending_bytes: AtomicUsize::new(0),
            gathering: Mutex::new(Gathering {
                group: Group::new(next),
                since: None,
                writing_since: None,
                phase: Phase::Open,
                writer_sleeps: false,
            }),
            work: Condvar::new(),
            disk: parts.disk,
            config: parts.config,
            identity: parts.identity,
            segments: parts.segments,
            spare: Mutex::new(parts.spare),
            bounds: parts.bounds,
            news: watch::Sender::new(()),
            cursors: parts.cursors,
            bell: parts.bell,
            counters: Counters::default(),
            condition: Mutex::default(),
            writer_ended: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            folder_lock: Mutex::new(Some(parts.folder_lock)),
        }
    }

    /// Runs `add` on the gathering group, if the log takes records, and wakes the writer.
    pub(crate) fn gather<T>(
        &self,
        bytes: usize,
        add: impl FnOnce(&mut Group) -> T,
    ) -> Result<T, LogError> {
        let mut gathering = lock(&self.gathering);
        match &gathering.phase {
            Phase::Open => {}
            Phase::Closing => return Err(LogError::Closed),
            Phase::Failed(error) => return Err(error.clone()),
        }
        if gathering.group.is_empty() {
            gathering.since = Some(Instant::now());
        }
        self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        let added = add(&mut gathering.group);
        if std::mem::take(&mut gathering.writer_sleeps) {
            drop(gathering);
            self.work.notify_one();
        }
        Ok(added)
    }

    /// Exchanges the gathering group for an answered one, if it holds records. Otherwise returns the
    /// phase.
    pub(crate) fn take_group(&self, answered: &mut Group) -> Result<(), Phase> {
        let mut gathering = lock(&self.gathering);
        if gathering.group.is_empty() {
            return Err(gathering.phase.clone());
        }
        answered.restart(gathering.group.end());
        std::mem::swap(&mut gathering.group, answered);
        gathering.writing_since = gathering.since.take();
        Ok(())
    }

    /// Notes that the group taken last was answered, and gives its room back.
    pub(crate) fn group_answered(&self, bytes: usize) {
        lock(&self.gathering).writing_since = None;
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.room.add_permits(bytes);
    }

    /// Puts the writer to sleep until there are records to write or the log ends.
    pub(crate) fn wait_for_records(&self) {
        let mut gathering = lock(&self.gathering);
        while gathering.group.is_empty() && matches!(gathering.phase, Phase::Open) {
            gathering.writer_sleeps = true;
            gathering = self
                .work
                .wait(gathering)
                .unwrap_or_else(PoisonError::into_inner);
        }
        gathering.writer_sleeps = false;
        // A group that already fills half the room is worth writing at once.
        let most = self.config.max_pending_bytes / 2;
        while let Some(rest) = gathering
            .since
            .and_then(|since| self.config.linger.checked_sub(since.elapsed()))
            .filter(|rest| !rest.is_zero())
        {
            if !matches!(gathering.phase, Phase::Open) || gathering.group.frame_bytes() >= most {
                return;
            }
            gathering.writer_sleeps = true;
            gathering = self
                .work
                .wait_timeout(gathering, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        gathering.writer_sleeps = false;
    }

    /// Puts the writer to sleep until space may have been freed.
    pub(crate) fn wait_for_space(&self, timeout: Duration) {
        let gathering = lock(&self.gathering);
        if matches!(gathering.phase, Phase::Open) {
            drop(self.work.wait_timeout(gathering, timeout));
        }
    }

    pub(crate) fn space_was_freed(&self) {
        self.work.notify_one();
    }

    /// Refuses further records; those that are here are still written.
    pub(crate) fn begin_close(&self) {
        let mut gathering = lock(&self.gathering);
        if matches!(gathering.phase, Phase::Open) {
            gathering.phase = Phase::Closing;
        }
        drop(gathering);
        self.room.close();
        self.work.notify_one();
        self.bell.ring();
    }

    /// Stops the log for good: from here on nothing is acknowledged.
    pub(crate) fn fail(&self, reason: Arc<str>) {
        let error = LogError::Failed {
            reason: Arc::clone(&reason),
        };
        let mut gathering = lock(&self.gathering);
        if matches!(gathering.phase, Phase::Failed(_)) {
            return;
        }
        gathering.phase = Phase::Failed(error.clone());
        gathering.group.complete(Err(error.clone()));
        let next = gathering.group.base();
        gathering.group.restart(next);
        gathering.since = None;
        drop(gathering);
        tracing::error!(dir = %self.config.dir.display(), %reason, "the ingest log failed");
        self.set_condition(LogCondition::Failed(reason));
        self.room.close();
        self.cursors.stop(error);
        self.work.notify_one();
        self.bell.ring();
        self.news.send_replace(());
    }

    /// Says why the log takes nothing, for those it refuses.
    pub(crate) fn refusal(&self) -> LogError {
        match &lock(&self.gathering).phase {
            Phase::Failed(error) => error.clone(),
            Phase::Open | Phase::Closing => LogError::Closed,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        lock(&self.gathering).phase.clone()
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(lock(&self.gathering).phase, Phase::Failed(_))
    }

    pub(crate) fn condition(&self) -> LogCondition {
        lock(&self.condition).clone()
    }

    /// Changes the condition; after the end only to a failure, and a failure stays.
    pub(crate) fn set_condition(&self, new: LogCondition) {
        let dir = self.config.dir.display();
        let mut condition = lock(&self.condition);
        match (&*condition, &new) {
            (LogCondition::Failed(_), _)
            | (LogCondition::Closed, LogCondition::Ok | LogCondition::Full(_)) => return,
            (LogCondition::Ok, LogCondition::Full(reason)) => {
                tracing::warn!(%dir, %reason, "the ingest log is full and waits for space");
            }
            (LogCondition::Full(_), LogCondition::Ok) => {
                tracing::info!(%dir, "the ingest log has space again");
            }
            _ => {}
        }
        *condition = new;
    }

    pub(crate) fn set_writer_ended(&self) {
        self.writer_ended.store(true, Ordering::Release);
        self.bell.ring();
    }

    pub(crate) fn writer_has_ended(&self) -> bool {
        self.writer_ended.load(Ordering::Acquire)
    }

    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn oldest_pending(&self) -> Option<Duration> {
        let gathering = lock(&self.gathering);
        let oldest = gathering.writing_since.or(gathering.since);
        oldest.map(|since| since.elapsed())
    }

    pub(crate) fn first(&self) -> u64 {
        self.bounds.first.load(Ordering::Acquire)
    }

    pub(crate) fn next_accepted(&self) -> u64 {
        lock(&self.gathering).group.end()
    }

    pub(crate) fn next_durable(&self) -> u64 {
        self.bounds.durable.load(Ordering::Acquire)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes any text");
        text
    })
}
