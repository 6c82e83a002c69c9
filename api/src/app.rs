//! What every route is given.

use std::sync::Arc;

use service::{CancellationToken, Clock};
use store::Reader;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::ingest::Ingest;
use crate::lake::Lake;
use crate::live::Hub;
use crate::metrics::Metrics;

/// The service as its routes see it.
#[derive(Clone)]
pub(crate) struct App {
    /// Answers questions.
    pub(crate) reader: Arc<dyn Reader>,
    /// Takes messages.
    pub(crate) ingest: Arc<dyn Ingest>,
    /// Answers queries over the lake, where it was told who does.
    pub(crate) lake: Option<Lake>,
    /// Passes live positions to streams.
    pub(crate) hub: Arc<Hub>,
    /// Tells the time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Cancelled when no more messages are taken.
    pub(crate) intake: CancellationToken,
    /// Cancelled when streams end.
    pub(crate) serve: CancellationToken,
    /// One permit for each stream that may be open.
    pub(crate) streams: Arc<Semaphore>,
    /// Counts.
    pub(crate) metrics: Metrics,
    /// The settings in effect.
    pub(crate) config: Config,
    /// The OpenAPI document, as sent.
    pub(crate) document: bytes::Bytes,
}

/// The state of the router.
pub(crate) type SharedApp = Arc<App>;
