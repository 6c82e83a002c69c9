//! Error answers of queries over HTTP: problem documents (RFC 9457), as the API's own are.
//!
//! The only place that maps a failure to a status and a stable `code`. What is wrong with a query is the client's to
//! know, in the engine's words; what is wrong here goes to the log and never to a client.

use axum::Json;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use service::HumanDuration;

/// Seconds after which a refused query is worth repeating.
const RETRY_AFTER_SECONDS: u16 = 1;

/// Why a query was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The text is no query, or not one over these tables.
    Invalid { detail: String, tables: Vec<String> },
    /// The body cannot be read.
    Body(String),
    /// The body is of a type not read here.
    MediaType,
    /// The body has too many bytes.
    TooLarge { limit: usize },
    /// The token is missing or wrong.
    Unauthorized,
    /// A web page asks.
    WebPage,
    /// No such path.
    RouteUnknown,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// It needs more memory than one may have.
    Memory { limit: String },
    /// It took longer than one may.
    Timeout { limit: HumanDuration },
    /// As many as allowed are being answered.
    Overloaded { limit: usize },
    /// The lake does not answer.
    Unavailable,
    /// The service is stopping.
    Stopping,
    /// A defect.
    Internal,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tables: Option<&'a [String]>,
}

impl Problem {
    /// Returns the code, its status and its meaning.
    fn meaning(&self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Invalid { .. } => (
                "query_invalid",
                StatusCode::BAD_REQUEST,
                "The text is no query, or none over the lake's tables; `tables` lists these.",
            ),
            Self::Body(_) => (
                "invalid_body",
                StatusCode::BAD_REQUEST,
                "The body is not JSON, or broke off.",
            ),
            Self::MediaType => (
                "unsupported_media_type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body's content type or encoding is not one this route reads.",
            ),
            Self::TooLarge { .. } => (
                "body_too_large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body has too many bytes or items; split it.",
            ),
            Self::Unauthorized => (
                "unauthorized",
                StatusCode::UNAUTHORIZED,
                "The token is missing or wrong.",
            ),
            Self::WebPage => (
                "web_page_refused",
                StatusCode::FORBIDDEN,
                "Web pages may not ask here.",
            ),
            Self::RouteUnknown => (
                "route_unknown",
                StatusCode::NOT_FOUND,
                "There is no such route.",
            ),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "The route does not have this method; `Allow` lists those it has.",
            ),
            Self::Memory { .. } => (
                "query_memory",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The query needs more memory than one may have.",
            ),
            Self::Timeout { .. } => (
                "query_timeout",
                StatusCode::GATEWAY_TIMEOUT,
                "The query took longer than one may.",
            ),
            Self::Overloaded { .. } => (
                "overloaded",
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many requests at once; try again.",
            ),
            Self::Unavailable => (
                "lake_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The lake does not answer; try again.",
            ),
            Self::Stopping => (
                "stopping",
                StatusCode::SERVICE_UNAVAILABLE,
                "The service is stopping; ask again.",
            ),
            Self::Internal => (
                "internal",
                StatusCode::INTERNAL_SERVER_ERROR,
                "A defect of the service; its log has the cause.",
            ),
        }
    }

    /// Returns what this request's sender should know beyond that.
    fn detail(&self) -> Option<String> {
        Some(match self {
            Self::Invalid { detail, .. } | Self::Body(detail) => detail.clone(),
            Self::MediaType => "send {\"sql\": \"…\"} as application/json, or the query as text/plain (with curl: -H \
                 'Content-Type: text/plain'), not compressed"
                .to_owned(),
            Self::TooLarge { limit } => format!("the body may have {limit} bytes"),
            Self::Unauthorized => "send Authorization: Bearer TOKEN".to_owned(),
            Self::RouteUnknown => "queries go to POST /v1/query".to_owned(),
            Self::Memory { limit } => format!(
                "sorts, joins and aggregations of one query may have {limit}; select fewer rows or columns first"
            ),
            Self::Timeout { limit } => {
                format!("one query may take {limit}; ask for fewer dates, or a final table")
            }
            Self::Overloaded { limit } => format!("{limit} queries are answered at a time"),
            Self::WebPage
            | Self::MethodNotAllowed
            | Self::Unavailable
            | Self::Stopping
            | Self::Internal => return None,
        })
    }

    /// Returns the code, which is also how it is counted.
    pub(crate) fn code(&self) -> &'static str {
        self.meaning().0
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (code, status, title) = self.meaning();
        let document = Document {
            r#type: format!("/docs#{code}"),
            title,
            status: status.as_u16(),
            code,
            detail: self.detail(),
            tables: match &self {
                Self::Invalid { tables, .. } => Some(tables),
                _ => None,
            },
        };
        let mut response = (status, Json(document)).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, json);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
