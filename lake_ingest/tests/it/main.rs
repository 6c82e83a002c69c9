//! The program from outside: one run, queries, status, the schedule, and its exit codes.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]
#![expect(clippy::print_stdout, reason = "a campaign tells what it did")]

mod background;
mod bucket;
mod engines;
mod kill;
#[cfg(feature = "mongodb")]
mod mongodb;
#[path = "../../../crates/lake/tests/it/moto.rs"]
mod moto;
mod place;
mod program;
mod queries;
mod service;
