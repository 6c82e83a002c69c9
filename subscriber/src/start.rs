//! Starts the pipeline over one source or the other, as supervised components.

mod log;
mod mqtt;

use std::fmt;
use std::sync::Arc;

use service::Context;
use tokio::sync::broadcast;

use crate::Config;
use crate::counters::Counters;
use crate::metrics::Metrics;
use crate::pipeline::{LiveSender, Shared};

pub use log::start_from_log;
pub use mqtt::start_from_mqtt;

/// Name of the subscriber's cursor in the ingest log: what is below it survives a power loss in the store.
pub const LOG_CURSOR: &str = "subscriber";

/// A running subscriber.
#[derive(Clone)]
pub struct Handle {
    /// Sends the positions of every batch just stored; those of redelivered messages come again. It keeps
    /// a bounded number of batches: who is slower loses the oldest, and is told so.
    pub live: LiveSender,
    /// Counts since the start.
    pub counters: Counters,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

fn share(config: Config, context: &Context) -> (Shared, Handle) {
    let (live, _) = broadcast::channel(config.live_batches);
    let handle = Handle {
        live: live.clone(),
        counters: Counters::default(),
    };
    let shared = Shared {
        config,
        counters: handle.counters.clone(),
        metrics: Metrics::register(&context.metrics),
        live,
        clock: Arc::clone(&context.clock),
        confirm_first: false,
    };
    (shared, handle)
}
