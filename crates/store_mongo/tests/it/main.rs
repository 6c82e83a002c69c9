//! The store on MongoDB against the conformance suite and its own promises, on a real server.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod carried;
mod commands;
mod conformance;
mod connect;
mod ids;
mod kill;
mod lake;
mod last;
mod lists;
mod purge;
mod race;
mod schema;
mod server;
mod takeover;
