//! The HTTP API: where an order is now, where it was, and the way in for positions over HTTP.
//!
//! [`start`] serves three seams and knows nothing of what is behind them: a [`store::Reader`] answers
//! questions, an [`Ingest`] makes messages durable, a [`LiveFeed`] tells what has just happened. In the
//! all-in-one program these are the store, the log and the subscriber of the same process; in a process of
//! its own, [`remote`] provides the latter two over MQTT.
//!
//! Invariants:
//! - A POST is answered with success only after [`Ingest`] answered, for every item of it.
//! - `accepted + rejected` is the number of items sent; what is refused here is refused by the
//!   subscriber for the same reason, because both use `formats`.
//! - Everything is bounded: connections, requests, streams, bodies, pages, time. At a bound the client is
//!   told, with 503 and `Retry-After`, or 413.
//!
//! What this room does not do: it stores nothing, caches nothing, and speaks no TLS (put a proxy before it).

mod app;
mod config;
mod error;
mod guard;
mod ingest;
mod lake;
mod live;
mod metrics;
mod openapi;
mod query;
pub mod remote;
mod render;
mod routes;
mod schema;
mod server;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use service::{BindError, Context, Stage};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use config::{Config, Cors, Settings};
pub use ingest::{Ingest, IngestError, OutgoingMessage};
pub use lake::{LakeConfig, LakeSettings};
pub use live::LiveFeed;

/// What the API works with.
#[derive(Clone)]
pub struct Deps {
    /// Answers questions.
    pub reader: Arc<dyn store::Reader>,
    /// Makes messages durable.
    pub ingest: Arc<dyn Ingest>,
    /// Tells what has just happened.
    pub live: Arc<dyn LiveFeed>,
}

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deps")
    }
}

/// A running API.
#[derive(Debug, Clone, Copy)]
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
}

/// Why the API did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The listener is broken.
    #[error("the listener does not tell its address")]
    Listener(#[source] std::io::Error),
    /// What asks the lake cannot be made.
    #[error("what asks the lake cannot be made")]
    Lake(#[source] reqwest::Error),
}

/// Listens where the configuration says; the port is taken, nobody is answered yet.
///
/// # Errors
/// [`Error::Bind`] when the address cannot be listened on.
pub async fn bind(config: &Config) -> Result<TcpListener, Error> {
    Ok(service::bind_tcp("HTTP", config.http_listen).await?)
}

/// Binds and serves until the stop: messages until [`Stage::Intake`] ends, all else until
/// [`Stage::Serve`] ends.
///
/// # Errors
/// [`Error`] when it cannot listen.
pub async fn start(config: Config, deps: Deps, context: &Context) -> Result<Handle, Error> {
    let listener = bind(&config).await?;
    start_on(listener, config, deps, context)
}

/// As [`start`], on a listener from [`bind`].
///
/// # Errors
/// [`Error::Listener`] when the listener does not tell its address; [`Error::Lake`] for a defect.
pub fn start_on(
    listener: TcpListener,
    config: Config,
    deps: Deps,
    context: &Context,
) -> Result<Handle, Error> {
    let addr = listener.local_addr().map_err(Error::Listener)?;
    let hub = live::Hub::new(config.max_skew_us);
    let max_connections = config.http_max_connections;
    let app = app::App {
        reader: deps.reader,
        ingest: deps.ingest,
        lake: lake::Lake::new(&config.lake).map_err(Error::Lake)?,
        hub: Arc::clone(&hub),
        clock: Arc::clone(&context.clock),
        intake: context.tasks.token(Stage::Intake),
        serve: context.tasks.token(Stage::Serve),
        streams: Arc::new(Semaphore::new(config.http_max_streams)),
        metrics: metrics::Metrics::new(&context.metrics),
        config,
        document: openapi::document(),
    };
    let router = routes::router(app, context);
    let feed = deps.live;
    context
        .tasks
        .spawn(Stage::Serve, "api_live", async move |token| {
            hub.run(feed.as_ref(), token).await;
            Ok(())
        });
    let tasks = context.tasks.clone();
    context.tasks.spawn(Stage::Serve, "api_http", |token| {
        server::serve(listener, router, max_connections, tasks, token)
    });
    context.health.component("api").ready();
    Ok(Handle { addr })
}
