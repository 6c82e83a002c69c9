//! The delay before the next attempt to connect: doubling, bounded, jittered.

use std::time::Duration;

/// Gives the delays between attempts; a success resets it.
///
/// Each delay is drawn between half and all of a bound that doubles from [`Backoff::FIRST`] up to
/// [`Backoff::LONGEST`], so that clients cut off together do not come back together.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Bound of the first delay.
    pub const FIRST: Duration = Duration::from_millis(50);
    /// Bound of all delays.
    pub const LONGEST: Duration = Duration::from_secs(2);

    /// Returns the delay before the next attempt and counts a failure.
    pub fn next_delay(&mut self) -> Duration {
        let bound = Self::FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// Forgets the failures.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns how many failures there were since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_bound_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        assert!(backoff.next_delay() <= Backoff::FIRST);
        for _ in 0..100 {
            assert!(backoff.next_delay() <= Backoff::LONGEST);
        }
        assert!(backoff.next_delay() >= Backoff::LONGEST / 2);
        backoff.reset();
        assert!(backoff.next_delay() <= Backoff::FIRST);
    }
}
