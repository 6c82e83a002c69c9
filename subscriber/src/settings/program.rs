//! Settings of the `subscriber` program: pipeline, source, store, and where it answers.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use service::{Common, ListenAddr, Problems};

use super::{Config, MqttConfig, MqttSettings, Settings};

/// What may be set of the `subscriber` program.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProgramSettings {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Settings,
    /// The source.
    #[command(flatten)]
    pub mqtt: MqttSettings,
    /// The store.
    #[command(flatten)]
    pub store: stores::Settings,
    /// Address for health and metrics (/healthz, /readyz, /metrics) [default: 127.0.0.1:9102]
    #[arg(
        long,
        env = "LASTMILE_ADMIN_LISTEN",
        value_name = "ADDR",
        help_heading = "Subscriber options"
    )]
    pub admin_listen: Option<ListenAddr>,
}

/// The program's settings in effect.
#[derive(Debug, Clone, Serialize)]
pub struct ProgramConfig {
    /// The pipeline.
    pub pipeline: Config,
    /// The source.
    pub mqtt: MqttConfig,
    /// The store.
    pub store: stores::Config,
    /// Address for health and metrics.
    pub admin_listen: SocketAddr,
}

impl ProgramConfig {
    /// Applies the defaults and checks every value.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn resolve(settings: ProgramSettings, common: &Common) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let pipeline = Config::resolve(settings.pipeline, common)
            .map_err(|wrong| problems.extend("pipeline", wrong));
        let mqtt = MqttConfig::resolve(settings.mqtt, common)
            .map_err(|wrong| problems.extend("mqtt", wrong));
        let store = stores::Config::resolve(settings.store, common)
            .map_err(|wrong| problems.extend("store", wrong));
        let admin_listen =
            common.listen_addr("admin_listen", settings.admin_listen, 9102, &mut problems);
        let (Ok(pipeline), Ok(mqtt), Ok(store)) = (pipeline, mqtt, store) else {
            return Err(problems);
        };
        problems.or(Self {
            pipeline,
            mqtt,
            store,
            admin_listen,
        })
    }
}
