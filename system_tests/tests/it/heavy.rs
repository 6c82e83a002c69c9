//! One turn at a time for tests that keep the machine busy by themselves: several of them at once would
//! only wait for each other, and their kills would miss the load.

use std::sync::{Mutex, MutexGuard, PoisonError};

static TURN: Mutex<()> = Mutex::new(());

/// Waits for this test's turn; it ends with the guard.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    // A failed test before this one is no reason to fail.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
