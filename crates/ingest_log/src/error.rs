//! What can go wrong, said so that the reader knows what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A failed operation of the log. Cheap to clone, because one failed sync answers many waiting commits.
///
/// `Display` leaves out the cause; print the chain of sources to see it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The operating system refused an operation.
    #[error("cannot {operation} {}; check the disk, its space and its permissions, then restart", path.display())]
    Io {
        /// What was tried, for example `open`.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Arc<io::Error>,
    },
    /// A file holds what this program never wrote, so acknowledged records may be lost or changed.
    ///
    /// The log never steps over damage by itself: an operator decides what to do with the file.
    #[error(
        "{} is damaged at byte {offset}: {reason}; restore the file from a copy, or move it and all \
         later segments away to give up what they hold",
        path.display()
    )]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in it, in bytes from its beginning.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A file was written by another version of the format.
    #[error(
        "{} has format version {found}, and this program reads version {supported}; run the program \
         version that wrote it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version this program reads and writes.
        supported: u32,
    },
    /// Another process has the log open.
    #[error("the log in {} is in use by another process; stop it or give another folder", dir.display())]
    Locked {
        /// The log's folder.
        dir: PathBuf,
    },
    /// A write or sync failed earlier; nothing is acknowledged any more until the log is opened again.
    #[error(
        "the log stopped because {reason}; all it acknowledged is kept, mend the cause and restart"
    )]
    Failed {
        /// What failed.
        reason: Arc<str>,
    },
    /// The disk or `max_log_bytes` is exhausted and the log was closed before there was room.
    #[error("the log is full because {reason}; free space or let consumers catch up")]
    Full {
        /// What is exhausted.
        reason: Arc<str>,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// A record or a batch is larger than the log takes.
    #[error("{what} has {bytes} bytes and the log takes at most {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit that applies.
        limit: usize,
    },
    /// A reader asked for records that were deleted, because no pinning cursor held them.
    #[error("record {wanted} was deleted; the oldest kept is {first}")]
    Deleted {
        /// The sequence asked for.
        wanted: u64,
        /// The first sequence still held.
        first: u64,
    },
    /// A setting makes no sense.
    #[error("{setting} {problem}")]
    Config {
        /// The field of `LogConfig`.
        setting: &'static str,
        /// What is wrong with it and what to give instead.
        problem: String,
    },
}

impl LogError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            offset,
            reason: reason.into(),
        }
    }

    /// Tells whether waiting for space and trying again is right.
    pub(crate) fn is_no_space(&self) -> bool {
        matches!(
            self,
            Self::Io { source, .. } if matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        )
    }

    /// Writes the error and its cause on one line, for a reason kept as text.
    pub(crate) fn to_reason(&self) -> Arc<str> {
        match self {
            Self::Io {
                operation,
                path,
                source,
            } => format!("it could not {operation} {} ({source})", path.display()).into(),
            Self::Failed { reason } | Self::Full { reason } => Arc::clone(reason),
            other => other.to_string().into(),
        }
    }
}
