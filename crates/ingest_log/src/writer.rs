//! The writer: takes the gathered group, writes it, syncs it, answers it.
//!
//! The ack law lives in [`Writer::commit`]: a group is published and answered only after its write and
//! its sync succeeded, and after any failure nothing is answered with success again. [`Writer::step`]
//! does one group and never sleeps, so tests drive it; the thread loops over it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::disk::File;
use crate::group::Group;
use crate::segment::{HEADER_END, Header, Segment};
use crate::shared::{Phase, Shared};
use crate::sync::lock;
use crate::{LogCondition, LogError, SyncMode};

/// How often a full disk is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    active: Option<Active>,
    tail: Tail,
    /// The group being written, or an answered one whose memory is used again.
    group: Group,
    /// Whether `group` still waits for its answer.
    owes_answer: bool,
}

/// Where the last segment that holds records ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tail {
    /// Sequence behind its last record.
    pub(crate) end: u64,
    /// Its length in bytes; zero when there is no segment yet.
    pub(crate) len: u64,
}

/// The segment that takes the groups now.
#[derive(Debug)]
struct Active {
    file: Arc<dyn File>,
    path: PathBuf,
    header: Header,
    /// Absent until the first group, which brings the header, is durable.
    segment: Option<Arc<Segment>>,
    len: u64,
}

/// What one step did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A group was committed.
    Committed,
    /// There was nothing to do.
    Idle,
    /// There is no space; the same group is tried again by the next step.
    Full,
    /// The log failed or was closed; no more steps.
    Ended,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, tail: Tail) -> Self {
        Self {
            shared,
            active: None,
            tail,
            group: Group::new(tail.end),
            owes_answer: false,
        }
    }

    /// Loops until the log ends.
    pub(crate) fn run(mut self) {
        loop {
            match self.step() {
                Step::Committed | Step::Idle => self.shared.wait_for_records(),
                Step::Full => self.shared.wait_for_space(RETRY_EVERY),
                Step::Ended => break,
            }
        }
    }

    pub(crate) fn step(&mut self) -> Step {
        let mut closing = false;
        if !self.owes_answer {
            match self.shared.take_group(&mut self.group) {
                Ok(()) => self.owes_answer = true,
                Err(Phase::Open) => return Step::Idle,
                Err(Phase::Failed(_)) => return Step::Ended,
                Err(Phase::Closing) => return self.finish(),
            }
        } else if matches!(self.shared.phase(), Phase::Closing) {
            closing = true;
        }
        match self.commit() {
            Ok(()) => {
                self.answer(Ok(()));
                Step::Committed
            }
            Err(LogError::Full { reason }) if closing => {
                self.answer(Err(LogError::Full { reason }));
                self.shared.fail("it was closed while full".into());
                Step::Ended
            }
            Err(LogError::Full { reason }) => {
                self.shared.set_condition(LogCondition::Full(reason));
                Step::Full
            }
            Err(error) => {
                let reason = error.to_reason();
                self.shared.fail(Arc::clone(&reason));
                self.answer(Err(LogError::Failed { reason }));
                Step::Ended
            }
        }
    }

    /// Makes the group durable and shows it to readers.
    fn commit(&mut self) -> Result<(), LogError> {
        let size = self.group.frame_bytes() as u64;
        let limit = self.shared.config.segment_bytes;
        // An empty segment takes any group, so a group larger than a segment makes a larger segment.
        let fits = |active: &Active| active.segment.is_none() || active.len + size <= limit;
        if !self.active.as_ref().is_some_and(fits) {
            self.roll()?;
        }
        let shared = &self.shared;
        let active = self.active.as_mut();
        let active = active.expect("a successful roll leaves an active segment");
        self.group.stamp(shared.identity.salt);
        let at = active.len;
        let written = if active.segment.is_none() {
            active.header.encode(self.group.header_mut());
            active.file.write_at(self.group.header_and_frames(), 0)
        } else {
            active.file.write_at(self.group.frames(), at)
        };
        written.map_err(|error| {
            let error = LogError::io("write", &active.path, error);
            // A write that found no space was not taken in by the operating system, so the same bytes
            // may be written to the same place again. A failed sync leaves no such certainty.
            if error.is_no_space() {
                LogError::Full {
                    reason: error.to_reason(),
                }
            } else {
                error
            }
        })?;
        // A header is always synced, so that a file without one holds nothing acknowledged.
        if shared.config.sync == SyncMode::Fdatasync || active.segment.is_none() {
            let started = Instant::now();
            let synced = active.file.sync_data();
            synced.map_err(|error| LogError::io("sync", &active.path, error))?;
            shared.counters.synced(started.elapsed());
        }
        active.len += size;
        self.tail = Tail {
            end: self.group.end(),
            len: active.len,
        };
        active.publish(shared, self.tail.end, self.group.base(), at);
        Ok(())
    }

    /// Leaves the active segment and begins the next.
    fn roll(&mut self) -> Result<(), LogError> {
        if self.shared.config.sync == SyncMode::OsBuffer {
            self.sync_active()?;
        }
        let shared = &self.shared;
        let mut spare = lock(&shared.spare);
        spare.prepare(&*shared.disk, &shared.config, &shared.segments)?;
        let taken = spare.take(&shared.config);
        drop(spare);
        let taken = taken.expect("`prepare` succeeded under the same lock");
        let header = Header {
            identity: shared.identity,
            ordinal: taken.ordinal,
            base: self.group.base(),
            previous_end: self.tail.end,
            previous_len: self.tail.len,
            unsynced: shared.config.sync == SyncMode::OsBuffer,
        };
        self.active = Some(Active {
            file: taken.file,
            path: taken.path,
            header,
            segment: None,
            len: HEADER_END,
        });
        Ok(())
    }

    fn sync_active(&self) -> Result<(), LogError> {
        let Some(active) = &self.active else {
            return Ok(());
        };
        let synced = active.file.sync_data();
        synced.map_err(|error| LogError::io("sync", &active.path, error))
    }

    fn answer(&mut self, result: Result<(), LogError>) {
        if result.is_ok() {
            self.shared.set_condition(LogCondition::Ok);
            self.shared
                .counters
                .committed(self.group.records(), self.group.frame_bytes() as u64);
        }
        self.owes_answer = false;
        self.group.complete(result);
        self.shared.group_answered(self.group.frame_bytes());
    }

    /// Ends an orderly closed log.
    fn finish(&mut self) -> Step {
        match self.sync_active() {
            Ok(()) => self.shared.set_condition(LogCondition::Closed),
            Err(error) => self.shared.fail(error.to_reason()),
        }
        self.shared.news.send_replace(());
        Step::Ended
    }
}

impl Active {
    /// Shows a durable group to readers: the records `base..end`, which begin at byte `at`.
    fn publish(&mut self, shared: &Shared, end: u64, base: u64, at: u64) {
        let is_first = self.segment.is_none();
        let segment = self.segment.get_or_insert_with(|| {
            let file_len = shared.config.segment_bytes;
            let segment = Arc::new(Segment::new(&self.header, HEADER_END, file_len));
            shared.segments.push(Arc::clone(&segment));
            segment
        });
        // The end first: whoever has read a record may put a cursor behind it.
        shared.bounds.durable.store(end, Ordering::Release);
        segment.publish(base, at, self.len);
        shared.news.send_replace(());
        if is_first {
            // The segment before is sealed now, and the file made ahead is used up.
            shared.bell.ring();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail("its writer panicked".into());
        }
        if self.owes_answer {
            self.answer(Err(self.shared.refusal()));
        }
        self.shared.set_writer_ended();
    }
}
