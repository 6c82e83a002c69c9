//! Saying by name which test a machine cannot run.
//!
//! The line goes to the process's own standard error, past the capture of the test harness, so that it
//! is seen whether the test passes or not; `test.sh` collects these lines into its summary.

use std::io::Write as _;

/// What the line begins with.
pub const PREFIX: &str = "SKIPPED";

/// Reports that `test` was not run, and why.
pub fn report(test: &str, reason: &str) {
    say(&format!("{PREFIX} {test}: {reason}\n"));
}

/// Says something past the capture of the test harness, in one write, so that what is said by tests that
/// run at once does not mix.
pub fn say(text: &str) {
    // Nothing can be said when standard error itself is closed.
    drop(std::io::stderr().write_all(text.as_bytes()));
}
