//! The way in: where messages taken over HTTP go, and what it means that they went.
//!
//! The API stores nothing itself. It hands messages to an [`Ingest`], which is the log of a broker in
//! the same process or an MQTT connection to one elsewhere, and answers its client only after that one
//! has answered.

use async_trait::async_trait;
use bytes::Bytes;

/// A message on its way to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The topic to publish it on.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
}

/// Why messages were not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// They could not be made durable in time. Some may be durable all the same; sending them again is
    /// harmless, because every store keeps a position once.
    #[error("the messages could not be made durable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A message is larger than the broker takes; those before it may be durable.
    #[error("a message has more than {limit} bytes")]
    TooLarge {
        /// Most bytes of a message's payload.
        limit: usize,
    },
}

/// Takes messages and makes them durable.
#[async_trait]
pub trait Ingest: Send + Sync + 'static {
    /// Makes all messages durable, in the order given.
    ///
    /// # Errors
    /// [`IngestError::Unavailable`] when that is not known of each of them, and
    /// [`IngestError::TooLarge`] when it never will be.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open which messages became durable.
    async fn ingest(&self, messages: Vec<OutgoingMessage>) -> Result<(), IngestError>;
}
