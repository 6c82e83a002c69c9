//! The live stream of one order, as server-sent events.
//!
//! Events: `location` with a position as data, each newer than the one before; `lagged` when positions
//! were passed over because the client reads too slowly. The first event is the last position, when there
//! is one. While nothing happens, a comment is sent and the store is asked for anything the live feed
//! may have lost. Each `location` carries an `id`; a client that returns with `Last-Event-ID` simply
//! gets the last position again.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use model::OrderId;
use model::position::RecencyKey;
use prometheus_client::metrics::gauge::Gauge;
use service::ErrorChain;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior};

use crate::app::SharedApp;
use crate::error::ApiError;
use crate::live::{self, LiveEvent, Watch};
use crate::query::IdPath;
use crate::schema::Problem;

/// Sent at once: how soon a client should return after the stream ended.
const PREAMBLE: &[u8] = b"retry: 2000\n\n";
/// Sent while nothing happens, so that nobody on the way takes the connection for dead.
const HEARTBEAT: &[u8] = b": still here\n\n";

/// Streams an order's positions as they come (server-sent events).
///
/// Event `location`: data is a position; the first is the last position known. Event `lagged`: the
/// client was too slow, data is `{"skipped": n}`, and the stream goes on from the newest. An unknown
/// order's stream waits for its first position.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{order_id}/stream",
    tag = "positions",
    params(
        ("order_id" = String, Path, description = "The order", example = "43"),
        ("Last-Event-ID" = Option<String>, Header, description = "Accepted; the stream begins with the last position all the same"),
    ),
    responses(
        (status = 200, description = "The stream; it ends when the service stops", body = String, content_type = "text/event-stream"),
        (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`too_many_streams`, `store_unavailable`, `overloaded`, `timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn order_stream(
    State(app): State<SharedApp>,
    order_id: IdPath<OrderId>,
) -> Result<Response, ApiError> {
    let place = OpenStream::new(&app)?;
    // Watched first and read second, so that nothing falls between the two.
    let watch = app.hub.watch(&order_id.0);
    let last = app.reader.last_by_order(&order_id.0).await?;
    let mut heartbeat = tokio::time::interval(app.config.http_heartbeat.as_duration());
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    let mut stream = Stream {
        app,
        watch,
        heartbeat,
        sent: None,
        waiting: VecDeque::from([Bytes::from_static(PREAMBLE)]),
        _place: place,
    };
    if let Some(position) = last {
        stream.sent = Some(position.recency());
        stream.waiting.push_back(live::frame(&position));
    }
    let events = futures_util::stream::unfold(stream, async |mut stream| {
        let frame = stream.next().await?;
        Some((Ok::<_, Infallible>(frame), stream))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // nginx would hold events back otherwise.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// One client's stream.
struct Stream {
    app: SharedApp,
    watch: Watch,
    heartbeat: Interval,
    /// The newest position sent.
    sent: Option<RecencyKey>,
    /// Frames to be sent next; two at most.
    waiting: VecDeque<Bytes>,
    _place: OpenStream,
}

impl Stream {
    /// Waits for the next frame; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                self.heartbeat.reset();
                return Some(frame);
            }
            tokio::select! {
                () = self.app.serve.cancelled() => return None,
                event = self.watch.next() => self.take(event).await,
                _ = self.heartbeat.tick() => {
                    if !self.catch_up().await {
                        self.waiting.push_back(Bytes::from_static(HEARTBEAT));
                    }
                }
            }
        }
    }

    async fn take(&mut self, event: LiveEvent) {
        match event {
            LiveEvent::Position { recency, frame } => {
                if self.sent < Some(recency) {
                    self.sent = Some(recency);
                    self.waiting.push_back(frame);
                }
            }
            LiveEvent::Missed(skipped) => {
                let lagged = format!("event: lagged\ndata: {{\"skipped\":{skipped}}}\n\n");
                self.waiting.push_back(Bytes::from(lagged));
                self.catch_up().await;
            }
        }
    }

    /// Queues the store's last position when it is newer than what was sent, and tells whether it was.
    async fn catch_up(&mut self) -> bool {
        match self.app.reader.last_by_order(self.watch.order_id()).await {
            Ok(Some(position)) if self.sent < Some(position.recency()) => {
                self.sent = Some(position.recency());
                self.waiting.push_back(live::frame(&position));
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::debug!(error = %ErrorChain(&error), "a stream could not look into the store");
                false
            }
        }
    }
}

/// A stream's place among those that may be open; gives it back when the stream ends.
struct OpenStream {
    gauge: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl OpenStream {
    fn new(app: &SharedApp) -> Result<Self, ApiError> {
        let permit = app.streams.clone().try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::TooManyStreams)?;
        let gauge = app.metrics.streams.clone();
        gauge.inc();
        Ok(Self {
            gauge,
            _permit: permit,
        })
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
