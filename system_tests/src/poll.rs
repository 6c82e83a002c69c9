//! Waiting for something another process does: asked again and again until a deadline.
//!
//! The deadline decides only how long a broken system may keep a test waiting. It is no assertion about
//! speed, so it is generous.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How long a test waits for what should take a moment, on a machine that does other things too.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// How many times as long as its last answer took [`gently`] leaves the one asked alone.
const GENTLE: u32 = 10;

/// Longest pause of [`gently`].
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Waits a moment without asking anything.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness waits for other processes and has no runtime worker to block"
)]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Asks `question` until it answers `Some`.
///
/// # Errors
/// When the question fails, or when `patience` is over; `what` then names what did not come about.
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut question: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = question().with_context(|| format!("while waiting for {what}"))? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what} did not come about within {patience:?}");
        }
        pause(PAUSE);
    }
}

/// Asks `question` until it answers `Some`, and pauses between two questions for several times as long as
/// the answer took: for what is dear to answer while the one asked should be doing something else.
///
/// # Errors
/// As [`until`].
pub fn gently<T>(
    what: &str,
    patience: Duration,
    mut question: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let mut last_took = Duration::ZERO;
    until(what, patience, || {
        pause((last_took * GENTLE).min(LONGEST_PAUSE));
        let asked = Instant::now();
        let answer = question();
        last_took = asked.elapsed();
        answer
    })
}

/// Asks `question` until it equals `expected`.
///
/// # Errors
/// As [`until`]; the last answer is named.
pub fn until_equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    patience: Duration,
    expected: &T,
    mut question: impl FnMut() -> Result<T>,
) -> Result<()> {
    let mut last = None;
    let outcome = until(what, patience, || {
        let answer = question()?;
        let right = answer == *expected;
        last = Some(answer);
        Ok(right.then_some(()))
    });
    outcome.with_context(|| format!("expected {expected:?}, last saw {last:?}"))
}
