//! `/healthz`, `/readyz` and `/metrics`.
//!
//! Services with an HTTP API merge [`router`] into it; the others serve it on a port of its own. Nothing here
//! changes anything, so it needs no authentication, but it is meant for the inside of a network.

use std::io;
use std::net::SocketAddr;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use crate::{Context, Stage, bind_tcp};

/// Makes the routes.
pub fn router(context: &Context) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({"status": "ok"}))))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(context.clone())
}

/// Binds `address`, serves [`router`] there until [`Stage::Serve`] ends, and returns the bound address.
///
/// # Errors
/// When the address cannot be bound; the text names it.
pub async fn bind_and_serve(address: SocketAddr, context: &Context) -> io::Result<SocketAddr> {
    let listener = bind_tcp("metrics and health", address)
        .await
        .map_err(|error| io::Error::new(error.source.kind(), error))?;
    let bound = listener.local_addr()?;
    let routes = router(context);
    context
        .tasks
        .spawn(Stage::Serve, "admin", async move |token| {
            axum::serve(listener, routes)
                .with_graceful_shutdown(token.cancelled_owned())
                .await?;
            Ok(())
        });
    Ok(bound)
}

/// 200 when all is ready, 503 with the reasons otherwise.
async fn readyz(State(context): State<Context>) -> Response {
    let stopping = context.tasks.is_stopping();
    let ready = context.health.is_ready() && !stopping;
    let components: Map<String, Value> = context
        .health
        .components()
        .into_iter()
        .map(|(name, reason)| {
            (
                name.to_owned(),
                Value::from(reason.unwrap_or("ready".into())),
            )
        })
        .collect();
    let (code, status) = match (ready, stopping) {
        (true, _) => (StatusCode::OK, "ready"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let body = Json(json!({"status": status, "components": components}));
    (code, body).into_response()
}

async fn metrics(State(context): State<Context>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        context.metrics.encode(),
    )
        .into_response()
}
