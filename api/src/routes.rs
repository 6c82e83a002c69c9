//! The table of routes, and the router made from it.
//!
//! A route exists when it is in [`table`]; a test holds the table and the OpenAPI document to each other.

mod docs;
mod history;
mod intake;
mod lake;
mod last;
mod lists;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};
use service::Context;
use tokio::sync::Semaphore;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use crate::app::{App, SharedApp};
use crate::config::{Config, Cors};
use crate::error::ApiError;
use crate::guard::{Bounds, Guard, guard};

pub(crate) use docs::{__path_openapi, __path_page, __path_root};
pub(crate) use history::{__path_deliverer_history, __path_order_history};
pub(crate) use intake::{__path_original_post, __path_post_locations};
pub(crate) use lake::{__path_lake_query, __path_lake_query_get};
pub(crate) use last::{__path_deliverer_last, __path_order_last, __path_original_last};
pub(crate) use lists::{__path_fleet_events, __path_rejected, __path_status};
pub(crate) use stream::__path_order_stream;

/// One path and what answers there.
struct Route {
    path: &'static str,
    /// Its one method; `GET` includes `HEAD`.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "compared with the document by a test")
    )]
    method: &'static str,
    handler: MethodRouter<SharedApp>,
}

fn table() -> Vec<Route> {
    let get = |path, handler| Route {
        path,
        method: "get",
        handler,
    };
    let post = |path, handler| Route {
        path,
        method: "post",
        handler,
    };
    vec![
        get("/", self::get(docs::root)),
        get("/docs", self::get(docs::page)),
        get("/openapi.json", self::get(docs::openapi)),
        get(
            "/api/v1/orders/{order_id}/location",
            self::get(last::order_last),
        ),
        get(
            "/api/v1/orders/{order_id}/locations",
            self::get(history::order_history),
        ),
        get(
            "/api/v1/orders/{order_id}/stream",
            self::get(stream::order_stream),
        ),
        get(
            "/api/v1/deliverers/{deliverer_id}/location",
            self::get(last::deliverer_last),
        ),
        get(
            "/api/v1/deliverers/{deliverer_id}/locations",
            self::get(history::deliverer_history),
        ),
        post("/api/v1/locations", self::post(intake::post_locations)),
        get("/api/v1/fleet/events", self::get(lists::fleet_events)),
        get("/api/v1/rejected", self::get(lists::rejected)),
        get("/api/v1/status", self::get(lists::status)),
        get(lake::PATH, self::get(lake::lake_query_get)),
        post(lake::PATH, self::post(lake::lake_query)),
        post("/v1/deliverer_location", self::post(intake::original_post)),
        post("/v1/deliverer_location/", self::post(intake::original_post)),
        get(
            "/v1/deliverer_location/last/{order_id}",
            self::get(last::original_last),
        ),
        get(
            "/v1/deliverer_location/last/{order_id}/",
            self::get(last::original_last),
        ),
    ]
}

/// Makes the router with everything that stands before it.
pub(crate) fn router(app: App, context: &Context) -> Router {
    let config = app.config.clone();
    let metrics = app.metrics.clone();
    let requests = Arc::new(Semaphore::new(config.http_max_requests));
    let mut router = Router::new();
    for Route { path, handler, .. } in table() {
        let timeout = match path {
            lake::PATH => config.lake.longest(),
            _ => config.http_timeout.as_duration(),
        };
        let bounds = Bounds {
            requests: Arc::clone(&requests),
            timeout,
        };
        let of_route = Guard {
            bounds,
            metrics: metrics.of_route(path),
        };
        let handler = handler.route_layer(from_fn_with_state(Arc::new(of_route), guard));
        router = router.route(path, handler);
    }
    let elsewhere = metrics.of_route("none");
    let unknown = async move |error: ApiError| {
        let response = axum::response::IntoResponse::into_response(error);
        elsewhere.observe(response.status(), 0.0);
        response
    };
    let wrong_method = unknown.clone();
    router
        .with_state(Arc::new(app))
        .merge(service::admin::router(context))
        .fallback(async move || unknown(ApiError::RouteUnknown).await)
        .method_not_allowed_fallback(async move || wrong_method(ApiError::MethodNotAllowed).await)
        .layer(cors(&config))
}

fn cors(config: &Config) -> CorsLayer {
    let readable = [ETAG, LINK, RETRY_AFTER, crate::lake::TRUNCATED];
    let sendable = [
        ACCEPT,
        CONTENT_TYPE,
        IF_NONE_MATCH,
        HeaderName::from_static("last-event-id"),
    ];
    let layer = CorsLayer::new()
        .allow_headers(sendable)
        .expose_headers(readable);
    match &config.http_cors {
        Cors::None => CorsLayer::new(),
        Cors::AnyMayRead => layer
            .allow_origin(Any)
            .allow_methods([Method::GET, Method::HEAD])
            .vary([]),
        Cors::Origins(origins) => {
            let origins = origins
                .iter()
                .filter_map(|origin| HeaderValue::from_str(origin).ok());
            layer
                .allow_origin(AllowOrigin::list(origins))
                .allow_methods([Method::GET, Method::HEAD, Method::POST])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document: serde_json::Value =
            serde_json::from_slice(&crate::openapi::document()).unwrap();
        let documented: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys();
                methods.map(|method| (without_slash(path), method.clone()))
            })
            .collect();
        let admin = ["/healthz", "/readyz", "/metrics"].map(|path| (path, "get"));
        let routed: BTreeSet<(String, String)> = table()
            .iter()
            .map(|route| (route.path, route.method))
            .chain(admin)
            .map(|(path, method)| (without_slash(path), method.to_owned()))
            .collect();
        assert_eq!(documented, routed);
    }

    /// The two spellings of an original route are one entry in the document.
    fn without_slash(path: &str) -> String {
        path.strip_suffix('/').unwrap_or(path).to_owned()
    }
}
