//! The description of the API: the OpenAPI document, and a page that shows it.
//!
//! The page is one file without any request to elsewhere; its script reads `/openapi.json` from here.

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Redirect, Response};

use crate::app::SharedApp;

/// Nothing may be loaded or reached but this service.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";

/// Returns this document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "description",
    responses((status = 200, description = "OpenAPI", body = Object))
)]
pub(crate) async fn openapi(State(app): State<SharedApp>) -> Response {
    let json = HeaderValue::from_static("application/json");
    let cache = HeaderValue::from_static("no-cache");
    let headers = [(CONTENT_TYPE, json), (CACHE_CONTROL, cache)];
    (headers, app.document.clone()).into_response()
}

/// Shows this document to people.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "description",
    responses((status = 200, description = "A page", body = String, content_type = "text/html"))
)]
pub(crate) async fn page() -> Response {
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let policy = HeaderValue::from_static(POLICY);
    let headers = [(CONTENT_TYPE, html), (CONTENT_SECURITY_POLICY, policy)];
    (headers, include_str!("docs.html")).into_response()
}

/// Leads to the page.
#[utoipa::path(
    get,
    path = "/",
    tag = "description",
    responses((status = 307, description = "To `/docs`"))
)]
pub(crate) async fn root() -> Redirect {
    Redirect::temporary("/docs")
}
