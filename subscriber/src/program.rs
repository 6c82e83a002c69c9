//! The `subscriber` program: a broker's messages into an `SQLite` file.

use std::sync::Arc;

use service::{BoxError, Common, Context, Problems, Program, admin};
use store::Writer;
use store_sqlite::{Options, SqliteStore};

use crate::settings::{ProgramConfig, ProgramSettings};
use crate::start_from_mqtt;

/// The program.
#[derive(Debug)]
pub struct Subscriber;

impl Program for Subscriber {
    const NAME: &'static str = "subscriber";
    const ABOUT: &'static str = "Takes delivery positions and fleet events from an MQTT broker and stores \
        each exactly once.\n\n\
        A message is acknowledged to the broker only after it is committed, so whatever is killed, \
        whenever, the broker sends again what was not stored, and what was stored twice counts once. What \
        is invalid is kept as a dead letter with its reason. While the store is unavailable nothing is \
        acknowledged and nothing more is read.\n\n\
        Topics: deliveries/{deliverer_id}/location (native JSON), fleet/{organization_id}/events (door2door \
        JSON), test/deliverer_data (native JSON).\n\n\
        Example: subscriber --broker mqtt://broker.example:1883 --data /var/lib/lastmile";
    type Settings = ProgramSettings;
    type Config = ProgramConfig;

    fn resolve(settings: ProgramSettings, common: &Common) -> Result<ProgramConfig, Problems> {
        ProgramConfig::resolve(settings, common)
    }

    async fn run(config: ProgramConfig, context: Context) -> Result<(), BoxError> {
        let admin = admin::bind_and_serve(config.admin_listen, &context).await?;
        let skew = config.max_future_skew.as_duration().as_micros();
        let options = Options {
            max_future_skew_us: i64::try_from(skew).unwrap_or(i64::MAX),
            ..Options::default()
        };
        let store: Arc<dyn Writer> = Arc::new(SqliteStore::open(&config.sqlite, &options)?);
        let _handle = start_from_mqtt(config.pipeline, &config.mqtt, &store, &context);
        context.announce_ready(Self::NAME, &[("admin", admin)]);
        context.tasks.stopped().await;
        Ok(())
    }
}
