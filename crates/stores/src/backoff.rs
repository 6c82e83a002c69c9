//! The delay before the next attempt to reach a store: doubling, bounded, jittered.

use std::time::Duration;

/// Bound of the first delay.
const FIRST: Duration = Duration::from_millis(100);
/// Bound of all delays: a store that is back is noticed within this.
const LONGEST: Duration = Duration::from_secs(2);

/// Gives the delays between attempts, each between half and all of a growing bound.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns the next delay.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let bound = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rand::random_range(0.5..=1.0))
    }
}
