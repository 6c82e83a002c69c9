//! What queries over HTTP tell about themselves.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Upper bounds of the classes of time, in seconds.
const SECONDS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// The outcome of a query whose client did not wait for its answer.
const CLIENT_GONE: &str = "client_gone";

/// How a query ended: `ok`, the code of its problem, or [`CLIENT_GONE`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

/// The metrics of queries.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    queries: Family<Ended, Counter>,
    seconds: Histogram,
    running: Gauge,
}

/// A request whose outcome is counted once it is dropped.
#[derive(Debug)]
pub(crate) struct Counted<'a> {
    metrics: &'a Metrics,
    /// The outcome.
    pub(crate) outcome: &'static str,
}

/// A query that is being answered.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    metrics: &'a Metrics,
    started: Instant,
}

impl Metrics {
    pub(crate) fn new(registry: &service::Metrics) -> Self {
        Self {
            queries: registry.register(
                "lake_ingest_queries",
                "Queries over HTTP by outcome: ok, client_gone, or the code of the problem",
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

    /// Counts a request's outcome when what is returned is dropped, which may be at any moment.
    pub(crate) fn counted(&self) -> Counted<'_> {
        Counted {
            metrics: self,
            outcome: CLIENT_GONE,
        }
    }

    /// Counts a query as running until what is returned is dropped, and its time then.
    pub(crate) fn running(&self) -> Running<'_> {
        self.running.inc();
        Running {
            metrics: self,
            started: Instant::now(),
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome;
        self.metrics.queries.get_or_create(&Ended { outcome }).inc();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.metrics.running.dec();
        let seconds = self.started.elapsed().as_secs_f64();
        self.metrics.seconds.observe(seconds);
    }
}
