//! The embedded store against the conformance suite and its own promises.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod broken;
mod checkpoint;
mod conformance;
mod file;
mod kill;
