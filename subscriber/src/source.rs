//! Where messages come from, as the pipeline sees it.
//!
//! A source gives out pieces: some messages in order, kept until they are stored, so that they can be
//! decoded once more when the store asks for the batch again.

mod log;
mod mqtt;

use formats::Message;
use service::BoxError;
use store::SourceCursor;

pub(crate) use log::LogSource;
pub(crate) use mqtt::MqttSource;

/// Bytes a message counts beside its topic and payload, so that empty ones count too.
const OVERHEAD: usize = 32;

/// Some consecutive messages.
pub(crate) trait Piece: Send + Sync + 'static {
    /// Shows every message, in order.
    fn each<'a>(&'a self, see: &mut dyn FnMut(Message<'a>));

    /// Returns about how many bytes it holds.
    fn bytes(&self) -> usize;

    /// Returns where the source stands once this piece and all before it are stored.
    fn cursor(&self) -> Option<SourceCursor>;

    /// Tells the source that this piece and all before it are stored.
    fn confirm(&self);
}

/// Gives out pieces until it is told to stop.
pub(crate) trait Source: Send + 'static {
    /// What it gives out.
    type Piece: Piece;

    /// Waits for the next piece; `None` once it was told to stop and has nothing left to give.
    ///
    /// Cancel safe: a call that is dropped has taken nothing.
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Piece>, BoxError>> + Send;
}
