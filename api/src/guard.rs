//! What stands before every route: load shedding, a time limit, and the count of the answers.
//!
//! A request beyond the bound is refused at once with 503 and `Retry-After`; nothing queues here, since
//! a queue in front of a busy store only makes every answer late. The time limit covers the handler up
//! to the head of its answer, reading the body included; an open stream is not limited.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::metrics::RouteMetrics;

/// The bounds of a route; the requests are those of all together.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// One permit for each request that may be answered at a time.
    pub(crate) requests: Arc<Semaphore>,
    /// Longest time to the head of an answer.
    pub(crate) timeout: Duration,
}

/// One route's guard.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// The bounds.
    pub(crate) bounds: Bounds,
    /// The route's metrics.
    pub(crate) metrics: RouteMetrics,
}

/// Lets a request through to its handler, or refuses it.
pub(crate) async fn guard(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let response = match guard.bounds.requests.try_acquire() {
        Ok(_permit) => tokio::time::timeout(guard.bounds.timeout, next.run(request))
            .await
            .unwrap_or_else(|_| ApiError::Timeout.into_response()),
        Err(_) => ApiError::Overloaded.into_response(),
    };
    let elapsed = started.elapsed().as_secs_f64();
    guard.metrics.observe(response.status(), elapsed);
    response
}
