//! Retained messages that are on their way to the log, and the wait for them.
//!
//! A message is durable, and others have their live copy of it, a moment before the connection that published it puts
//! it among the retained ones. A subscription made in that moment would get neither.
//!
//! Invariants: whoever waits expects nothing itself, or two could wait for each other; waiting is bounded, as a message
//! waits for room in the log as long as there is none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// Longest wait: what takes longer was not durable when the subscription came.
const LONGEST: Duration = Duration::from_secs(1);

/// What is expected.
#[derive(Debug, Clone, Default)]
pub(super) struct Expectations(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    open: Mutex<Open>,
    met: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// The lowest sequence each can have, by number.
    from: BTreeMap<u64, u64>,
}

/// Retained messages that are to come; with the drop they have come, or never will.
#[derive(Debug)]
pub(crate) struct Expected {
    all: Expectations,
    number: u64,
}

impl Expectations {
    /// Expects messages with sequence `from` or higher.
    pub(super) fn add(&self, from: u64) -> Expected {
        let number = self.with(|open| {
            let number = open.next;
            open.next += 1;
            open.from.insert(number, from);
            number
        });
        let all = self.clone();
        Expected { all, number }
    }

    /// Waits for those that are expected now and may have a sequence below `to`.
    ///
    /// # Cancel safety
    /// Yes.
    pub(super) async fn met(&self, to: u64) {
        let newest = self.with(|open| open.next);
        let is_open = |open: &mut Open| {
            let mut expected = open.from.range(..newest);
            expected.any(|(_, from)| *from < to)
        };
        let met = async {
            loop {
                let notified = self.0.met.notified();
                if !self.with(is_open) {
                    return;
                }
                notified.await;
            }
        };
        drop(timeout(LONGEST, met).await);
    }

    fn with<T>(&self, f: impl FnOnce(&mut Open) -> T) -> T {
        f(&mut self.0.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.all.with(|open| open.from.remove(&self.number));
        self.all.0.met.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_expected_below_is_waited_for_and_nothing_else() {
        let all = Expectations::default();
        all.met(10).await;
        let (five, twelve) = (all.add(5), all.add(12));
        let mut below = Box::pin(all.met(10));
        assert!(poll!(&mut below).is_pending());
        drop(twelve);
        assert!(poll!(&mut below).is_pending());
        // What is expected only since then is for the next one.
        let _later = all.add(6);
        drop(five);
        assert!(poll!(&mut below).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let all = Expectations::default();
        let _never = all.add(0);
        all.met(1).await;
    }
}
