//! Every error answer of this API: the only place that maps a failure to a status and a stable `code`.
//!
//! Answers are problem documents (RFC 9457). The client is told what to do, never what broke inside:
//! causes go to the log, once, here. The routes of the original pipeline keep its own shape for the
//! statuses it had, see [`original`].

use axum::Json;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use model::RejectReason;
use model::reject::Defect;
use serde::Serialize;
use service::ErrorChain;
use store::{ErrorKind, StoreError};

use crate::ingest::IngestError;
use crate::schema::ItemError;

/// Seconds after which a refused request is worth repeating. Every refusal that carries it (a busy
/// store, a broker that is away, too many requests) is over within about a second or lasts long.
const RETRY_AFTER_SECONDS: u16 = 1;

/// Why a request was not answered with what it asked for.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// A path or query parameter cannot be used.
    InvalidParameter {
        /// Its name.
        parameter: String,
        /// What is wrong and what to give.
        detail: String,
    },
    /// No position of this order is stored.
    OrderUnknown(String),
    /// No position of this deliverer is stored.
    DelivererUnknown(String),
    /// No such route.
    RouteUnknown,
    /// The route exists, this method of it does not.
    MethodNotAllowed,
    /// The body's content type or encoding is not one we read.
    UnsupportedMediaType(String),
    /// The body has more bytes than allowed.
    BodyTooLarge {
        /// Most bytes allowed.
        limit: usize,
    },
    /// The client's body broke off.
    BodyIncomplete,
    /// The body as a whole cannot be split into items. It was dead-lettered.
    BodyInvalid(Defect),
    /// No item of the body is valid. All were dead-lettered.
    ItemsInvalid {
        /// How many there were.
        rejected: usize,
        /// The first of them.
        errors: Vec<ItemError>,
    },
    /// The store answered with an error.
    Store(StoreError),
    /// The messages were not all made durable.
    Ingest(IngestError),
    /// The service is stopping and takes no more messages.
    Stopping,
    /// As many requests as allowed are being answered.
    Overloaded,
    /// As many streams as allowed are open.
    TooManyStreams,
    /// The answer took longer than allowed.
    Timeout,
    /// Nothing answers queries over the lake.
    LakeQueryOff,
    /// What answers queries over the lake is away, or not what it should be.
    LakeUnavailable,
    /// A query over the lake took longer than allowed.
    LakeTimeout,
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        Self::Ingest(error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Every `code` an error answer may carry, with its status and its meaning.
pub(crate) const CODES: &[(&str, StatusCode, &str)] = &[
    (
        "invalid_parameter",
        StatusCode::BAD_REQUEST,
        "A path or query parameter cannot be used; `parameter` names it.",
    ),
    (
        "invalid_body",
        StatusCode::BAD_REQUEST,
        "The body is not JSON, or broke off.",
    ),
    (
        "order_unknown",
        StatusCode::NOT_FOUND,
        "No position of this order is stored.",
    ),
    (
        "deliverer_unknown",
        StatusCode::NOT_FOUND,
        "No position of this deliverer is stored.",
    ),
    (
        "route_unknown",
        StatusCode::NOT_FOUND,
        "There is no such route.",
    ),
    (
        "method_not_allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "The route does not have this method; `Allow` lists those it has.",
    ),
    (
        "body_too_large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "The body has too many bytes or items; split it.",
    ),
    (
        "unsupported_media_type",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The body's content type or encoding is not one this route reads.",
    ),
    (
        "items_invalid",
        StatusCode::UNPROCESSABLE_ENTITY,
        "No item of the body is valid; `errors` says why.",
    ),
    (
        "internal",
        StatusCode::INTERNAL_SERVER_ERROR,
        "A defect of the service; its log has the cause.",
    ),
    (
        "store_unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "The store does not answer; try again.",
    ),
    (
        "ingest_unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "Messages cannot be made durable now; send them again.",
    ),
    (
        "stopping",
        StatusCode::SERVICE_UNAVAILABLE,
        "The service is stopping; send the messages again.",
    ),
    (
        "overloaded",
        StatusCode::SERVICE_UNAVAILABLE,
        "Too many requests at once; try again.",
    ),
    (
        "too_many_streams",
        StatusCode::SERVICE_UNAVAILABLE,
        "Too many streams are open; try again.",
    ),
    (
        "timeout",
        StatusCode::SERVICE_UNAVAILABLE,
        "The answer took too long. What was sent may or may not be stored; sending it again is harmless.",
    ),
    (
        "lake_query_off",
        StatusCode::NOT_IMPLEMENTED,
        "This service was not told what answers queries over the lake.",
    ),
    (
        "lake_unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "The lake does not answer; try again.",
    ),
    (
        "query_timeout",
        StatusCode::GATEWAY_TIMEOUT,
        "The query took longer than one may.",
    ),
];

/// Every further `code` in an answer passed on from what answers queries over the lake.
pub(crate) const PASSED_ON: &[(&str, StatusCode, &str)] = &[
    (
        "query_invalid",
        StatusCode::BAD_REQUEST,
        "The text is no query, or none over the lake's tables; `tables` lists these.",
    ),
    (
        "query_memory",
        StatusCode::UNPROCESSABLE_ENTITY,
        "The query needs more memory than one may have.",
    ),
];

impl ApiError {
    /// Returns the stable code, one of [`CODES`].
    fn code(&self) -> &'static str {
        match self {
            Self::InvalidParameter { .. } => "invalid_parameter",
            Self::OrderUnknown(_) => "order_unknown",
            Self::DelivererUnknown(_) => "deliverer_unknown",
            Self::RouteUnknown => "route_unknown",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedMediaType(_) => "unsupported_media_type",
            Self::BodyInvalid(defect) if defect.reason == RejectReason::TooManyItems => {
                "body_too_large"
            }
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyIncomplete | Self::BodyInvalid(_) => "invalid_body",
            Self::ItemsInvalid { .. } => "items_invalid",
            Self::Store(error) => match error.kind() {
                ErrorKind::Unavailable => "store_unavailable",
                ErrorKind::Invalid => "invalid_parameter",
                ErrorKind::Conflict | ErrorKind::Data | ErrorKind::Internal => "internal",
            },
            Self::Ingest(IngestError::Unavailable(_)) => "ingest_unavailable",
            Self::Ingest(IngestError::TooLarge { .. }) => "body_too_large",
            Self::Stopping => "stopping",
            Self::Overloaded => "overloaded",
            Self::TooManyStreams => "too_many_streams",
            Self::Timeout => "timeout",
            Self::LakeQueryOff => "lake_query_off",
            Self::LakeUnavailable => "lake_unavailable",
            Self::LakeTimeout => "query_timeout",
        }
    }

    /// Returns what this request's sender should know beyond the code's meaning.
    fn detail(&self) -> Option<String> {
        match self {
            Self::InvalidParameter { detail, .. } | Self::UnsupportedMediaType(detail) => {
                Some(detail.clone())
            }
            Self::OrderUnknown(id) => Some(format!("no position of order {id:?} is stored")),
            Self::DelivererUnknown(id) => {
                Some(format!("no position of deliverer {id:?} is stored"))
            }
            Self::RouteUnknown => Some("see /docs for the routes there are".to_owned()),
            Self::BodyTooLarge { limit } => {
                Some(format!("the body may have {limit} bytes; split it"))
            }
            Self::Ingest(IngestError::TooLarge { limit }) => Some(format!(
                "an item has more than the {limit} bytes a message may have"
            )),
            Self::BodyIncomplete => Some("the body broke off; send it again".to_owned()),
            Self::BodyInvalid(defect) => Some(defect.detail.clone()),
            Self::ItemsInvalid { rejected, .. } => {
                Some(format!("none of the {rejected} items is valid"))
            }
            Self::Store(error) if error.kind() == ErrorKind::Invalid => Some(
                "cursor is not one of this list; give a next_cursor unchanged, or none to begin"
                    .to_owned(),
            ),
            Self::LakeQueryOff => Some(
                "start lake_ingest with --query-listen ADDRESS, and this service with --lake-query http://ADDRESS \
                 (LASTMILE_QUERY_LISTEN, LASTMILE_LAKE_QUERY)"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Returns the parameter at fault.
    fn parameter(&self) -> Option<&str> {
        match self {
            Self::InvalidParameter { parameter, .. } => Some(parameter),
            Self::Store(error) if error.kind() == ErrorKind::Invalid => Some("cursor"),
            _ => None,
        }
    }

    /// Writes the cause to the log, where an operator may have to act on it.
    fn log(&self) {
        if let Self::Ingest(error @ IngestError::Unavailable(_)) = self {
            tracing::warn!(error = %ErrorChain(error), "messages could not be made durable");
        }
        if let Self::Store(error) = self {
            match error.kind() {
                ErrorKind::Invalid => {}
                ErrorKind::Unavailable => {
                    tracing::warn!(error = %ErrorChain(error), "the store does not answer");
                }
                ErrorKind::Conflict | ErrorKind::Data | ErrorKind::Internal => {
                    tracing::error!(error = %ErrorChain(error), "the store failed");
                }
            }
        }
    }
}

/// Returns a code's status and meaning.
fn meaning(code: &str) -> (StatusCode, &'static str) {
    let (_, status, meaning) = CODES
        .iter()
        .find(|(known, _, _)| *known == code)
        .expect("a test asks for the meaning of every code");
    (*status, meaning)
}

/// The body of an error answer.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a [ItemError]>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let code = self.code();
        let (status, title) = meaning(code);
        let (rejected, errors) = match &self {
            Self::ItemsInvalid { rejected, errors } => (Some(*rejected), Some(errors.as_slice())),
            Self::BodyInvalid(_) => (Some(1), None),
            _ => (None, None),
        };
        let problem = Problem {
            r#type: format!("/docs#{code}"),
            title,
            status: status.as_u16(),
            code,
            detail: self.detail(),
            parameter: self.parameter(),
            rejected,
            errors,
        };
        let mut response = (status, Json(problem)).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        finish(response)
    }
}

/// Adds the headers every error answer has.
fn finish(mut response: Response) -> Response {
    let unavailable = response.status() == StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if unavailable {
        headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
    }
    response
}

/// Answers in the original pipeline's shape where it had one (400, 422), else with a problem.
pub(crate) fn original(error: ApiError) -> Response {
    let message = match &error {
        ApiError::BodyInvalid(defect) if defect.reason != RejectReason::TooManyItems => {
            "Invalid JSON".to_owned()
        }
        ApiError::ItemsInvalid { errors, .. } => match errors.first() {
            Some(first) => first.detail.clone(),
            None => "order_id not found.".to_owned(),
        },
        _ => return error.into_response(),
    };
    let (status, _) = meaning(error.code());
    let body = serde_json::json!({"status": "ERROR", "message": message});
    finish((status, Json(body)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<ApiError> {
        let store = |kind| {
            ApiError::Store(StoreError {
                operation: "history",
                store: "test",
                kind,
                source: "disk I/O error at /srv/secret".into(),
            })
        };
        let body = |reason| ApiError::BodyInvalid(Defect::new(reason, "x"));
        vec![
            ApiError::InvalidParameter {
                parameter: "limit".to_owned(),
                detail: String::new(),
            },
            ApiError::OrderUnknown(String::new()),
            ApiError::DelivererUnknown(String::new()),
            ApiError::RouteUnknown,
            ApiError::MethodNotAllowed,
            ApiError::UnsupportedMediaType(String::new()),
            ApiError::BodyTooLarge { limit: 1 },
            ApiError::BodyIncomplete,
            body(RejectReason::Malformed),
            body(RejectReason::TooManyItems),
            ApiError::ItemsInvalid {
                rejected: 1,
                errors: Vec::new(),
            },
            store(ErrorKind::Unavailable),
            store(ErrorKind::Conflict),
            store(ErrorKind::Invalid),
            store(ErrorKind::Data),
            store(ErrorKind::Internal),
            ApiError::Ingest(IngestError::Unavailable("I/O at /srv/secret".into())),
            ApiError::Ingest(IngestError::TooLarge { limit: 1 }),
            ApiError::Stopping,
            ApiError::Overloaded,
            ApiError::TooManyStreams,
            ApiError::Timeout,
            ApiError::LakeQueryOff,
            ApiError::LakeUnavailable,
            ApiError::LakeTimeout,
        ]
    }

    #[test]
    fn every_error_has_a_code_with_a_meaning_and_every_code_is_used() {
        let mut used: Vec<_> = one_of_each().iter().map(ApiError::code).collect();
        assert!(used.iter().all(|code| !meaning(code).1.is_empty()));
        used.sort_unstable();
        used.dedup();
        let mut listed: Vec<_> = CODES.iter().map(|(code, ..)| *code).collect();
        listed.sort_unstable();
        assert_eq!(used, listed);
    }

    #[tokio::test]
    async fn no_answer_holds_the_cause() {
        for error in one_of_each() {
            let response = error.into_response();
            let retry = response.headers().contains_key(RETRY_AFTER);
            assert_eq!(retry, response.status() == StatusCode::SERVICE_UNAVAILABLE);
            let body = axum::body::to_bytes(response.into_body(), 10_000)
                .await
                .unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            assert!(!text.contains("secret") && !text.contains("I/O"), "{text}");
        }
    }
}
