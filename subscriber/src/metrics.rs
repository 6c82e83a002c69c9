//! What the subscriber counts. One doc line per metric; names and help are what `/metrics` shows.
//!
//! Updated once per batch, never per message. Labels come from enums only.

use model::RejectReason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use store::Appended;

/// Handles of all metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Items received, redelivered ones included.
    received: Counter,
    /// Valid items that were new to the store.
    stored: Counter,
    /// Items the store already had.
    duplicate: Counter,
    /// Dead letters that were new to the store.
    rejected_new: Counter,
    /// Items found invalid, by reason, redelivered ones included.
    rejected: Family<RejectedLabels, Counter>,
    /// Items decoded and not yet stored.
    in_flight: Gauge,
    /// Items in a batch.
    batch_records: Histogram,
    /// Time to store a batch, pauses while the store was unavailable included, in seconds.
    pub(crate) batch_seconds: Histogram,
    /// Time from the receipt of a batch's oldest message to its storing, in seconds.
    pub(crate) lag_seconds: Histogram,
    /// Calls the store could not serve and that were made again.
    pub(crate) store_retries: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectedLabels {
    reason: &'static str,
}

impl Metrics {
    pub(crate) fn register(registry: &service::Metrics) -> Self {
        let counter = |name, help| registry.register(name, help, Counter::default());
        // 50 microseconds to 26 seconds.
        let seconds = || Histogram::new(exponential_buckets(50e-6, 2.0, 20));
        Self {
            received: counter(
                "subscriber_received",
                "Items received, redelivered ones included",
            ),
            stored: counter(
                "subscriber_stored",
                "Valid items that were new to the store",
            ),
            duplicate: counter("subscriber_duplicate", "Items the store already had"),
            rejected_new: counter(
                "subscriber_rejected_new",
                "Dead letters that were new to the store",
            ),
            rejected: registry.register(
                "subscriber_rejected",
                "Items found invalid, by reason, redelivered ones included",
                Family::default(),
            ),
            in_flight: registry.register(
                "subscriber_in_flight_records",
                "Items decoded and not yet stored",
                Gauge::default(),
            ),
            batch_records: registry.register(
                "subscriber_batch_records",
                "Items in a batch",
                Histogram::new(exponential_buckets(1.0, 2.0, 17)),
            ),
            batch_seconds: registry.register(
                "subscriber_batch_seconds",
                "Time to store a batch, pauses while the store was unavailable included",
                seconds(),
            ),
            lag_seconds: registry.register(
                "subscriber_lag_seconds",
                "Time from the receipt of a batch's oldest message to its storing",
                seconds(),
            ),
            store_retries: counter(
                "subscriber_store_retries",
                "Calls the store could not serve and that were made again",
            ),
        }
    }

    pub(crate) fn receive(&self, items: u64) {
        self.received.inc_by(items);
        self.in_flight.inc_by(items.cast_signed());
    }

    /// Counts an item found invalid.
    pub(crate) fn reject(&self, reason: RejectReason) {
        let reason = reason.as_str();
        self.rejected
            .get_or_create(&RejectedLabels { reason })
            .inc();
    }

    pub(crate) fn settle(&self, items: u64, appended: Appended) {
        self.stored.inc_by(appended.stored);
        self.duplicate.inc_by(appended.duplicate);
        self.rejected_new.inc_by(appended.rejected);
        self.in_flight.dec_by(items.cast_signed());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch is far below 2^53 items"
        )]
        self.batch_records.observe(items as f64);
    }
}
