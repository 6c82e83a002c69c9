//! What was counted and measured while sending.
//!
//! Counters are shared and added to once per batch; latencies are recorded by each thread for itself and
//! added up at the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Counters of all connections together.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) published: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) resent: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    pub(crate) connected: AtomicU64,
}

impl Totals {
    pub(crate) fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// Latencies of one thread, or of all once added up.
#[derive(Debug)]
pub(crate) struct Latencies {
    /// From when a message was meant to be sent to its PUBACK, in microseconds.
    pub(crate) from_intended: Histogram<u64>,
    /// From when it was first written to its PUBACK, in microseconds.
    pub(crate) from_written: Histogram<u64>,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are in order");
        Self {
            from_intended: histogram(),
            from_written: histogram(),
        }
    }

    pub(crate) fn record(&mut self, from_intended: Duration, from_written: Duration) {
        let micros = |latency: Duration| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.from_intended.saturating_record(micros(from_intended));
        self.from_written.saturating_record(micros(from_written));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let added = self.from_intended.add(&other.from_intended);
        added.expect("all histograms have the same bounds");
        let added = self.from_written.add(&other.from_written);
        added.expect("all histograms have the same bounds");
    }
}

/// Quantiles of a latency, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half were faster.
    pub p50: f64,
    /// Nine in ten were faster.
    pub p90: f64,
    /// 99 in 100 were faster.
    pub p99: f64,
    /// 999 in 1,000 were faster.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
    /// The slowest.
    pub max: f64,
}

impl Quantiles {
    /// `None` when nothing was measured.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        #[expect(clippy::cast_precision_loss, reason = "an hour has 3.6e9 microseconds")]
        let millis = |micros: u64| micros as f64 / 1_000.0;
        let at = |quantile| millis(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: millis(histogram.max()),
        })
    }
}
