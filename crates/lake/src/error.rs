//! What can go wrong in the lake, sorted by what the caller should do.

use store::{ErrorKind, StoreError};

use crate::storage::StorageError;

/// A failed lake operation.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The folder or bucket failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The store the rows come from failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another runner is at work.
    #[error(
        "the lease {name:?} is held by another runner; wait until it ends or its lease runs out"
    )]
    LeaseHeld {
        /// Name of the lease.
        name: String,
    },
    /// A Delta log cannot be read, or is of a kind this version does not know.
    #[error("the Delta log of {table} cannot be used at version {version}: {detail}")]
    Log {
        /// The table, for example `raw/deliverer_location`.
        table: String,
        /// The commit.
        version: u64,
        /// What is wrong.
        detail: String,
    },
    /// Others committed to a table again and again while this runner tried.
    #[error("{attempts} commits to {table} were each overtaken by another writer")]
    Contended {
        /// The table.
        table: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The lake and the store disagree about how far a writer's rows were taken.
    #[error(
        "{table} holds rows of writer {writer_id} up to {in_lake}, but the store's window goes from \
         {after} to {to}: this is not the lake the store was offloaded to, or one of the two was restored \
         from an older copy"
    )]
    Diverged {
        /// The table.
        table: &'static str,
        /// The writer.
        writer_id: String,
        /// Last sequence the lake has.
        in_lake: u64,
        /// Sequence before the window.
        after: u64,
        /// Last sequence of the window.
        to: u64,
    },
    /// A commit was read back and is not what was written.
    #[error("{table}: reading window {after}..{to} of writer {writer_id} back: {detail}")]
    Mismatch {
        /// The table.
        table: &'static str,
        /// The writer.
        writer_id: String,
        /// Sequence before the window.
        after: u64,
        /// Last sequence of the window.
        to: u64,
        /// What differs.
        detail: String,
    },
    /// Rows could not be written as Parquet, or Parquet not be read.
    #[error("Parquet of {what} failed")]
    Parquet {
        /// Which file or table.
        what: String,
        /// The cause.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// Rows could not be held as columns.
    #[error("the columns of {what} could not be built")]
    Arrow {
        /// Which table.
        what: String,
        /// The cause.
        #[source]
        source: arrow::error::ArrowError,
    },
    /// A task of this process failed.
    #[error("a worker thread of the offload failed")]
    Worker(#[from] tokio::task::JoinError),
}

impl LakeError {
    /// Returns what to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Storage(error) => error.kind,
            Self::Store(error) => error.kind,
            Self::LeaseHeld { .. } | Self::Contended { .. } => ErrorKind::Conflict,
            Self::Log { .. } | Self::Diverged { .. } | Self::Mismatch { .. } => ErrorKind::Data,
            Self::Parquet { .. } | Self::Arrow { .. } | Self::Worker(_) => ErrorKind::Internal,
        }
    }
}
