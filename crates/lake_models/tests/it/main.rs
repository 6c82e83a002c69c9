//! Tests of models and queries over a whole way: SQLite, offload, models, and readers of other makers.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod bucket;
mod documents;
mod evolution;
mod incremental;
mod models;
#[path = "../../../lake/tests/it/moto.rs"]
mod moto;
mod oracle;
mod python;
mod queries;
mod readers;
mod spark;
mod world;
