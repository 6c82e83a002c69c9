//! Failures, and what a caller should do about each.
//!
//! The driver's own text of an error quotes the server's whole answer, and with it what was written; a failure
//! keeps only the message. No message holds the URI's password.

use mongodb::error::{
    CommandError, Error, ErrorKind as Driver, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR,
    WriteFailure,
};
use store::{ErrorKind, StoreError};

/// A failed step; becomes a [`StoreError`] once the operation is known.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    /// The server was waited for as long as one waits; no use in trying again at once.
    pub(crate) waited: bool,
    pub(crate) source: Box<dyn std::error::Error + Send + Sync>,
}

pub(crate) type Outcome<T> = Result<T, Failure>;

/// Code of a write that breaks a unique index.
pub(crate) const DUPLICATE_KEY: i32 = 11_000;

/// Server codes that mean "not now": elections, shutdowns, full queues, exceeded times. The list is that of
/// the retryable errors in the driver specification, and what else passes by itself.
const TRANSIENT_CODES: &[i32] = &[
    6, 7, 43, 50, 64, 79, 89, 91, 100, 112, 134, 175, 189, 202, 237, 262, 290, 317, 358, 365, 384,
    391, 462, 9001, 10058, 10107, 11600, 11602, 13388, 13435, 13436,
];
/// Server codes that mean the credentials or their rights are wrong. Waiting is right: they may be rotated
/// under us, nothing is acknowledged meanwhile, and a restart would meet the same refusal.
const REFUSED_CODES: &[i32] = &[11, 13, 18, 391, 8000];
/// Server codes of a document that will never be taken: too large, refused by a validator, nested too deeply.
const INVALID_CODES: &[i32] = &[2, 121, 10_334, 15, 17_280, 17_419, 17_420];
/// Server codes of an index whose options or keys differ from ours.
const INDEX_CODES: &[i32] = &[85, 86];
/// Disk full.
const OUT_OF_DISK: i32 = 14_031;

impl Failure {
    pub(crate) fn new(
        kind: ErrorKind,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            waited: false,
            source: source.into(),
        }
    }

    pub(crate) fn data(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, what.into())
    }

    pub(crate) fn conflict(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, what.into())
    }

    pub(crate) fn unavailable(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, what.into())
    }

    /// Names the kind of a code the server gave to one document.
    pub(crate) fn of_document(code: i32, message: &str) -> Self {
        Self::new(kind_of_code(code), format!("{message} (code {code})"))
    }

    pub(crate) fn during(self, operation: &'static str) -> StoreError {
        StoreError {
            operation,
            store: "mongodb",
            kind: self.kind,
            source: self.source,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.source.fmt(f)
    }
}

fn kind_of_code(code: i32) -> ErrorKind {
    if TRANSIENT_CODES.contains(&code) || REFUSED_CODES.contains(&code) || code == OUT_OF_DISK {
        ErrorKind::Unavailable
    } else if INVALID_CODES.contains(&code) {
        ErrorKind::Invalid
    } else if INDEX_CODES.contains(&code) {
        ErrorKind::Data
    } else {
        ErrorKind::Internal
    }
}

/// Returns what to do about a driver's error.
fn kind_of(error: &Error) -> ErrorKind {
    let transient = [RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR];
    if transient.iter().any(|label| error.contains_label(label)) {
        return ErrorKind::Unavailable;
    }
    match &*error.kind {
        Driver::Command(CommandError { code, .. }) => kind_of_code(*code),
        Driver::Write(WriteFailure::WriteError(error)) => kind_of_code(error.code),
        // Written, but not by a majority within the time given: unknown.
        Driver::Write(WriteFailure::WriteConcernError(_)) => ErrorKind::Unavailable,
        Driver::InsertMany(errors) => {
            let of_documents = errors.write_errors.iter().flatten();
            let worst = of_documents
                .map(|error| kind_of_code(error.code))
                .find(|kind| *kind != ErrorKind::Unavailable);
            match worst {
                Some(kind) if errors.write_concern_error.is_none() => kind,
                _ => ErrorKind::Unavailable,
            }
        }
        Driver::BulkWrite(errors) => {
            let of_documents = errors.write_errors.values();
            let worst = of_documents
                .map(|error| kind_of_code(error.code))
                .find(|kind| *kind != ErrorKind::Unavailable);
            match (worst, std::error::Error::source(error)) {
                (Some(kind), None) if errors.write_concern_errors.is_empty() => kind,
                _ => ErrorKind::Unavailable,
            }
        }
        Driver::Io(_)
        | Driver::ConnectionPoolCleared { .. }
        | Driver::ServerSelection { .. }
        | Driver::DnsResolve { .. }
        | Driver::Authentication { .. }
        | Driver::InvalidResponse { .. } => ErrorKind::Unavailable,
        Driver::Bson(_) => ErrorKind::Data,
        Driver::IncompatibleServer { .. } => ErrorKind::Data,
        _ => ErrorKind::Internal,
    }
}

/// Says what went wrong without quoting documents.
fn message(error: &Error) -> String {
    match &*error.kind {
        Driver::Authentication { message, .. } => format!(
            "MongoDB refuses the credentials ({message}); set the right user, password and authSource in \
             the URI"
        ),
        Driver::Command(CommandError { code, message, .. }) if REFUSED_CODES.contains(code) => {
            format!(
                "MongoDB refuses this to the user of the URI: {message} (code {code}); grant it readWrite on \
                 the database"
            )
        }
        Driver::InsertMany(errors) => {
            let first = errors.write_errors.iter().flatten();
            let first = first.map(|error| error.code).next();
            let concern = errors
                .write_concern_error
                .as_ref()
                .map(|error| &error.message);
            format!("an insertion failed: code {first:?}, write concern {concern:?}")
        }
        Driver::BulkWrite(errors) => {
            let first = errors.write_errors.values().map(|error| error.code).next();
            let concern = errors
                .write_concern_errors
                .first()
                .map(|error| &error.message);
            let source = std::error::Error::source(error).map(ToString::to_string);
            format!("a bulk write failed: code {first:?}, write concern {concern:?}, {source:?}")
        }
        kind => kind.to_string(),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            kind: kind_of(&error),
            waited: matches!(&*error.kind, Driver::ServerSelection { .. }),
            source: message(&error).into(),
        }
    }
}

/// Tells whether a single write failed only because its `_id` is there already.
pub(crate) fn is_duplicate(error: &Error) -> bool {
    match &*error.kind {
        Driver::Write(WriteFailure::WriteError(error)) => error.code == DUPLICATE_KEY,
        Driver::Command(error) => error.code == DUPLICATE_KEY,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_to_do() {
        let expected = [
            // Elections, shutdowns, a lost primary, a full queue, a timeout, a full disk, refused credentials.
            (
                ErrorKind::Unavailable,
                &[
                    6, 64, 91, 189, 10_107, 11_600, 11_602, 13_435, 50, 14_031, 13, 18,
                ][..],
            ),
            // A document that is too large, or that a validator refuses.
            (ErrorKind::Invalid, &[2, 121, 10_334]),
            (ErrorKind::Data, &[85, 86]),
            // A command that no server should refuse: failed to parse, unknown.
            (ErrorKind::Internal, &[9, 59]),
        ];
        for (kind, codes) in expected {
            for &code in codes {
                assert_eq!(kind_of_code(code), kind, "{code}");
                assert_eq!(Failure::of_document(code, "m").kind, kind, "{code}");
            }
        }
    }
}
