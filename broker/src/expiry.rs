//! When sessions of clients that are away end.
//!
//! A session says in its cursor's metadata for how long it outlives a connection and when the last one ended, so an
//! expiry survives restarts; what is here is an index over that, made again at every start. Invariants: a session
//! that is connected does not end; what `due` names is looked at again under the claim of its client id.
//!
//! Bound: one entry per session.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service::{BoxError, CancellationToken};
use tokio::time::{MissedTickBehavior, interval};

use crate::connection::Front;
use crate::protocol::v5::NEVER;
use crate::session;

/// How often it is looked what has ended.
const PACE: Duration = Duration::from_millis(200);
/// Microseconds in a second.
const SECOND_US: i64 = 1_000_000;

/// The rules for the ends of sessions, and the ends to come.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    /// Longest interval, in seconds; `None`: for ever.
    most: Option<u32>,
    /// Clients whose sessions never end.
    pinned: HashSet<String>,
    ends: Mutex<Ends>,
}

#[derive(Debug, Default)]
struct Ends {
    of: HashMap<Arc<str>, i64>,
    in_order: BTreeSet<(i64, Arc<str>)>,
}

impl Ends {
    fn remove(&mut self, client_id: &str) {
        if let Some((client_id, end)) = self.of.remove_entry(client_id) {
            self.in_order.remove(&(end, client_id));
        }
    }
}

impl Expiry {
    pub(crate) fn new(most: Option<u32>, pinned: impl IntoIterator<Item = String>) -> Self {
        Self {
            most,
            pinned: pinned.into_iter().collect(),
            ends: Mutex::default(),
        }
    }

    /// Returns the interval a client gets that asks for one, in seconds; [`NEVER`] is for ever.
    pub(crate) fn grant(&self, client_id: &str, asked: u32) -> u32 {
        if asked == 0 {
            0
        } else if self.pinned.contains(client_id) {
            NEVER
        } else {
            asked.min(self.most.unwrap_or(NEVER))
        }
    }

    /// Returns when a session ends that a client left at `left_us`, in microseconds since the epoch.
    pub(crate) fn end_of(&self, client_id: &str, asked: u32, left_us: i64) -> Option<i64> {
        match self.grant(client_id, asked) {
            NEVER => None,
            seconds => Some(left_us.saturating_add(i64::from(seconds) * SECOND_US)),
        }
    }

    /// Notes when a session ends.
    pub(crate) fn schedule(&self, client_id: &Arc<str>, end_us: Option<i64>) {
        let mut ends = self.lock();
        ends.remove(client_id);
        if let Some(end) = end_us {
            ends.of.insert(Arc::clone(client_id), end);
            ends.in_order.insert((end, Arc::clone(client_id)));
        }
    }

    /// Notes that a session goes on or has ended.
    pub(crate) fn cancel(&self, client_id: &str) {
        self.lock().remove(client_id);
    }

    /// Takes out and returns the clients whose sessions have ended by now.
    fn due(&self, now_us: i64) -> Vec<Arc<str>> {
        let mut ends = self.lock();
        let mut due = Vec::new();
        while let Some((end, client_id)) = ends.in_order.first()
            && *end <= now_us
        {
            let client_id = Arc::clone(client_id);
            ends.remove(&client_id);
            due.push(client_id);
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes up the ends of the sessions the log has. What was connected when the process before ended counts as left
/// now.
pub(crate) fn open(front: &Front) {
    for (client_id, asked, left_us) in session::expiries(&front.log) {
        let left_us = left_us.unwrap_or(front.started_us);
        let end = front.expiry.end_of(&client_id, asked, left_us);
        front.expiry.schedule(&client_id.into(), end);
    }
}

/// Ends sessions when their time has come.
pub(crate) async fn run(front: Arc<Front>, stop: CancellationToken) -> Result<(), BoxError> {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        select! {
            () = stop.cancelled() => return Ok(()),
            _ = pace.tick() => {}
        }
        for client_id in front.expiry.due(front.clock.now().as_micros()) {
            // Who is connected schedules it again at the end.
            if let Some(_claim) = front.claims.try_claim(&client_id)
                && front.has_expired(&client_id)
            {
                tracing::debug!(client_id = &*client_id, "a session has expired");
                front.end_session(&client_id);
                front.metrics.sessions_expired.inc();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_capped_and_pinned_clients_stay() {
        let expiry = Expiry::new(Some(60), ["pin".to_owned()]);
        assert_eq!(expiry.grant("a", 0), 0);
        assert_eq!(expiry.grant("a", 5), 5);
        assert_eq!(expiry.grant("a", NEVER), 60);
        assert_eq!(expiry.grant("pin", 5), NEVER);
        assert_eq!(expiry.grant("pin", 0), 0);
        assert_eq!(expiry.end_of("pin", 5, 0), None);
        assert_eq!(expiry.end_of("a", 5, 7), Some(5_000_007));
        let free = Expiry::default();
        assert_eq!(free.end_of("a", NEVER, 7), None);
        assert_eq!(free.end_of("a", NEVER - 1, i64::MAX), Some(i64::MAX));
    }

    #[test]
    fn ends_come_in_order_and_once() {
        let expiry = Expiry::default();
        let [a, b, c] = ["a", "b", "c"].map(Arc::<str>::from);
        expiry.schedule(&a, Some(30));
        expiry.schedule(&b, Some(20));
        expiry.schedule(&c, Some(10));
        expiry.schedule(&a, Some(5));
        expiry.schedule(&b, None);
        assert!(expiry.due(4).is_empty());
        assert_eq!(expiry.due(10), [a, c.clone()]);
        assert!(expiry.due(i64::MAX).is_empty());
        expiry.schedule(&c, Some(1));
        expiry.cancel(&c);
        assert!(expiry.due(i64::MAX).is_empty());
    }
}
