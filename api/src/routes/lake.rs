//! Questions to all of history, in SQL: passed on to who answers them, and the answer back.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::Response;
use bytes::Bytes;
use serde_json::json;

use super::intake;
use crate::app::SharedApp;
use crate::error::ApiError;
use crate::lake::Lake;
use crate::query::{Query, invalid};
use crate::schema::{LakeAnswer, LakeQuery, Problem};

/// Where they are asked.
pub(super) const PATH: &str = "/api/v1/lake/query";
/// Largest body, and so the longest query; as `lake_ingest` has it.
const MAX_BODY: usize = 64 << 10;

/// Answers one SQL query over the lake.
///
/// Read only: anything but a query is refused. Time, memory, rows and bytes are bounded, and `truncated` says when
/// there were more rows. The body is JSON, or the query itself as `text/plain`. Off unless the service was told which
/// `lake_ingest` answers.
#[utoipa::path(
    post,
    path = "/api/v1/lake/query",
    tag = "lake",
    request_body(description = "The query, 64 KiB at most", content(
        (LakeQuery = "application/json"),
        (String = "text/plain"),
    )),
    responses(
        (status = 200, description = "The answer", content(
            (LakeAnswer = "application/json"),
            (String = "text/csv"),
        ), headers(("Lastmile-Truncated" = bool, description = "Whether there are more rows"))),
        (status = 400, description = "`query_invalid`, with the engine's words and the tables; `invalid_body`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`query_memory`", body = Problem, content_type = "application/problem+json"),
        (status = 501, description = "`lake_query_off`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`lake_unavailable`, `overloaded`, `stopping`, `timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`query_timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn lake_query(
    State(app): State<SharedApp>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let lake = lake(&app)?;
    let body = intake::read(&headers, body, MAX_BODY).await?;
    lake.ask(&headers, body).await
}

/// Answers one SQL query over the lake, given in the address.
///
/// As the POST.
#[utoipa::path(
    get,
    path = "/api/v1/lake/query",
    tag = "lake",
    params(
        ("sql" = String, Query, description = "The query", example = "SHOW TABLES"),
        ("format" = Option<String>, Query, description = "`json` or `csv`; as `Accept` says unless given"),
    ),
    responses(
        (status = 200, description = "The answer", content(
            (LakeAnswer = "application/json"),
            (String = "text/csv"),
        ), headers(("Lastmile-Truncated" = bool, description = "Whether there are more rows"))),
        (status = 400, description = "`query_invalid`, with the engine's words and the tables; `invalid_parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`query_memory`", body = Problem, content_type = "application/problem+json"),
        (status = 501, description = "`lake_query_off`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`lake_unavailable`, `overloaded`, `stopping`, `timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "`query_timeout`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn lake_query_get(
    State(app): State<SharedApp>,
    uri: Uri,
    mut headers: HeaderMap,
) -> Result<Response, ApiError> {
    let lake = lake(&app)?;
    let query = Query::parse(&uri, &["sql", "format"])?;
    let Some(sql) = query.text("sql") else {
        return Err(invalid("sql", "sql is missing; give a query"));
    };
    let body = match query.text("format") {
        None => json!({ "sql": sql }),
        Some(format @ ("json" | "csv")) => json!({ "sql": sql, "format": format }),
        Some(other) => {
            let detail = format!("format is {other:?}; give one of json, csv");
            return Err(invalid("format", detail));
        }
    };
    let json = HeaderValue::from_static("application/json");
    headers.insert(CONTENT_TYPE, json);
    lake.ask(&headers, Bytes::from(body.to_string())).await
}

fn lake(app: &SharedApp) -> Result<&Lake, ApiError> {
    app.lake.as_ref().ok_or(ApiError::LakeQueryOff)
}
