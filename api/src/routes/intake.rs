//! Positions taken over HTTP: one object, an array, or one object per line.
//!
//! Every item becomes a message of its own on its deliverer's topic, so that the subscriber sees what it
//! would have seen from the device itself. Items that are not valid go the same way and end as dead
//! letters with the reason given here. The answer leaves after all of them are durable, never before.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use model::native::IdText;
use model::reject::Defect;
use model::topic::TopicKind;
use model::{DelivererId, Record, RejectReason, payload, topic};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::SharedApp;
use crate::error::{self, ApiError};
use crate::ingest::OutgoingMessage;
use crate::schema::{ItemError, OriginalStatus, PositionsInput, Problem};

/// The topic of items that do not say whose they are.
const UNATTRIBUTED: &str = "test/deliverer_data";
/// Most defects listed in an answer; the count is always exact.
const MAX_ERRORS: usize = 100;
/// How far beyond the limit a body is read and thrown away, in multiples of the limit, so that a client
/// that does not listen while it sends still gets its 413.
const DRAINED_LIMITS: usize = 8;

/// What became of the items of a body; all of them are durable.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Receipt {
    /// Items that are valid and will be stored.
    accepted: usize,
    /// Items that are not valid and will be dead letters; `accepted + rejected` is the number sent.
    rejected: usize,
    /// The first 100 of these.
    errors: Vec<ItemError>,
}

/// Takes positions: one object, an array, or NDJSON.
///
/// The answer leaves once every item is durable; without an answer, or with 503, send all of them
/// again: positions already stored are recognised. Invalid items do not hold back the others, they are
/// kept as dead letters (`/api/v1/rejected`).
#[utoipa::path(
    post,
    path = "/api/v1/locations",
    tag = "positions",
    request_body(description = "One object, an array of at most 10,000, or one object per line", content(
        (PositionsInput = "application/json"),
        (String = "application/x-ndjson"),
    )),
    responses(
        (status = 202, description = "At least one item is valid; all are durable", body = Receipt),
        (status = 400, description = "`invalid_body`: not JSON; kept as one dead letter", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`items_invalid`: no item is valid; all are kept as dead letters", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`ingest_unavailable`, `stopping`, `overloaded`, `timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn post_locations(
    State(app): State<SharedApp>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    check_media_type(&headers)?;
    let receipt = intake(&app, &headers, body, Rules::default()).await?;
    if receipt.accepted == 0 && receipt.rejected > 0 {
        return Err(ApiError::ItemsInvalid {
            rejected: receipt.rejected,
            errors: receipt.errors,
        });
    }
    Ok((StatusCode::ACCEPTED, Json(receipt)).into_response())
}

/// Takes positions as the original pipeline did.
///
/// `order_id` is required here. 200 says that every item is valid and durable. Any content type is
/// read as JSON. With and without a trailing slash.
#[utoipa::path(
    post,
    path = "/v1/deliverer_location/",
    tag = "original pipeline",
    request_body(content = PositionsInput, description = "One object (an array or NDJSON works too)"),
    responses(
        (status = 200, description = "`{\"status\":\"OK\"}`", body = OriginalStatus),
        (status = 400, description = "`Invalid JSON`", body = OriginalStatus),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`: the body is compressed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`order_id not found.`, or what else is wrong", body = OriginalStatus),
        (status = 503, description = "`ingest_unavailable`, `stopping`, `overloaded`, `timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn original_post(
    State(app): State<SharedApp>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let rules = Rules { order_id: true };
    match intake(&app, &headers, body, rules).await {
        Ok(receipt) if receipt.rejected == 0 && receipt.accepted > 0 => {
            Json(serde_json::json!({"status": "OK"})).into_response()
        }
        Ok(receipt) => error::original(ApiError::ItemsInvalid {
            rejected: receipt.rejected,
            errors: receipt.errors,
        }),
        Err(error) => error::original(error),
    }
}

/// What a route asks of an item beyond the format.
#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    /// It names an order. An item that does not is refused and goes nowhere, since the format allows it
    /// and the subscriber would store it.
    order_id: bool,
}

/// Reads a body, makes its items durable, and tells what became of them.
async fn intake(
    app: &SharedApp,
    headers: &HeaderMap,
    body: Body,
    rules: Rules,
) -> Result<Receipt, ApiError> {
    if app.intake.is_cancelled() {
        return Err(ApiError::Stopping);
    }
    let body = read(headers, body, app.config.http_max_body.as_usize()).await?;
    let mut receipt = Receipt::default();
    let mut messages = Vec::new();
    let mut index = 0;
    let now = app.clock.now();
    let split = payload::split(&body, |item| {
        match formats::decode_one(TopicKind::Native, item, now) {
            Ok(record) if rules.order_id && !names_order(&record) => {
                let defect = Defect::new(RejectReason::MissingField, "order_id not found.");
                receipt.reject(index, defect);
            }
            Ok(record) => {
                receipt.accepted += 1;
                let deliverer_id = record.position().map(|position| &position.deliverer_id);
                messages.push(message(deliverer_id, item, &body));
            }
            Err(defect) => {
                receipt.reject(index, defect);
                messages.push(message(whose(item).as_ref(), item, &body));
            }
        }
        index += 1;
    });
    if let Err(defect) = split {
        let message = OutgoingMessage {
            topic: UNATTRIBUTED.to_owned(),
            payload: body,
        };
        app.ingest.ingest(vec![message]).await?;
        app.metrics.count_items(0, 1);
        return Err(ApiError::BodyInvalid(defect));
    }
    if !messages.is_empty() {
        app.ingest.ingest(messages).await?;
    }
    app.metrics.count_items(receipt.accepted, receipt.rejected);
    Ok(receipt)
}

impl Receipt {
    fn reject(&mut self, index: usize, defect: Defect) {
        self.rejected += 1;
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(ItemError::new(index, defect));
        }
    }
}

fn names_order(record: &Record) -> bool {
    record
        .position()
        .is_some_and(|position| position.order_id.is_some())
}

/// Reads the deliverer of an item that is not valid otherwise.
fn whose(item: &str) -> Option<DelivererId> {
    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(borrow)]
        deliverer_id: IdText<'a>,
    }
    let item: Item<'_> = serde_json::from_str(item).ok()?;
    DelivererId::new(item.deliverer_id.0).ok()
}

/// Makes an item's message, without copying it out of the body.
fn message(deliverer_id: Option<&DelivererId>, item: &str, body: &Bytes) -> OutgoingMessage {
    let payload = if item.starts_with('{') {
        body.slice_ref(item.as_bytes())
    } else {
        // Alone in a message, an array would be taken apart: what was refused here as one item would be
        // stored as several, or (an empty one) vanish. In an array of its own it stays one item.
        Bytes::from(format!("[{item}]"))
    };
    OutgoingMessage {
        topic: deliverer_id.map_or_else(|| UNATTRIBUTED.to_owned(), topic::delivery_topic),
        payload,
    }
}

/// Refuses a body that says it is something else than JSON.
fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(sent) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let sent = sent.to_str().unwrap_or_default();
    let essence = sent.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    let json = matches!(
        essence.as_str(),
        "application/json"
            | "text/json"
            | "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
    );
    if json || essence.ends_with("+json") {
        return Ok(());
    }
    Err(ApiError::UnsupportedMediaType(format!(
        "the body is said to be {essence:?}; send Content-Type: application/json (with curl: -H 'Content-Type: application/json')"
    )))
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let encoding = headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::UnsupportedMediaType(
            "the body is compressed; send it without Content-Encoding".to_owned(),
        ));
    }
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) && headers.contains_key(EXPECT) {
        // The client waits for leave to send; it gets the answer instead.
        return Err(ApiError::BodyTooLarge { limit });
    }
    let mut chunks = body.into_data_stream();
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    let mut length = 0_usize;
    while let Some(chunk) = next_chunk(&mut chunks).await? {
        length = length.saturating_add(chunk.len());
        if length > limit {
            (first, whole) = (None, BytesMut::new());
            if length > limit.saturating_mul(DRAINED_LIMITS) {
                break;
            }
        } else if length == chunk.len() {
            first = Some(chunk);
        } else {
            if let Some(first) = first.take() {
                whole.reserve(declared.unwrap_or_default().clamp(length, limit));
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&chunk);
        }
    }
    if length > limit {
        return Err(ApiError::BodyTooLarge { limit });
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

async fn next_chunk(chunks: &mut axum::body::BodyDataStream) -> Result<Option<Bytes>, ApiError> {
    chunks.try_next().await.map_err(|error| {
        tracing::debug!(%error, "a body broke off");
        ApiError::BodyIncomplete
    })
}

#[cfg(test)]
mod tests {
    use model::UtcMicros;

    use super::*;

    #[test]
    fn what_is_refused_here_is_refused_by_the_subscriber_for_the_same_reason() {
        assert_eq!(topic::classify(UNATTRIBUTED), Some(TopicKind::Native));
        for item in [
            r#"{"deliverer_id":7,"lat":99,"lon":1,"timestamp":1}"#,
            r#"{"deliverer_id":7,"lat":9,"lon":1}"#,
            r#"{"lat":9,"lon":1,"timestamp":1}"#,
            r#"{"deliverer_id":"a/b","lat":9,"lon":1,"timestamp":1}"#,
            r#"{"deliverer_id":1,"deliverer_id":2,"lat":9,"lon":1,"timestamp":1}"#,
            r#"{"deliverer_id":[1],"lat":9,"lon":1,"timestamp":1}"#,
            r#"[{"deliverer_id":7,"lat":9,"lon":1,"timestamp":1}]"#,
            "[]",
            "5",
            "\"text\"",
            "null",
        ] {
            let now = UtcMicros::default();
            let here = formats::decode_one(TopicKind::Native, item, now).unwrap_err();
            let body = Bytes::copy_from_slice(item.as_bytes());
            let sent = message(
                whose(item).as_ref(),
                std::str::from_utf8(&body).unwrap(),
                &body,
            );
            let mut there = formats::Decoded::default();
            let message = formats::Message {
                topic: &sent.topic,
                payload: &sent.payload,
                received_time: now,
                log_seq: None,
            };
            assert_eq!(formats::decode(message, &mut there), 1, "{item}");
            assert_eq!(there.rejects[0].defect, here, "{item}");
            assert_eq!(&*there.rejects[0].payload, item.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_body_in_many_chunks_is_put_together_up_to_the_limit() {
        let body = || {
            let chunks = ["ab", "", "c", "def"].map(|c| Ok::<_, std::io::Error>(Bytes::from(c)));
            Body::from_stream(futures_util::stream::iter(chunks))
        };
        let headers = HeaderMap::new();
        assert_eq!(read(&headers, body(), 6).await.unwrap(), "abcdef");
        assert!(matches!(
            read(&headers, body(), 5).await,
            Err(ApiError::BodyTooLarge { limit: 5 })
        ));
        assert_eq!(read(&headers, Body::empty(), 5).await.unwrap(), "");
    }
}
