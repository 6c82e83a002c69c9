//! What a log tells about itself: its condition and its counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Whether a log takes records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LogCondition {
    /// It does.
    #[default]
    Ok,
    /// There is no space; commits and appends wait until there is.
    Full(Arc<str>),
    /// A write or sync failed; nothing is acknowledged until the log is opened again.
    Failed(Arc<str>),
    /// It was closed.
    Closed,
}

/// A snapshot of a log. Counters count since the log was opened.
#[derive(Debug, Clone)]
pub struct LogStatus {
    /// Whether the log takes records.
    pub condition: LogCondition,
    /// First sequence still held.
    pub first: u64,
    /// First sequence not yet durable.
    pub next_durable: u64,
    /// Records made durable.
    pub records: u64,
    /// Bytes of frames made durable.
    pub bytes: u64,
    /// Groups made durable.
    pub commits: u64,
    /// How long syncs of groups took. Empty with `SyncMode::OsBuffer`.
    pub syncs: SyncTimes,
    /// Segments that hold records.
    pub segments: usize,
    /// Bytes those segments take on disk.
    pub disk_bytes: u64,
    /// Bytes accepted and not yet durable.
    pub pending_bytes: usize,
    /// How long the oldest record that is accepted and not yet durable has waited.
    pub oldest_pending: Option<Duration>,
}

/// A histogram of sync times.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncTimes {
    /// Syncs that took at most [`SYNC_BOUNDS_SECONDS`] of the same index and more than the one before;
    /// one more entry counts the rest.
    pub counts: [u64; SYNC_BOUNDS_SECONDS.len() + 1],
    /// All syncs together.
    pub total: Duration,
}

/// Upper bounds of the buckets of [`SyncTimes`], in seconds.
pub const SYNC_BOUNDS_SECONDS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) commits: AtomicU64,
    sync_counts: [AtomicU64; SYNC_BOUNDS_SECONDS.len() + 1],
    sync_nanos: AtomicU64,
}

impl Counters {
    pub(crate) fn committed(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = SYNC_BOUNDS_SECONDS.partition_point(|&bound| bound < seconds);
        self.sync_counts[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn sync_times(&self) -> SyncTimes {
        SyncTimes {
            counts: std::array::from_fn(|i| self.sync_counts[i].load(Ordering::Relaxed)),
            total: Duration::from_nanos(self.sync_nanos.load(Ordering::Relaxed)),
        }
    }
}
