//! Fleet events, dead letters, and how much of everything there is.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::{FleetEvent, Reject};
use serde::Serialize;
use serde_json::value::RawValue;
use store::FleetEventQuery;
use utoipa::ToSchema;

use crate::app::SharedApp;
use crate::error::ApiError;
use crate::query::Query;
use crate::render;
use crate::schema::Problem;

/// What happened to a vehicle or an operating period.
#[derive(Serialize, ToSchema)]
#[schema(as = FleetEvent)]
pub(crate) struct EventJson<'a> {
    /// What happened: `register`, `update`, `deregister`, `create` or `delete`.
    event: &'static str,
    /// To what: `vehicle` or `operating_period`.
    on: &'static str,
    /// When, by the sender's clock; RFC 3339, UTC.
    #[schema(format = DateTime)]
    at: String,
    /// The organisation that runs the fleet.
    organization_id: &'a str,
    /// The vehicle or operating period, `data.id` as text.
    entity_id: &'a str,
    /// When the message was taken; RFC 3339, UTC.
    #[schema(format = DateTime)]
    received_time: String,
    /// The event's own data, as it was sent.
    #[schema(value_type = Object)]
    data: &'a RawValue,
}

impl<'a> EventJson<'a> {
    fn new(event: &'a FleetEvent) -> Self {
        Self {
            event: event.event.as_str(),
            on: event.on.as_str(),
            at: event.at.to_string(),
            organization_id: &event.organization_id,
            entity_id: &event.entity_id,
            received_time: event.received_time.to_string(),
            data: serde_json::from_str(&event.data).unwrap_or(RawValue::NULL),
        }
    }
}

/// A page of fleet events, in the order stored.
#[derive(Serialize, ToSchema)]
pub(crate) struct FleetEventPage<'a> {
    /// The events.
    data: Vec<EventJson<'a>>,
    /// Give it as `cursor` for the next page; null when there is no more.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// A message or item that was not taken, as it came.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(crate) struct RejectJson<'a> {
    /// The class of defect, for example `invalid_field`.
    #[schema(example = "invalid_field")]
    reason: &'static str,
    /// The field at fault and what to send instead.
    detail: &'a str,
    /// The topic it came on.
    #[schema(example = "deliveries/1/location")]
    topic: &'a str,
    /// When the message was taken; RFC 3339, UTC.
    #[schema(format = DateTime)]
    received_time: String,
    /// Its place in its message, from 0.
    item: u32,
    /// Its message's sequence in the ingest log, when it was read from there.
    #[schema(required = true)]
    log_seq: Option<u64>,
    /// `text`, or `base64` when the bytes are not UTF-8.
    #[schema(example = "text")]
    payload_encoding: &'static str,
    /// The bytes.
    payload: String,
}

impl<'a> RejectJson<'a> {
    fn new(reject: &'a Reject) -> Self {
        let (payload_encoding, payload) = match std::str::from_utf8(&reject.payload) {
            Ok(text) => ("text", text.to_owned()),
            Err(_) => ("base64", STANDARD.encode(&reject.payload)),
        };
        Self {
            reason: reject.defect.reason.as_str(),
            detail: &reject.defect.detail,
            topic: &reject.topic,
            received_time: reject.received_time.to_string(),
            item: reject.item,
            log_seq: reject.log_seq,
            payload_encoding,
            payload,
        }
    }
}

/// A page of dead letters, oldest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetterPage<'a> {
    /// The dead letters.
    data: Vec<RejectJson<'a>>,
    /// Give it as `cursor` for the next page; null when there is no more.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// How much the store holds.
#[derive(Serialize, ToSchema)]
pub(crate) struct Status {
    /// Positions, those of fleet events included.
    positions: u64,
    /// Fleet events, updates included.
    fleet_events: u64,
    /// Dead letters.
    rejected: u64,
    /// Orders with a last position.
    orders: u64,
    /// Deliverers with a last position.
    deliverers: u64,
}

/// Returns fleet events, in the order stored.
#[utoipa::path(
    get,
    path = "/api/v1/fleet/events",
    tag = "fleet",
    params(
        ("organization_id" = Option<String>, Query, description = "Only of this organisation"),
        ("on" = Option<String>, Query, description = "Only about `vehicle` or `operating_period`"),
        ("entity_id" = Option<String>, Query, description = "Only about this vehicle or operating period"),
        ("event" = Option<String>, Query, description = "Only `register`, `update`, `deregister`, `create` or `delete`"),
        ("limit" = Option<usize>, Query, description = "Most events in the answer, 1 to 10,000; 1,000 unless given"),
        ("cursor" = Option<String>, Query, description = "The page before's `next_cursor`"),
    ),
    responses(
        (status = 200, description = "A page of events", body = FleetEventPage<'_>),
        (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`, `overloaded`, `timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn fleet_events(
    State(app): State<SharedApp>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let known = [
        "organization_id",
        "on",
        "entity_id",
        "event",
        "limit",
        "cursor",
    ];
    let query = Query::parse(&uri, &known)?;
    let question = FleetEventQuery {
        organization_id: query.text("organization_id").map(str::to_owned),
        on: query.word("on", "vehicle, operating_period")?,
        entity_id: query.text("entity_id").map(str::to_owned),
        event: query.word("event", "register, update, deregister, create, delete")?,
        limit: query.limit()?,
        after: query.cursor(),
    };
    let page = app.reader.fleet_events(&question).await?;
    let data: Vec<_> = page.items.iter().map(EventJson::new).collect();
    Ok(render::list(&data, page.next_cursor.as_deref()))
}

/// Returns dead letters: what was sent and is not valid, with the reason, oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/rejected",
    tag = "operation",
    params(
        ("limit" = Option<usize>, Query, description = "Most dead letters in the answer, 1 to 10,000; 1,000 unless given"),
        ("cursor" = Option<String>, Query, description = "The page before's `next_cursor`"),
    ),
    responses(
        (status = 200, description = "A page of dead letters", body = DeadLetterPage<'_>),
        (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`, `overloaded`, `timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn rejected(State(app): State<SharedApp>, uri: Uri) -> Result<Response, ApiError> {
    let query = Query::parse(&uri, &["limit", "cursor"])?;
    let limit = query.limit()?;
    let page = app
        .reader
        .rejected(limit, query.cursor().as_deref())
        .await?;
    let data: Vec<_> = page.items.iter().map(RejectJson::new).collect();
    Ok(render::list(&data, page.next_cursor.as_deref()))
}

/// Returns how much the store holds.
#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "operation",
    responses(
        (status = 200, description = "The counts", body = Status),
        (status = 503, description = "`store_unavailable`, `overloaded`, `timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn status(State(app): State<SharedApp>) -> Result<Json<Status>, ApiError> {
    let counts = app.reader.counts().await?;
    Ok(Json(Status {
        positions: counts.positions,
        fleet_events: counts.fleet_events,
        rejected: counts.rejected,
        orders: counts.orders,
        deliverers: counts.deliverers,
    }))
}
