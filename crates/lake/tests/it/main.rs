//! Tests of the lake from outside: the window protocol under crashes, the log, the files.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod campaign;
mod checkpoint;
mod compact;
mod crash;
mod delta;
mod files;
mod local;
mod moto;
#[cfg(feature = "s3")]
mod proxy;
mod purge;
mod readers;
mod reconcile;
#[cfg(feature = "s3")]
mod s3;
mod source;
mod storage;
mod suite;
mod world;
