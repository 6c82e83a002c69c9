//! The time of day, passed in so that tests decide what it is.
//!
//! This is the one place that asks the system for it. Waiting is not done here: timers use tokio's clock.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use model::UtcMicros;

/// Tells the time of day.
pub trait Clock: Send + Sync + Debug {
    /// Returns the present instant.
    fn now(&self) -> UtcMicros;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UtcMicros {
        #[expect(
            clippy::disallowed_methods,
            reason = "everything else takes the time from this clock"
        )]
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        UtcMicros::default().saturating_add_micros(micros)
    }
}

/// A clock that stands still until it is moved; for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Makes a clock that shows `now`.
    pub fn new(now: UtcMicros) -> Self {
        Self(AtomicI64::new(now.as_micros()))
    }

    /// Sets it to `now`.
    pub fn set(&self, now: UtcMicros) {
        self.0.store(now.as_micros(), Ordering::SeqCst);
    }

    /// Moves it by `micros`, backwards when negative.
    pub fn advance_micros(&self, micros: i64) {
        self.set(self.now().saturating_add_micros(micros));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UtcMicros {
        UtcMicros::default().saturating_add_micros(self.0.load(Ordering::SeqCst))
    }
}
