//! What can go wrong with models and queries.

use datafusion::error::DataFusionError;
use lake::LakeError;
use lake::storage::StorageError;
use store::ErrorKind;

/// A failed model or query.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The lake failed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A model's file is not as it must be.
    #[error("the model file {file} is wrong: {detail}")]
    Declaration {
        /// Which file.
        file: String,
        /// What to put right.
        detail: String,
    },
    /// A model's SQL failed.
    #[error("the model {model} failed")]
    Run {
        /// Which model.
        model: String,
        /// The cause.
        #[source]
        source: Box<DataFusionError>,
    },
    /// A query's SQL failed.
    #[error("the query failed; the lake has the tables {}", tables.join(", "))]
    Query {
        /// What may be queried.
        tables: Vec<String>,
        /// The cause.
        #[source]
        source: Box<DataFusionError>,
    },
    /// A model's result breaks a declared check; nothing of it was published.
    #[error(
        "the model {model} breaks its check {check:?}; nothing was published. Such rows:\n{rows}"
    )]
    Check {
        /// Which model.
        model: String,
        /// The check, as declared.
        check: String,
        /// Some of the rows, as a table.
        rows: String,
    },
    /// Results could not be kept on the way to the lake, or not be printed.
    #[error("{what} failed")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Results could not be converted.
    #[error("{what} failed")]
    Arrow {
        /// What was tried.
        what: String,
        /// The cause.
        #[source]
        source: arrow::error::ArrowError,
    },
}

impl ModelError {
    /// Returns what to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Lake(error) => error.kind(),
            Self::Declaration { .. } => ErrorKind::Invalid,
            Self::Query { source, .. } => storage_kind(source).unwrap_or(ErrorKind::Invalid),
            Self::Check { .. } => ErrorKind::Data,
            Self::Run { source, .. } => storage_kind(source).unwrap_or(ErrorKind::Internal),
            Self::Io { .. } | Self::Arrow { .. } => ErrorKind::Internal,
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn arrow(what: impl Into<String>) -> impl FnOnce(arrow::error::ArrowError) -> Self {
        let what = what.into();
        move |source| Self::Arrow { what, source }
    }
}

/// Finds what the lake's storage said below what the engine made of it.
pub(crate) fn storage_kind(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let mut error = Some(error);
    while let Some(cause) = error {
        if let Some(storage) = cause.downcast_ref::<StorageError>() {
            return Some(storage.kind);
        }
        error = cause.source();
    }
    None
}
