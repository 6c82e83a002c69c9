//! Store errors, sorted by what the caller should do.

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The store cannot be reached or is busy: try the same call again, with back-off.
    Unavailable,
    /// Somebody else changed what the call relied on: read again, then decide.
    Conflict,
    /// The store will never take this input: reject the item.
    Invalid,
    /// What the store holds is damaged or of an unknown version: stop and call an operator.
    Data,
    /// A defect of this program.
    Internal,
}

/// A failed store operation.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed in the {store} store")]
pub struct StoreError {
    /// What was tried, for example `append`.
    pub operation: &'static str,
    /// Which store, for example `sqlite`.
    pub store: &'static str,
    /// What to do about it.
    pub kind: ErrorKind,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl StoreError {
    /// Returns what to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}
