//! Failures, and what a caller should do about each.

use rusqlite::ErrorCode;
use store::{ErrorKind, StoreError};

/// A failed step; becomes a [`StoreError`] once the operation is known.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: ErrorKind,
    source: Box<dyn std::error::Error + Send + Sync>,
}

pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(
        kind: ErrorKind,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            source: source.into(),
        }
    }

    pub(crate) fn data(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, what.into())
    }

    pub(crate) fn conflict(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, what.into())
    }

    pub(crate) fn during(self, operation: &'static str) -> StoreError {
        StoreError {
            operation,
            store: "sqlite",
            kind: self.kind,
            source: self.source,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(ErrorKind::Unavailable, error)
    }
}

/// The part of an extended result code that says "an fsync failed"; what it covered is unknown.
const IOERR_FSYNC: i32 = 1034;
const IOERR_DIR_FSYNC: i32 = 1290;

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match &error {
            rusqlite::Error::SqliteFailure(code, _) => match code.code {
                _ if matches!(code.extended_code, IOERR_FSYNC | IOERR_DIR_FSYNC) => ErrorKind::Data,
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted => ErrorKind::Unavailable,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => ErrorKind::Data,
                ErrorCode::TooBig => ErrorKind::Invalid,
                _ => ErrorKind::Internal,
            },
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::InvalidColumnType(..) => ErrorKind::Data,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error)
    }
}
