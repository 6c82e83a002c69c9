//! The last position of an order or a deliverer: the question this service is built around.
//!
//! The position is written once, straight into the answer's bytes; its tag is a hash of them. The tag is
//! weak because `age_s`, which every answer has anew, is not part of it.

use std::time::Instant;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use model::content_hash::ContentHash;
use model::{DelivererId, OrderId, Position, UtcMicros};

use crate::app::SharedApp;
use crate::error::ApiError;
use crate::query::IdPath;
use crate::schema::{LastPosition, OriginalLast, Problem};

/// A position is some 380 bytes of JSON with ordinary ids.
const USUAL_BYTES: usize = 512;

/// Returns the last position of an order.
///
/// The last is the one with the greatest event time, whatever arrived last. `If-None-Match` with the
/// `ETag` of an earlier answer gets 304 while there is no newer position.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{order_id}/location",
    tag = "positions",
    params(("order_id" = String, Path, description = "The order; percent-encode what is not plain (`/` is `%2F`)", example = "43")),
    responses(
        (status = 200, description = "The last position", body = LastPosition, headers(("ETag" = String, description = "Changes with the position"))),
        (status = 304, description = "Nothing newer than `If-None-Match`"),
        (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`order_unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`, `overloaded`, `timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn order_last(
    State(app): State<SharedApp>,
    order_id: IdPath<OrderId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let IdPath(order_id) = order_id;
    let Some(position) = app.reader.last_by_order(&order_id).await? else {
        return Err(ApiError::OrderUnknown(order_id.to_string()));
    };
    let response = answer(&position, &headers, app.clock.now());
    let elapsed = started.elapsed().as_secs_f64();
    app.metrics.last_location_seconds.observe(elapsed);
    Ok(response)
}

/// Returns the last position of a deliverer or vehicle.
///
/// As the last position of an order.
#[utoipa::path(
    get,
    path = "/api/v1/deliverers/{deliverer_id}/location",
    tag = "positions",
    params(("deliverer_id" = String, Path, description = "The deliverer or vehicle", example = "1")),
    responses(
        (status = 200, description = "The last position", body = LastPosition, headers(("ETag" = String, description = "Changes with the position"))),
        (status = 304, description = "Nothing newer than `If-None-Match`"),
        (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`deliverer_unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`, `overloaded`, `timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn deliverer_last(
    State(app): State<SharedApp>,
    deliverer_id: IdPath<DelivererId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let IdPath(deliverer_id) = deliverer_id;
    let Some(position) = app.reader.last_by_deliverer(&deliverer_id).await? else {
        return Err(ApiError::DelivererUnknown(deliverer_id.to_string()));
    };
    let response = answer(&position, &headers, app.clock.now());
    let elapsed = started.elapsed().as_secs_f64();
    app.metrics.last_location_seconds.observe(elapsed);
    Ok(response)
}

/// Returns the last position of an order as the original pipeline did.
///
/// An unknown order is an empty list. Text ids work. With and without a trailing slash.
#[utoipa::path(
    get,
    path = "/v1/deliverer_location/last/{order_id}",
    tag = "original pipeline",
    params(("order_id" = String, Path, description = "The order", example = "43")),
    responses(
        (status = 200, description = "The last position in a list", body = OriginalLast),
        (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`, `overloaded`, `timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn original_last(
    State(app): State<SharedApp>,
    order_id: IdPath<OrderId>,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let position = app.reader.last_by_order(&order_id.0).await?;
    let mut body = Vec::with_capacity(USUAL_BYTES);
    body.extend_from_slice(b"{\"data\":[");
    if let Some(position) = &position {
        write(position, &mut body);
    }
    body.extend_from_slice(b"]}");
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let elapsed = started.elapsed().as_secs_f64();
    app.metrics.last_location_seconds.observe(elapsed);
    Ok((headers, Bytes::from(body)).into_response())
}

fn answer(position: &Position, headers: &HeaderMap, now: UtcMicros) -> Response {
    let mut body = Vec::with_capacity(USUAL_BYTES);
    write(position, &mut body);
    let tag = tag(&body);
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .any(|sent| matches(sent, &tag));
    let tag = HeaderValue::from_str(&tag).expect("hexadecimal digits in quotes");
    let head = [
        (ETAG, tag),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    let age_us = now.as_micros() - position.event_time.as_micros();
    // The object's end is taken off again to add the age.
    body.pop();
    body.extend_from_slice(b",\"age_s\":");
    body.extend_from_slice(seconds(age_us).as_bytes());
    body.push(b'}');
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (head, json, Bytes::from(body)).into_response()
}

fn write(position: &Position, body: &mut Vec<u8>) {
    serde_json::to_writer(body, position).expect("a position is JSON and a Vec takes any bytes");
}

/// Writes microseconds as seconds with three digits after the point.
fn seconds(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let millis = micros.unsigned_abs() / 1_000;
    format!("{sign}{}.{:03}", millis / 1_000, millis % 1_000)
}

/// Returns the tag of a position's JSON.
fn tag(json: &[u8]) -> String {
    format!("W/\"{:016x}\"", ContentHash::default().chain(json).finish())
}

/// Tells whether a client's list of tags holds `tag`, by the weak comparison that `If-None-Match` calls
/// for (RFC 9110, 13.1.2).
fn matches(sent: &HeaderValue, tag: &str) -> bool {
    let opaque = |tag: &'_ str| tag.trim().trim_start_matches("W/").to_owned();
    let Ok(sent) = sent.to_str() else {
        return false;
    };
    // No tag of ours holds a comma, so an item cut at one of a foreign tag cannot match.
    sent.trim() == "*" || sent.split(',').any(|item| opaque(item) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_three_digits() {
        assert_eq!(seconds(1_250_999), "1.250");
        assert_eq!(seconds(-5_000), "-0.005");
        assert_eq!(seconds(0), "0.000");
    }

    #[test]
    fn tags_match_weakly_and_in_lists() {
        let tag = tag(b"{}");
        let strong = tag.trim_start_matches("W/").to_owned();
        for sent in [
            tag.clone(),
            strong.clone(),
            format!("\"x\", {tag}"),
            "*".to_owned(),
        ] {
            let sent = HeaderValue::from_str(&sent).unwrap();
            assert!(matches(&sent, &tag), "{sent:?}");
        }
        for sent in ["\"x\"", "", "x, y"] {
            assert!(!matches(&HeaderValue::from_static(sent), &tag), "{sent}");
        }
    }
}
