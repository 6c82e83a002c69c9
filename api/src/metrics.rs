//! What this API counts about itself.
//!
//! Labels come from the route table and from status classes, never from ids.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Upper bounds of the latency classes in seconds: fine below a millisecond, where reads should be.
const SECONDS: [f64; 16] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.000_9, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 1.0, 5.0, 30.0,
];

/// Status classes, the label `status`.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// Every metric of the API.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    items: Family<OutcomeLabels, Counter>,
    /// Seconds from the lookup of a last position to its answer.
    pub(crate) last_location_seconds: Histogram,
    /// Streams open now.
    pub(crate) streams: Gauge,
}

/// The metrics of one route, found once so that a request costs no lookup.
#[derive(Debug, Clone)]
pub(crate) struct RouteMetrics {
    requests: [Counter; CLASSES.len()],
    seconds: Histogram,
}

impl Metrics {
    /// Makes and registers the metrics.
    pub(crate) fn new(registry: &service::Metrics) -> Self {
        Self {
            requests: registry.register(
                "api_requests",
                "Requests answered, by route and status class",
                Family::default(),
            ),
            request_seconds: registry.register(
                "api_request_seconds",
                "Seconds from a request's head to its answer's head, by route",
                Family::new_with_constructor(histogram as fn() -> Histogram),
            ),
            items: registry.register(
                "api_items",
                "Items taken over HTTP, by outcome, counted once they are durable",
                Family::default(),
            ),
            last_location_seconds: registry.register(
                "api_last_location_seconds",
                "Seconds from the lookup of a last position to its answer",
                histogram(),
            ),
            streams: registry.register("api_streams", "Streams open now", Gauge::default()),
        }
    }

    /// Returns the metrics of one route.
    pub(crate) fn of_route(&self, route: &'static str) -> RouteMetrics {
        let counter = |status| {
            let labels = RequestLabels { route, status };
            self.requests.get_or_create(&labels).clone()
        };
        RouteMetrics {
            requests: CLASSES.map(counter),
            seconds: self
                .request_seconds
                .get_or_create(&RouteLabels { route })
                .clone(),
        }
    }

    /// Counts items whose messages are durable.
    pub(crate) fn count_items(&self, accepted: usize, rejected: usize) {
        for (outcome, count) in [("accepted", accepted), ("rejected", rejected)] {
            self.items
                .get_or_create(&OutcomeLabels { outcome })
                .inc_by(count as u64);
        }
    }
}

impl RouteMetrics {
    /// Counts one answer.
    pub(crate) fn observe(&self, status: axum::http::StatusCode, seconds: f64) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.requests.get(class) {
            counter.inc();
        }
        self.seconds.observe(seconds);
    }
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}
