//! The `api` program: the HTTP API in a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use api::remote;
use clap::Args;
use serde::{Deserialize, Serialize};
use service::{BoxError, Common, Context, Problems, Program};

struct Api;

/// What may be set.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "api")]
struct Settings {
    #[command(flatten)]
    http: api::Settings,
    #[command(flatten)]
    broker: remote::Settings,
    #[command(flatten)]
    store: stores::Settings,
}

/// What holds.
#[derive(Debug, Serialize)]
struct Config {
    http: api::Config,
    broker: remote::Config,
    store: stores::Config,
}

impl Program for Api {
    const NAME: &'static str = "api";
    const ABOUT: &'static str = "\
Serves the HTTP API: last positions, histories, live streams, and a way in for positions over HTTP.

Reads the store that the subscriber writes: DIR/store.sqlite (several processes may have it open), or the MongoDB \
that MONGODB_URI names. While MongoDB is away, what needs it is answered with 503 and Retry-After, and all else goes \
on. What is posted goes to the broker over MQTT, and is answered once the broker has acknowledged it; live positions \
come from the broker as well. Any number of these may run side by side. Open http://127.0.0.1:8080/docs for the \
routes, with curl lines to try.";
    type Settings = Settings;
    type Config = Config;

    fn health_address(config: &Config) -> Option<SocketAddr> {
        Some(config.http.http_listen)
    }

    fn resolve(settings: Settings, common: &Common) -> Result<Config, Problems> {
        let mut problems = Problems::new();
        let http = api::Config::resolve(settings.http, common)
            .map_err(|wrong| problems.extend("http", wrong));
        let broker = remote::Config::resolve(settings.broker, common)
            .map_err(|wrong| problems.extend("broker", wrong));
        let store = stores::Config::resolve(settings.store, common)
            .map_err(|wrong| problems.extend("store", wrong));
        let (Ok(mut http), Ok(broker), Ok(store)) = (http, broker, store) else {
            return Err(problems);
        };
        // Streams pass over the same points as the store does.
        http.max_skew_us = store.max_future_skew_us();
        problems.or(Config {
            http,
            broker,
            store,
        })
    }

    async fn run(config: Config, context: Context) -> Result<(), BoxError> {
        let listener = api::bind(&config.http).await?;
        let Some(reader) = config.store.open_reader(&context).await? else {
            return Ok(());
        };
        let max_body = config.http.http_max_body.as_usize();
        let broker = remote::connect(&config.broker, max_body, &context);
        let deps = api::Deps {
            reader,
            ingest: broker.ingest,
            live: broker.live,
        };
        let handle = api::start_on(listener, config.http, deps, &context)?;
        // It is served from now on; ready it is once the store has answered.
        tokio::select! {
            () = context.health.components_ready() => {
                context.announce_ready(Self::NAME, &[("http", handle.addr)]);
            }
            () = context.tasks.stopped() => {}
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    service::main::<Api>()
}
