//! The ingest log: what is acknowledged is on disk, in order, until every consumer is done with it.

mod config;
#[cfg(test)]
mod crash_tests;
pub mod cursors;
pub mod disk;
mod error;
mod group;
mod keeper;
mod log;
mod reader;
mod record;
#[cfg(test)]
mod record_tests;
mod recovery;
mod segment;
mod shared;
pub mod sim;
mod spare;
mod status;
mod sync;
mod wire;
mod writer;

pub use config::{LogConfig, SyncMode};
pub use cursors::{Cursor, Cursors};
pub use disk::RealDisk;
pub use error::LogError;
pub use group::Commit;
pub use log::{Log, Steps};
pub use reader::{Chunk, Reader, Records};
pub use record::{Record, RecordBatch, RecordHead};
pub use recovery::OpenReport;
pub use status::{LogCondition, LogStatus, SYNC_BOUNDS_SECONDS, SyncTimes};
