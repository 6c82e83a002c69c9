//! When a connection has been silent or stuck for too long.
//!
//! Silence counts only while the connection is being read: a client is not to be blamed for a log that has no
//! room. Checks are lazy: one timer per connection, set again when it fires.

use std::time::Duration;

use tokio::time::Instant;

use super::End;

/// The deadlines of a connection.
#[derive(Debug)]
pub(super) struct Pace {
    /// One and a half keep-alive intervals; `None` when the client wants no limit.
    silence: Option<Duration>,
    stall: Duration,
    heard: Instant,
    listens: bool,
    /// Since when bytes wait without any being taken.
    waiting_since: Option<Instant>,
    ending_since: Option<Instant>,
}

impl Pace {
    /// Begins now; `keep_alive` in seconds, zero: none.
    pub(super) fn new(keep_alive: u16, stall: Duration) -> Self {
        let silence = Duration::from_millis(u64::from(keep_alive) * 1500);
        Self {
            silence: (keep_alive > 0).then_some(silence),
            stall,
            heard: Instant::now(),
            listens: true,
            waiting_since: None,
            ending_since: None,
        }
    }

    /// Notes that the client sent something.
    pub(super) fn heard(&mut self) {
        if self.silence.is_some() {
            self.heard = Instant::now();
        }
    }

    /// Notes that the client took something.
    pub(super) fn took(&mut self) {
        self.waiting_since = None;
    }

    /// Notes the state in which the connection now waits.
    pub(super) fn observe(&mut self, listens: bool, output_waits: bool, ends: bool) {
        if listens && !self.listens {
            self.heard = Instant::now();
        }
        self.listens = listens;
        match (output_waits, self.waiting_since) {
            (true, None) => self.waiting_since = Some(Instant::now()),
            (false, Some(_)) => self.waiting_since = None,
            _ => {}
        }
        if ends && self.ending_since.is_none() {
            self.ending_since = Some(Instant::now());
        }
    }

    /// Returns when [`Pace::overdue`] is to be asked next.
    pub(super) fn next_check(&self) -> Instant {
        let stalled = Instant::now() + self.stall;
        match self.silence {
            Some(silence) if self.listens => stalled.min(self.heard + silence),
            _ => stalled,
        }
    }

    /// Returns why the connection is to end, if it is.
    pub(super) fn overdue(&self) -> Option<End> {
        let now = Instant::now();
        let silent = |limit| self.listens && now >= self.heard + limit;
        let stuck = |since: Option<Instant>| since.is_some_and(|since| now >= since + self.stall);
        if self.silence.is_some_and(silent) {
            Some(End::KeepAlive)
        } else if stuck(self.waiting_since) || stuck(self.ending_since) {
            Some(End::Stalled)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn one_and_a_half_intervals_of_silence_are_too_much() {
        let mut pace = Pace::new(10, STALL);
        advance(Duration::from_millis(14_999)).await;
        assert!(pace.overdue().is_none());
        pace.heard();
        advance(Duration::from_millis(14_999)).await;
        assert!(pace.overdue().is_none());
        advance(Duration::from_millis(1)).await;
        assert!(matches!(pace.overdue(), Some(End::KeepAlive)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_keep_alive_and_without_reading_silence_is_fine() {
        let (forever, mut held) = (Pace::new(0, STALL), Pace::new(10, STALL));
        held.observe(false, false, false);
        advance(Duration::from_secs(1_000_000)).await;
        assert!(forever.overdue().is_none());
        assert!(held.overdue().is_none());
        held.observe(true, false, false);
        assert!(held.overdue().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_stalled() {
        let mut pace = Pace::new(0, STALL);
        pace.observe(true, true, false);
        advance(STALL / 2).await;
        pace.took();
        pace.observe(true, true, false);
        advance(STALL / 2).await;
        assert!(pace.overdue().is_none());
        advance(STALL / 2).await;
        assert!(matches!(pace.overdue(), Some(End::Stalled)));
    }
}
