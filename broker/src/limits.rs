//! How fast one client may publish.
//!
//! A bucket of tokens, one per message. A client that is too fast is not read for a while: nothing is dropped, and TCP
//! holds it back.

use std::time::Duration;

use tokio::time::Instant;

/// The tokens of one client.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    /// Below zero: a debt, since what was read at once is taken at once.
    tokens: f64,
    filled: Instant,
}

impl Rate {
    /// Begins with the tokens of one second.
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second: per_second.into(),
            tokens: per_second.into(),
            filled: Instant::now(),
        }
    }

    /// Takes tokens for messages that were received.
    pub(crate) fn take(&mut self, messages: u64) {
        let now = Instant::now();
        let earned = (now - self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + earned).min(self.per_second);
        self.filled = now;
        // One read holds some ten thousand messages at most.
        self.tokens -= f64::from(u32::try_from(messages).unwrap_or(u32::MAX));
    }

    /// Returns until when the client is not to be read, if that is not over.
    pub(crate) fn wait_until(&self) -> Option<Instant> {
        if self.tokens >= 0.0 {
            return None;
        }
        let until = self.filled + Duration::from_secs_f64(-self.tokens / self.per_second);
        (until > Instant::now()).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn over_time_no_more_than_the_rate_passes() {
        let mut rate = Rate::new(100);
        let begin = Instant::now();
        for _ in 0..50 {
            rate.take(37);
            if let Some(until) = rate.wait_until() {
                sleep_until(until).await;
                assert!(rate.wait_until().is_none());
            }
        }
        // 1850 messages, of which the first 100 are free.
        let took = begin.elapsed().as_secs_f64();
        assert!((17.4..17.6).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn rest_earns_one_second_and_no_more() {
        let mut rate = Rate::new(10);
        advance(Duration::from_hours(1)).await;
        rate.take(10);
        assert!(rate.wait_until().is_none());
        rate.take(1);
        let wait = rate.wait_until().unwrap() - Instant::now();
        assert_eq!(wait, Duration::from_millis(100));
    }
}
