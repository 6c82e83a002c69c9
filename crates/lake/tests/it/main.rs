//! Tests of the lake from outside: the window protocol under crashes, the log, the files.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod crash;
mod delta;
mod files;
mod local;
mod source;
mod storage;
mod world;
