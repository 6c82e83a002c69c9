//! Tests of models and queries over a whole way: SQLite, offload, models, and readers of other makers.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod models;
mod queries;
mod readers;
mod world;
