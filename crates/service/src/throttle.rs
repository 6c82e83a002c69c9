//! Keeps a repeated warning from flooding the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets one message through per interval and counts the others.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Makes a throttle that lets one message through per `interval`.
    pub const fn new(interval: Duration) -> Self {
        let state = State {
            last: None,
            suppressed: 0,
        };
        Self {
            interval,
            state: Mutex::new(state),
        }
    }

    /// Returns how many messages were held back since the last one, when it is time for the next.
    ///
    /// ```
    /// # let throttle = service::Throttle::new(std::time::Duration::from_secs(10));
    /// if let Some(suppressed) = throttle.permit() {
    ///     tracing::warn!(suppressed, "a topic was refused");
    /// }
    /// ```
    pub fn permit(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = state
            .last
            .is_none_or(|last| now.duration_since(last) >= self.interval);
        if due {
            state.last = Some(now);
            Some(std::mem::take(&mut state.suppressed))
        } else {
            state.suppressed += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_message_per_interval_and_the_rest_counted() {
        let throttle = Throttle::new(Duration::from_secs(10));
        assert_eq!(throttle.permit(), Some(0));
        assert_eq!(throttle.permit(), None);
        assert_eq!(throttle.permit(), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(throttle.permit(), Some(2));
    }
}
