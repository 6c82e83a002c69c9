//! What can be set, and what holds once defaults are applied.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use mqtt_client::{BrokerUrl, Credentials, Tls, TlsSettings};
use serde::{Deserialize, Serialize};
use service::{Common, HumanDuration, Problems, Secret};

use crate::source::Pace;
use crate::summary::SummaryFormat;

/// Settings of the publisher: of the simulation, and what to do instead.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds between two positions of a deliverer, give or take 3; 0 sends as fast as possible
    /// [default: 10]
    #[arg(
        short,
        long,
        env = "LASTMILE_PUBLISHER_DELTA_TIME",
        value_name = "SECONDS"
    )]
    pub delta_time: Option<f64>,
    /// Positions of each order [default: 15]
    #[arg(short, long, env = "LASTMILE_PUBLISHER_LOCATIONS", value_name = "N")]
    pub locations: Option<u64>,
    /// Simultaneous orders, each with a deliverer of its own [default: 50, or --connections if greater]
    #[arg(
        short = 'n',
        long,
        env = "LASTMILE_PUBLISHER_WORKERS",
        value_name = "N"
    )]
    pub workers: Option<u64>,
    /// Orders of each deliverer, one after the other: the first has the id deliverer x 43, the k-th
    /// `<deliverer x 43>-<k>` [default: 1, without end with --burst or --duration]
    #[arg(long, env = "LASTMILE_PUBLISHER_ORDERS", value_name = "N")]
    pub orders: Option<u64>,
    /// Send this many messages in all, as fast as possible (or at --rate)
    #[arg(long, env = "LASTMILE_PUBLISHER_BURST", value_name = "N")]
    pub burst: Option<u64>,
    /// Stop after this time, for example 30s
    #[arg(long, env = "LASTMILE_PUBLISHER_DURATION", value_name = "DURATION")]
    pub duration: Option<HumanDuration>,
    /// Decides the routes: the same seed gives the same routes [default: 1]
    #[arg(long, env = "LASTMILE_PUBLISHER_SEED", value_name = "N")]
    pub seed: Option<u64>,
    /// How to send.
    #[command(flatten)]
    pub send: SendSettings,
    /// What to do instead of simulating.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of simulating.
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Publish the events of a door2door file, in order for each vehicle
    Replay(Box<ReplaySettings>),
    /// Ask the API for every message of a ledger; exit code 1 names what is missing
    Verify(VerifySettings),
}

/// How to send.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SendSettings {
    /// Messages a second, all connections together; latency counts from when each was meant to be sent
    #[arg(
        long,
        env = "LASTMILE_PUBLISHER_RATE",
        value_name = "N",
        help_heading = "Sending"
    )]
    pub rate: Option<f64>,
    /// Connections to the broker [default: one per deliverer, at most 64; replay: 1]
    #[arg(
        long,
        env = "LASTMILE_PUBLISHER_CONNECTIONS",
        value_name = "N",
        help_heading = "Sending"
    )]
    pub connections: Option<u64>,
    /// Threads the connections are spread over [default: number of processors]
    #[arg(
        long,
        env = "LASTMILE_PUBLISHER_THREADS",
        value_name = "N",
        help_heading = "Sending"
    )]
    pub threads: Option<usize>,
    /// Most unacknowledged messages of a connection, 1 to 65535 [default: 1000]
    #[arg(
        long,
        env = "LASTMILE_PUBLISHER_WINDOW",
        value_name = "N",
        help_heading = "Sending"
    )]
    pub window: Option<usize>,
    /// 1: keep each message until the broker acknowledged it; 0: send and forget [default: 1]
    #[arg(
        long,
        env = "LASTMILE_PUBLISHER_QOS",
        value_name = "0|1",
        help_heading = "Sending"
    )]
    pub qos: Option<u8>,
    /// The broker's address.
    #[arg(
        long,
        visible_alias = "broker",
        env = "LASTMILE_BROKER",
        value_name = "URL",
        help_heading = "Sending",
        help = "The broker, mqtt://[user[:password]@]host[:port], or mqtts:// for TLS [default: mqtt://127.0.0.1:1883]"
    )]
    pub mqtt: Option<Secret<String>>,
    /// TLS to it.
    #[command(flatten, next_help_heading = "Sending")]
    #[serde(default)]
    pub tls: TlsSettings,
    /// Give up after this time without an acknowledgement while one is owed [default: 60s]
    #[arg(
        long,
        env = "LASTMILE_PUBLISHER_GIVE_UP",
        value_name = "DURATION",
        help_heading = "Sending"
    )]
    pub give_up: Option<HumanDuration>,
    /// Write a line for each acknowledged message to this file, for `verify`; an older file is replaced
    #[arg(
        long,
        env = "LASTMILE_PUBLISHER_LEDGER",
        value_name = "FILE",
        help_heading = "Sending"
    )]
    pub ledger: Option<PathBuf>,
    /// How the closing summary on stdout looks [default: text]
    #[arg(
        long,
        env = "LASTMILE_PUBLISHER_SUMMARY",
        value_name = "FORMAT",
        help_heading = "Sending"
    )]
    pub summary: Option<SummaryFormat>,
    /// Negative control of the tests: forgets what is unacknowledged when a connection is lost.
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, num_args = 0, default_missing_value = "true")]
    pub unsafe_forget_on_reconnect: Option<bool>,
}

/// Settings of `replay`.
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySettings {
    /// The file, one JSON object per line, plain or gzip; `-` is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Keep the pace of the events' `at`, this many times faster: 1 is real time [default: as fast as
    /// possible]
    #[arg(long, value_name = "X", conflicts_with = "rate")]
    #[serde(default)]
    pub speed: Option<f64>,
    /// Send lines that are no valid event, too (to see them in the dead letters); they are otherwise
    /// reported with their number and left out. Either way the exit code stays 0
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(default)]
    pub send_invalid: Option<bool>,
    /// How to send.
    #[command(flatten)]
    #[serde(default)]
    pub send: SendSettings,
}

/// Settings of `verify`.
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifySettings {
    /// The ledger that `--ledger` wrote
    #[arg(long, value_name = "FILE")]
    pub ledger: PathBuf,
    /// The API's address.
    #[arg(
        long,
        env = "LASTMILE_PUBLISHER_API",
        value_name = "URL",
        help = "The API [default: http://127.0.0.1:8080]"
    )]
    #[serde(default)]
    pub api: Option<String>,
    /// How long the pipeline may take to catch up [default: 30s]
    #[arg(long, value_name = "DURATION")]
    #[serde(default)]
    pub wait: Option<HumanDuration>,
    /// Requests at a time [default: 8]
    #[arg(long, value_name = "N")]
    #[serde(default)]
    pub concurrency: Option<usize>,
    /// How the result on stdout looks [default: text]
    #[arg(long, value_name = "FORMAT")]
    #[serde(default)]
    pub summary: Option<SummaryFormat>,
}

/// What is to be done, checked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Config {
    /// Simulate a fleet.
    Simulate(SimulateConfig),
    /// Replay a file.
    Replay(ReplayConfig),
    /// Check a ledger.
    Verify(VerifyConfig),
}

/// How to send, checked.
#[derive(Debug, Serialize)]
pub struct SendConfig {
    pub(crate) broker: String,
    #[serde(skip)]
    pub(crate) host: String,
    #[serde(skip)]
    pub(crate) port: u16,
    #[serde(skip)]
    pub(crate) credentials: Option<Credentials>,
    #[serde(skip)]
    pub(crate) tls: Option<Tls>,
    pub(crate) rate: Option<f64>,
    pub(crate) connections: u64,
    pub(crate) threads: usize,
    pub(crate) window: usize,
    pub(crate) qos: u8,
    pub(crate) give_up: HumanDuration,
    pub(crate) ledger: Option<PathBuf>,
    pub(crate) summary: SummaryFormat,
    /// Part of the time to stop, so that enough is left for the summary.
    #[serde(skip)]
    pub(crate) stop_patience: Duration,
    #[cfg(debug_assertions)]
    #[serde(skip)]
    pub(crate) forget_on_reconnect: bool,
}

/// A simulation, checked.
#[derive(Debug, Serialize)]
pub struct SimulateConfig {
    pub(crate) delta_time: f64,
    pub(crate) locations: u64,
    pub(crate) workers: u64,
    pub(crate) orders: Option<u64>,
    pub(crate) burst: Option<u64>,
    pub(crate) duration: Option<HumanDuration>,
    pub(crate) seed: u64,
    pub(crate) send: SendConfig,
}

/// A replay, checked.
#[derive(Debug, Serialize)]
pub struct ReplayConfig {
    pub(crate) file: PathBuf,
    pub(crate) speed: Option<f64>,
    pub(crate) send_invalid: bool,
    pub(crate) send: SendConfig,
}

/// A check, checked.
#[derive(Debug, Serialize)]
pub struct VerifyConfig {
    pub(crate) ledger: PathBuf,
    pub(crate) api: String,
    pub(crate) wait: HumanDuration,
    pub(crate) concurrency: usize,
    pub(crate) summary: SummaryFormat,
}

/// Applies defaults and checks everything.
pub(crate) fn resolve(settings: Settings, common: &Common) -> Result<Config, Problems> {
    let mut problems = Problems::new();
    let config = match settings.command {
        Some(Command::Replay(replay)) => {
            Config::Replay(self::replay(*replay, common, &mut problems))
        }
        Some(Command::Verify(verify)) => {
            Config::Verify(self::verify(verify, common, &mut problems))
        }
        None => Config::Simulate(simulate(settings, common, &mut problems)),
    };
    problems.or(config)
}

fn simulate(settings: Settings, common: &Common, problems: &mut Problems) -> SimulateConfig {
    let delta_time = settings.delta_time.unwrap_or(10.0);
    if !(0.0..=86_400.0).contains(&delta_time) {
        problems.add(
            "delta_time",
            format!("is {delta_time}; give 0 to 86400 seconds"),
        );
    }
    // A deliverer has one connection, so more connections need more deliverers.
    let least = settings.send.connections.unwrap_or_default();
    let workers = settings.workers.unwrap_or(least.max(50));
    if least > workers {
        let message = format!("is {least} for {workers} workers; give at most as many connections");
        problems.add("connections", message);
    }
    let locations = settings.locations.unwrap_or(15);
    let counts = [
        ("workers", workers, 1_000_000),
        ("locations", locations, u64::MAX),
    ];
    for (name, value, most) in counts {
        if !(1..=most).contains(&value) {
            problems.add(name, format!("is {value}; give 1 to {most}"));
        }
    }
    let endless = settings.burst.is_some() || settings.duration.is_some();
    let orders = settings.orders.or((!endless).then_some(1));
    for (name, value) in [("orders", orders), ("burst", settings.burst)] {
        if value == Some(0) {
            problems.add(name, "is 0; give 1 or more");
        }
    }
    SimulateConfig {
        delta_time,
        locations,
        workers,
        orders,
        burst: settings.burst,
        duration: settings.duration,
        seed: settings.seed.unwrap_or(1),
        send: send(settings.send, workers.min(64), workers, common, problems),
    }
}

impl SimulateConfig {
    pub(crate) fn pace(&self) -> Pace {
        match self.send.rate {
            Some(rate) => Pace::Rate(rate),
            None if self.burst.is_some() || self.delta_time <= 0.0 => Pace::Burst,
            None => Pace::Every(self.delta_time),
        }
    }

    /// Messages to come, where no time limit cuts them short.
    pub(crate) fn expected(&self) -> Option<u64> {
        let all_orders = || Some(self.orders?.saturating_mul(self.workers * self.locations));
        let counted = match (self.burst, all_orders()) {
            (Some(burst), Some(orders)) => Some(burst.min(orders)),
            (burst, orders) => burst.or(orders),
        };
        match (counted, self.duration, self.send.rate) {
            (counted, None, _) => counted,
            (counted, Some(duration), Some(rate)) => {
                let by_time = model::time::round_to_i64(duration.0.as_secs_f64() * rate)?;
                let by_time = u64::try_from(by_time).ok()?;
                Some(counted.map_or(by_time, |counted| counted.min(by_time)))
            }
            (_, Some(_), None) => None,
        }
    }
}

fn replay(settings: ReplaySettings, common: &Common, problems: &mut Problems) -> ReplayConfig {
    if let Some(speed) = settings.speed
        && !(speed > 0.0 && speed.is_finite())
    {
        problems.add("speed", format!("is {speed}; give a number above 0"));
    }
    ReplayConfig {
        file: settings.file,
        speed: settings.speed,
        send_invalid: settings.send_invalid.unwrap_or_default(),
        send: send(settings.send, 1, 65_535, common, problems),
    }
}

fn verify(settings: VerifySettings, common: &Common, problems: &mut Problems) -> VerifyConfig {
    let port = u32::from(common.port_base) + 8_080;
    let api = settings
        .api
        .unwrap_or_else(|| format!("http://127.0.0.1:{port}"));
    let api = api.trim_end_matches('/').to_owned();
    if !api.starts_with("http://") {
        problems.add(
            "api",
            format!("is {api:?}; give http://host:port (TLS is not supported)"),
        );
    }
    let concurrency = settings.concurrency.unwrap_or(8);
    if !(1..=256).contains(&concurrency) {
        problems.add("concurrency", format!("is {concurrency}; give 1 to 256"));
    }
    VerifyConfig {
        ledger: settings.ledger,
        api,
        wait: settings.wait.unwrap_or(HumanDuration::from_secs(30)),
        concurrency,
        summary: settings.summary.unwrap_or_default(),
    }
}

fn send(
    settings: SendSettings,
    default_connections: u64,
    most_connections: u64,
    common: &Common,
    problems: &mut Problems,
) -> SendConfig {
    let given = settings.mqtt.map(|url| url.expose().clone());
    let url = given
        .as_deref()
        .unwrap_or("mqtt://127.0.0.1")
        .parse::<BrokerUrl>();
    let url = url.unwrap_or_else(|error| {
        problems.add("mqtt", error.to_string());
        BrokerUrl::default()
    });
    let tls = settings.tls.resolve(&url, problems);
    let default_port = common.port_base.checked_add(1_883).unwrap_or_else(|| {
        problems.add(
            "port_base",
            "puts the broker's port above 65535; give a smaller one, or --mqtt",
        );
        0
    });
    if let Some(rate) = settings.rate
        && !(rate > 0.0 && rate.is_finite())
    {
        problems.add("rate", format!("is {rate}; give a number above 0"));
    }
    let connections = settings.connections.unwrap_or(default_connections);
    if connections == 0 {
        problems.add("connections", "is 0; give 1 or more");
    }
    let window = settings.window.unwrap_or(1_000);
    if !(1..=65_535).contains(&window) {
        problems.add("window", format!("is {window}; give 1 to 65535"));
    }
    let qos = settings.qos.unwrap_or(1);
    if qos > 1 {
        problems.add("qos", format!("is {qos}; give 0 or 1"));
    }
    if qos == 0 && settings.ledger.is_some() {
        problems.add(
            "ledger",
            "needs acknowledgements, which QoS 0 has not; give --qos 1",
        );
    }
    let give_up = settings.give_up.unwrap_or(HumanDuration::from_secs(60));
    if give_up.0 < Duration::from_millis(100) {
        problems.add("give_up", format!("is {give_up}; give 100ms or more"));
    }
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let port = url.port_or(default_port);
    SendConfig {
        broker: BrokerUrl {
            port: Some(port),
            ..url.clone()
        }
        .to_string(),
        host: url.host,
        port,
        credentials: url.credentials,
        tls,
        rate: settings.rate,
        connections: connections.min(most_connections),
        threads: settings.threads.unwrap_or(processors).max(1),
        window,
        qos,
        give_up,
        ledger: settings.ledger,
        summary: settings.summary.unwrap_or_default(),
        stop_patience: common.stop_timeout.0.mul_f64(0.75),
        #[cfg(debug_assertions)]
        forget_on_reconnect: settings.unsafe_forget_on_reconnect.unwrap_or_default(),
    }
}
