//! Groups: records that gather in memory, become durable together, and answer together.
//!
//! Invariant: a group's outcome is set once. Whoever awaits a [`Commit`] is woken by its own group and
//! by no other, so ten thousand connections with one message each cost ten thousand wakes, not that many
//! per sync.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};

use crate::LogError;
use crate::record::stamp;
use crate::segment::HEADER_BYTES;
use crate::sync::lock;

/// What became of a group, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    result: OnceLock<Result<(), LogError>>,
    waiting: Mutex<Vec<Waker>>,
}

impl Outcome {
    fn complete(&self, result: Result<(), LogError>) {
        if self.result.set(result).is_err() {
            return;
        }
        // Set first, then taken: who registers later finds the result under the lock.
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        for waker in waiting {
            waker.wake();
        }
    }
}

/// Resolves when the appended batch is durable, with the sequences it was given.
///
/// Dropping it is fine: the batch is committed all the same.
#[derive(Debug)]
#[must_use = "an append is durable only once its commit has resolved"]
pub struct Commit {
    seqs: Range<u64>,
    outcome: Arc<Outcome>,
    /// Where this task's waker lies in the group's list.
    slot: Option<usize>,
}

impl Commit {
    pub(crate) fn new(seqs: Range<u64>, outcome: Arc<Outcome>) -> Self {
        Self {
            seqs,
            outcome,
            slot: None,
        }
    }

    /// Makes the commit of an empty batch.
    pub(crate) fn of_nothing(seq: u64) -> Self {
        let outcome = Arc::<Outcome>::default();
        outcome.complete(Ok(()));
        Self::new(seq..seq, outcome)
    }

    /// Returns the sequences of the batch. They are final only once the commit has resolved.
    pub fn seqs(&self) -> Range<u64> {
        self.seqs.clone()
    }

    fn answer(&self) -> Option<Result<Range<u64>, LogError>> {
        let result = self.outcome.result.get()?;
        Some(result.clone().map(|()| self.seqs.clone()))
    }
}

impl Future for Commit {
    type Output = Result<Range<u64>, LogError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(answer) = self.answer() {
            return Poll::Ready(answer);
        }
        let outcome = Arc::clone(&self.outcome);
        let mut waiting = lock(&outcome.waiting);
        if let Some(answer) = self.answer() {
            return Poll::Ready(answer);
        }
        if let Some(slot) = self.slot {
            waiting[slot].clone_from(context.waker());
        } else {
            self.slot = Some(waiting.len());
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// A gathering group: room for a segment header, then frames.
#[derive(Debug)]
pub(crate) struct Group {
    bytes: Vec<u8>,
    records: u64,
    base: u64,
    stamped: bool,
    outcome: Arc<Outcome>,
}

/// A buffer that served a burst gives memory back above this size once groups are small again.
const KEPT_BYTES: usize = 4 << 20;

impl Group {
    pub(crate) fn new(base: u64) -> Self {
        Self {
            bytes: vec![0; HEADER_BYTES],
            records: 0,
            base,
            stamped: false,
            outcome: Arc::default(),
        }
    }

    /// Makes an answered group a gathering one again, with its memory.
    pub(crate) fn restart(&mut self, base: u64) {
        let used = self.bytes.len();
        self.bytes.truncate(HEADER_BYTES);
        if self.bytes.capacity() > KEPT_BYTES && used < self.bytes.capacity() / 8 {
            self.bytes.shrink_to(KEPT_BYTES);
        }
        self.records = 0;
        self.base = base;
        self.stamped = false;
        self.outcome = Arc::default();
    }

    /// Adds frames; returns their sequences.
    pub(crate) fn add(&mut self, frames: &[u8], records: u64) -> Range<u64> {
        let first = self.end();
        self.bytes.extend_from_slice(frames);
        self.records += records;
        first..self.end()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Returns the sequence behind the last record.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.records
    }

    pub(crate) fn outcome(&self) -> &Arc<Outcome> {
        &self.outcome
    }

    /// Returns the bytes of the frames.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.bytes.len() - HEADER_BYTES
    }

    /// Writes the sequences into the frames; once, because a full disk brings the group back here.
    pub(crate) fn stamp(&mut self, salt: u64) {
        if !self.stamped {
            stamp(&mut self.bytes[HEADER_BYTES..], self.base, salt);
            self.stamped = true;
        }
    }

    pub(crate) fn header_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..HEADER_BYTES]
    }

    pub(crate) fn frames(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    pub(crate) fn header_and_frames(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn complete(&self, result: Result<(), LogError>) {
        self.outcome.complete(result);
    }
}
