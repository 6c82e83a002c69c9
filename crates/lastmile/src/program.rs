//! How the parts are put together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use api::{Deps, LiveFeed};
use model::Position;
use service::{BoxError, Common, Context, Problems, Program};
use store_sqlite::{Options, SqliteStore};
use tokio::sync::broadcast;

use crate::ingest::LogIngest;
use crate::lock::DataLock;
use crate::offload;
use crate::settings::{Config, Settings, StoreConfig};

/// The all-in-one program.
#[derive(Debug)]
pub struct Lastmile;

impl Program for Lastmile {
    const NAME: &'static str = "lastmile";
    const ABOUT: &'static str = "The whole delivery-location pipeline in one process: MQTT and HTTP in, \
        every acknowledged position on disk, the last location of an order by HTTP, history into a data lake.\n\n\
        Without a flag it listens on this machine only: MQTT on port 1883, HTTP on port 8080 (documentation \
        at /docs). Everything it keeps is in the data directory.";
    type Settings = Settings;
    type Config = Config;

    fn default_log(_settings: &Self::Settings) -> &'static str {
        "info,rumqttd=warn"
    }

    fn health_address(config: &Config) -> Option<SocketAddr> {
        Some(config.api.http_listen)
    }

    fn resolve(settings: Settings, common: &Common) -> Result<Config, Problems> {
        Config::resolve(settings, common)
    }

    async fn run(mut config: Config, context: Context) -> Result<(), BoxError> {
        let _lock = DataLock::take(&config.data)?;
        warn_of_mongodb(config.store.mongodb_named);
        // Ports first: a busy one is found before anything is opened.
        let http = api::bind(&config.api).await?;
        let options = store_options(&config.store);
        // Streams pass over the same points as the store does.
        config.api.max_skew_us = options.max_future_skew_us;
        let store = open_store(config.store.path, options).await?;
        let broker = broker::start(config.broker, &context).await?;
        // Named here, because the subscriber names it only once it runs.
        context.health.component("store");
        let subscriber = subscriber::start_from_log(
            config.subscriber,
            broker.log.clone(),
            Arc::clone(&store) as Arc<dyn store::Writer>,
            &context,
        );
        let deps = Deps {
            reader: Arc::clone(&store) as Arc<dyn store::Reader>,
            ingest: Arc::new(LogIngest::new(
                broker.log.clone(),
                Arc::clone(&context.clock),
            )),
            live: Arc::new(Live(subscriber.live.clone())),
        };
        let api = api::start_on(http, config.api, deps, &context)?;
        offload::spawn(config.lake, &config.data, store, &context)?;
        tokio::select! {
            () = context.health.components_ready() => {
                let mut addresses = broker.addresses.clone();
                addresses.push(("http", api.addr));
                context.announce_ready(Self::NAME, &addresses);
            }
            () = context.tasks.stopped() => {}
        }
        // The lock is held until the last part has ended.
        context.tasks.ended().await;
        Ok(())
    }
}

/// Says that positions do not go where the environment may make people look for them.
fn warn_of_mongodb(named: bool) {
    if named {
        tracing::warn!(
            "MONGODB_URI is set, and this program stores in SQLite whatever it says; to store in MongoDB run \
             the services broker, subscriber and api, or docker compose up"
        );
    }
}

fn store_options(config: &StoreConfig) -> Options {
    let skew_us = config.max_future_skew.as_duration().as_micros();
    Options {
        max_future_skew_us: i64::try_from(skew_us).unwrap_or(i64::MAX),
        ..Options::default()
    }
}

async fn open_store(path: PathBuf, options: Options) -> Result<Arc<SqliteStore>, BoxError> {
    // It blocks on the disk, and for long after a crash with a large journal.
    let store = tokio::task::spawn_blocking(move || SqliteStore::open(&path, &options)).await??;
    Ok(Arc::new(store))
}

/// Hands the subscriber's positions to the API.
struct Live(broadcast::Sender<Arc<Vec<Position>>>);

impl LiveFeed for Live {
    fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<Position>>> {
        self.0.subscribe()
    }
}
