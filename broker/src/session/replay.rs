//! Replay: consumers that are far behind do not take the disk and the processors from those that are not.
//!
//! Who is near the end of the log reads what was just written, from memory. Who is further behind than [`NEAR_RECORDS`]
//! may read cold blocks, on the thread that others are served by. So it lets everybody else go first before each chunk,
//! and at most half the threads are in such a read at a time; the chunk bounds what it sends in its turn.

use std::sync::Arc;

use ingest_log::Log;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::yield_now;

use crate::sabotage::{Step, leaves_out};

/// Records behind the log's end up to which a reader counts as near.
const NEAR_RECORDS: u64 = 10_000;

/// The turns of all who are far behind. Cheap to clone; all clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Replay {
    turns: Arc<Semaphore>,
    taken: Counter,
}

impl Replay {
    /// Makes the turns; `taken` counts them.
    pub(crate) fn new(taken: Counter) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            turns: Arc::new(Semaphore::new((threads / 2).max(1))),
            taken,
        }
    }

    /// Waits for a turn, if who is at `place` is far behind; it is kept while one chunk is read.
    ///
    /// # Cancel safety
    /// Yes; the place in the queue is lost.
    pub(crate) async fn turn(&self, log: &Log, place: u64) -> Option<SemaphorePermit<'_>> {
        if leaves_out(Step::ReplayTurn) {
            return None;
        }
        if log.next_durable().saturating_sub(place) <= NEAR_RECORDS {
            return None;
        }
        yield_now().await;
        // Closed never; and without a turn the read is only less polite.
        let turn = self.turns.acquire().await.ok()?;
        self.taken.inc();
        Some(turn)
    }
}
