//! The API over real HTTP, before a real store.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

mod harness;
mod history;
mod intake;
mod lake;
mod last;
mod lists;
#[cfg(feature = "mongodb")]
mod mongodb;
mod process;
mod refusals;
mod remote;
#[cfg(feature = "mongodb")]
mod store_settings;
mod stream;
mod surface;
