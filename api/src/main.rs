//! The `api` program: the HTTP API in a process of its own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use api::remote;
use clap::Args;
use mqtt_client::Backoff;
use serde::{Deserialize, Serialize};
use service::{BoxError, Common, Context, ErrorChain, Problems, Program};
use store::{ErrorKind, Reader, StoreError};
use store_sqlite::{Options, SqliteStore};

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
}

/// What holds.
#[derive(Debug, Serialize)]
struct Config {
    http: api::Config,
    broker: remote::Config,
    #[serde(skip)]
    store: PathBuf,
}

impl Program for Api {
    const NAME: &'static str = "api";
    const ABOUT: &'static str = "\
Serves the HTTP API: last positions, histories, live streams, and a way in for positions over HTTP.

Reads the store that the subscriber writes (DIR/store.sqlite; several processes may have it open). What is \
posted goes to the broker over MQTT, and is answered once the broker has acknowledged it; live positions come \
from the broker as well. Open http://127.0.0.1:8080/docs for the routes, with curl lines to try.";
    type Settings = Settings;
    type Config = Config;

    fn resolve(settings: Settings, common: &Common) -> Result<Config, Problems> {
        let http = api::Config::resolve(settings.http, common);
        let broker = remote::Config::resolve(settings.broker, common);
        match (http, broker) {
            (Ok(mut http), Ok(broker)) => {
                http.max_skew_us = broker.max_skew_us();
                let store = common.data.join("store.sqlite");
                Ok(Config {
                    http,
                    broker,
                    store,
                })
            }
            (http, broker) => {
                let mut problems = Problems::new();
                for part in [http.err(), broker.err()].into_iter().flatten() {
                    problems.append(part);
                }
                Err(problems)
            }
        }
    }

    async fn run(config: Config, context: Context) -> Result<(), BoxError> {
        let listener = api::bind(&config.http).await?;
        let Some(reader) = open(&config.store, &context).await? else {
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
        context.announce_ready(Self::NAME, &[("http", handle.addr)]);
        Ok(())
    }
}

/// Longest wait for the subscriber to make the store, or for a lock on it to go away.
const STORE_WAIT: Duration = Duration::from_mins(2);

/// Opens the store once it exists; `None` when the process is stopped before that.
async fn open(path: &Path, context: &Context) -> Result<Option<Arc<dyn Reader>>, BoxError> {
    let waited_enough = tokio::time::Instant::now() + STORE_WAIT;
    let mut backoff = Backoff::default();
    loop {
        let failure = match try_open(path).await? {
            Ok(store) => return Ok(Some(Arc::new(store))),
            Err(error) if error.kind() != ErrorKind::Unavailable => return Err(error.into()),
            Err(error) => error,
        };
        if tokio::time::Instant::now() > waited_enough {
            let path = path.display();
            tracing::error!(%path, "no store to read; start the subscriber, or check --data");
            return Err(failure.into());
        }
        if backoff.failures() == 0 {
            let (path, error) = (path.display(), ErrorChain(&failure));
            tracing::warn!(%path, %error, "waiting for the store, which the subscriber makes");
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = context.tasks.stopped() => return Ok(None),
        }
    }
}

/// Opens the store if it exists. Opening alone would make an empty one wherever `--data` points.
async fn try_open(path: &Path) -> Result<Result<SqliteStore, StoreError>, BoxError> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        std::fs::metadata(&path).map_err(|source| StoreError {
            operation: "open",
            store: "sqlite",
            kind: ErrorKind::Unavailable,
            source: source.into(),
        })?;
        SqliteStore::open(&path, &Options::default())
    });
    Ok(opened.await?)
}

fn main() -> ExitCode {
    service::main::<Api>()
}
