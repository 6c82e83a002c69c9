//! The subscriber's settings, their defaults and their check.

use std::net::SocketAddr;
use std::path::PathBuf;

use mqtt_client::BrokerUrl;
use serde::{Deserialize, Serialize, Serializer};
use service::{ByteSize, Common, HumanDuration, ListenAddr, Problems};

/// What may be set of the pipeline, whatever its source; see [`Config`].
#[derive(Debug, Clone, Copy, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "subscriber")]
#[command(next_help_heading = "Subscriber options")]
pub struct Settings {
    /// Most records in a batch; larger ones cost less per record and take longer to become visible
    /// [default: 32768]
    #[arg(long, env = "LASTMILE_BATCH_RECORDS", value_name = "N")]
    pub batch_records: Option<usize>,
    /// Most bytes of payload in a batch; two batches are held in memory [default: 16MiB]
    #[arg(long, env = "LASTMILE_BATCH_SIZE", value_name = "SIZE")]
    pub batch_bytes: Option<ByteSize>,
    /// How long a batch gathers before it is stored; 0 stores at once, which costs more per record
    /// [default: 2ms]
    #[arg(long, env = "LASTMILE_BATCH_AGE", value_name = "DURATION")]
    pub batch_age: Option<HumanDuration>,
    /// How often the store is made safe against power loss and the log freed up to there [default: 2s]
    #[arg(long, env = "LASTMILE_SYNC_INTERVAL", value_name = "DURATION")]
    pub sync_interval: Option<HumanDuration>,
    /// Batches kept for a live viewer that is slow; it loses what is older [default: 64]
    #[arg(long, env = "LASTMILE_LIVE_BATCHES", value_name = "N")]
    pub live_batches: Option<usize>,
}

/// The pipeline's settings in effect.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Most records in a batch.
    pub batch_records: usize,
    /// Most bytes of payload in a batch.
    pub batch_bytes: ByteSize,
    /// How long a batch gathers.
    pub batch_age: HumanDuration,
    /// How often the store is synced and the log freed.
    pub sync_interval: HumanDuration,
    /// Batches kept for a slow live viewer.
    pub live_batches: usize,
}

impl Config {
    /// Applies the defaults and checks every value.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn resolve(settings: Settings, _common: &Common) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let config = Self {
            batch_records: settings.batch_records.unwrap_or(32_768),
            batch_bytes: settings.batch_bytes.unwrap_or(ByteSize::mib(16)),
            batch_age: settings.batch_age.unwrap_or(HumanDuration::from_millis(2)),
            sync_interval: settings
                .sync_interval
                .unwrap_or(HumanDuration::from_secs(2)),
            live_batches: settings.live_batches.unwrap_or(64),
        };
        let mut within = |name: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                problems.add(name, format!("is {value}; give {least} to {most}"));
            }
        };
        within("batch_records", config.batch_records as u64, 1, 1_000_000);
        within("batch_bytes", config.batch_bytes.as_u64(), 1, 1 << 30);
        within("live_batches", config.live_batches as u64, 1, 65_536);
        if config.batch_age.as_duration().as_secs() >= 60 {
            problems.add("batch_age", "is a minute or more; give some milliseconds");
        }
        if config.sync_interval.as_duration().is_zero() {
            problems.add("sync_interval", "is 0; give a second or more");
        }
        problems.or(config)
    }
}

/// What may be set of the MQTT source; see [`MqttConfig`].
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "MQTT options")]
pub struct MqttSettings {
    /// Broker to take messages from, `mqtt://user:password@host:port`; user, password and port may be left
    /// out [default: port 1883 of this machine]
    #[arg(long, env = "LASTMILE_BROKER", value_name = "URL")]
    pub broker: Option<String>,
    /// Name of the persistent session at the broker: the same after every restart, used by one process at
    /// a time. Another name is another session, and begins with what comes from then on
    /// [default: lastmile-subscriber]
    #[arg(long, env = "LASTMILE_CLIENT_ID", value_name = "ID")]
    pub client_id: Option<String>,
    /// Connections to the broker. More than one share the messages ($share) and each other's windows; changing
    /// the number changes the sessions, so drain first [default: 1]
    #[arg(long, env = "LASTMILE_CONNECTIONS", value_name = "N")]
    pub connections: Option<usize>,
    /// Largest MQTT packet taken; not below what the broker lets through, or the connection breaks again and
    /// again [default: 1MiB]
    #[arg(long, env = "LASTMILE_MAX_PACKET_SIZE", value_name = "SIZE")]
    pub max_packet_size: Option<ByteSize>,
}

/// A broker's address, shown without its password.
#[derive(Debug, Clone)]
pub struct ShownUrl(pub BrokerUrl);

impl Serialize for ShownUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The MQTT source's settings in effect.
#[derive(Debug, Clone, Serialize)]
pub struct MqttConfig {
    /// The broker.
    pub broker: ShownUrl,
    /// Its port, when the address names none.
    pub default_port: u16,
    /// Name of the session; with several connections the beginning of their names.
    pub client_id: String,
    /// Number of connections.
    pub connections: usize,
    /// Largest packet taken.
    pub max_packet_size: ByteSize,
}

impl MqttConfig {
    /// Applies the defaults and checks every value.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn resolve(settings: MqttSettings, common: &Common) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let broker = settings.broker.as_deref().unwrap_or("mqtt://127.0.0.1");
        let broker = broker.parse::<BrokerUrl>().unwrap_or_else(|error| {
            problems.add("broker", error.to_string());
            BrokerUrl {
                host: String::new(),
                port: None,
                credentials: None,
            }
        });
        let config = Self {
            broker: ShownUrl(broker),
            default_port: common
                .listen_addr("broker", None, 1883, &mut problems)
                .port(),
            client_id: settings
                .client_id
                .unwrap_or_else(|| "lastmile-subscriber".to_owned()),
            connections: settings.connections.unwrap_or(1),
            max_packet_size: settings.max_packet_size.unwrap_or(ByteSize::mib(1)),
        };
        if config.client_id.is_empty() || config.client_id.contains(['/', '+', '#']) {
            problems.add(
                "client_id",
                "is empty or holds one of / + #; give a plain name",
            );
        }
        if !(1..=64).contains(&config.connections) {
            problems.add(
                "connections",
                format!("is {}; give 1 to 64", config.connections),
            );
        }
        if config.max_packet_size.as_u64() < 1024 {
            problems.add("max_packet_size", "is below 1KiB; give 1KiB or more");
        }
        problems.or(config)
    }
}

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
    /// SQLite file to store into [default: store.sqlite in the data directory]
    #[arg(
        long,
        env = "LASTMILE_SQLITE",
        value_name = "FILE",
        help_heading = "Subscriber options"
    )]
    pub sqlite: Option<PathBuf>,
    /// A point dated further than this into the future is kept in history and never becomes the last one;
    /// too small ignores devices whose clock is ahead, too big lets a wrong clock freeze an order
    /// [default: 5m]
    #[arg(
        long,
        env = "LASTMILE_MAX_FUTURE_SKEW",
        value_name = "DURATION",
        help_heading = "Subscriber options"
    )]
    pub max_future_skew: Option<HumanDuration>,
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
    /// The SQLite file.
    pub sqlite: PathBuf,
    /// How far into the future a point may be dated and become last.
    pub max_future_skew: HumanDuration,
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
        let admin_listen =
            common.listen_addr("admin_listen", settings.admin_listen, 9102, &mut problems);
        let (Ok(pipeline), Ok(mqtt)) = (pipeline, mqtt) else {
            return Err(problems);
        };
        problems.or(Self {
            pipeline,
            mqtt,
            sqlite: settings
                .sqlite
                .unwrap_or_else(|| common.data.join("store.sqlite")),
            max_future_skew: settings
                .max_future_skew
                .unwrap_or(HumanDuration::from_secs(300)),
            admin_listen,
        })
    }
}
