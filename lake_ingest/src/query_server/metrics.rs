//! What queries over HTTP tell about themselves.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Upper bounds of the classes of time, in seconds.
const SECONDS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// How a query ended: `ok`, or the code of its problem.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

/// The metrics of queries.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    queries: Family<Ended, Counter>,
    /// Seconds of those that were begun.
    pub(crate) seconds: Histogram,
    running: Gauge,
}

/// A query that is being answered.
#[derive(Debug)]
pub(crate) struct Running(Gauge);

impl Metrics {
    pub(crate) fn new(registry: &service::Metrics) -> Self {
        Self {
            queries: registry.register(
                "lake_ingest_queries",
                "Queries over HTTP by outcome: ok, or the code of the problem",
                Family::default(),
            ),
            seconds: registry.register(
                "lake_ingest_query_seconds",
                "Seconds from a query's begin to its end, however it ended",
                Histogram::new(SECONDS),
            ),
            running: registry.register(
                "lake_ingest_queries_running",
                "Queries being answered now",
                Gauge::default(),
            ),
        }
    }

    /// Counts an end.
    pub(crate) fn ended(&self, outcome: &'static str) {
        self.queries.get_or_create(&Ended { outcome }).inc();
    }

    /// Counts a query as running until the answer is dropped.
    pub(crate) fn running(&self) -> Running {
        self.running.inc();
        Running(self.running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
