//! The program from outside: one run, queries, status, the schedule, and its exit codes.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod bucket;
#[path = "../../../crates/lake/tests/it/moto.rs"]
mod moto;
mod program;
mod service;
