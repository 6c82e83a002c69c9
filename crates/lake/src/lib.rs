//! The lake: history as Parquet in Hive partitions that is also a Delta table, taken from the store window
//! by window, each row exactly once.
//!
//! | module | owns |
//! |---|---|
//! | [`entities`] | the declared tables of raw: the one place to add a column |
//! | [`offload`] | the window protocol, the purge, and comparing store and lake by date |
//! | [`delta`] | reading a Delta log and committing to it |
//! | [`compact`] | few large files out of many small ones, in tables of models |
//! | [`vacuum`] | deleting files that are not live |
//! | [`storage`] | the seam to a folder or a bucket |
//! | [`schedule`] | cron expressions and the loop that runs on one |
//!
//! # The window protocol
//! 1. The window's bounds are recorded in the store: up to the writer's committed sequence, so it is complete by
//!    proof. 2. Its rows are written as files whose names and bytes follow from the rows. 3. One Delta commit
//!    makes them live and records the sequence. 4. The window is marked committed. 5. The commit is read back
//!    from storage; when counts and keys agree, the window is verified, and only then may its rows be purged.
//!
//! A crash after any step, also one whose effect is unknown, is repaired by running again.
//!
//! What this crate does not do: SQL; deciding what is valid.

pub mod compact;
pub mod delta;
mod encode;
pub mod entities;
pub mod entity;
pub mod error;
pub mod hive;
pub mod lease;
pub mod offload;
pub mod parquet_file;
mod processors;
pub mod root;
pub mod schedule;
pub mod storage;
pub mod vacuum;

pub use error::LakeError;
pub use lease::Lease;
pub use offload::reconcile::{DateCount, Dates};
pub use offload::{Offload, OffloadConfig, Progress, Step, Summary, TableSummary};
pub use root::{Root, RootError};
