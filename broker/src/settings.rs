//! The broker's settings, their defaults and their check.

mod access;
mod limits;
mod listeners;
mod sessions;

use std::net::SocketAddr;
use std::path::PathBuf;

use ingest_log::{LogConfig, SyncMode};
use serde::{Deserialize, Serialize};
use service::{ByteSize, Common, HumanDuration, ListenAddr, Problems};

pub use self::access::{AccessConfig, AccessSettings};
pub use self::limits::{LimitConfig, LimitSettings};
pub use self::listeners::{ListenerSettings, Listeners};
pub use self::sessions::{SessionConfig, SessionSettings};
use crate::share::hold::MAX_NAMES;

/// What may be set; see [`Config`] for what holds when it is not.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "broker")]
#[command(next_help_heading = "Broker options")]
pub struct Settings {
    /// Address for MQTT clients over plain TCP; one that other machines reach wants users, or
    /// --mqtt-allow-anonymous [default: 127.0.0.1:1883]
    #[arg(long, env = "LASTMILE_MQTT_LISTEN", value_name = "ADDR")]
    pub mqtt_listen: Option<ListenAddr>,
    /// Most connections at once; further ones are closed on arrival [default: 20000]
    #[arg(long, env = "LASTMILE_MQTT_MAX_CONNECTIONS", value_name = "N")]
    pub mqtt_max_connections: Option<usize>,
    /// Largest MQTT packet; a larger one closes its connection before it is read [default: 256KiB]
    #[arg(long, env = "LASTMILE_MQTT_MAX_PACKET_SIZE", value_name = "SIZE")]
    pub mqtt_max_packet_size: Option<ByteSize>,
    /// Time a new connection has for its CONNECT [default: 10s]
    #[arg(long, env = "LASTMILE_MQTT_CONNECT_TIMEOUT", value_name = "DURATION")]
    pub mqtt_connect_timeout: Option<HumanDuration>,
    /// A client that takes none of the bytes waiting for it this long is disconnected [default: 30s]
    #[arg(long, env = "LASTMILE_MQTT_STALL_TIMEOUT", value_name = "DURATION")]
    pub mqtt_stall_timeout: Option<HumanDuration>,
    /// Most QoS 1 messages on the way to one subscriber without its PUBACK; a subscriber stores no larger
    /// batches than this [default: 1000]
    #[arg(long, env = "LASTMILE_MQTT_WINDOW", value_name = "N")]
    pub mqtt_window: Option<usize>,
    /// Most persistent sessions; each keeps the log from its place on until it ends [default: 10000]
    #[arg(long, env = "LASTMILE_MQTT_MAX_SESSIONS", value_name = "N")]
    pub mqtt_max_sessions: Option<usize>,
    /// Most bytes waiting for one clean-session subscriber; what does not fit is dropped and counted
    /// [default: 1MiB]
    #[arg(long, env = "LASTMILE_MQTT_LIVE_QUEUE", value_name = "SIZE")]
    pub mqtt_live_queue: Option<ByteSize>,
    /// Most bytes of retained messages, topics included; beyond it new topics are not retained
    /// [default: 16MiB]
    #[arg(long, env = "LASTMILE_MQTT_RETAINED_SIZE", value_name = "SIZE")]
    pub mqtt_retained_size: Option<ByteSize>,
    /// How often the statistics below `$SYS/broker/` are made; 0s is never [default: 10s]
    #[arg(long, env = "LASTMILE_MQTT_SYS_INTERVAL", value_name = "DURATION")]
    pub mqtt_sys_interval: Option<HumanDuration>,
    /// What a PUBACK promises: `fdatasync` survives power loss, `os_buffer` only the death of the process
    /// [default: fdatasync]
    #[arg(long, env = "LASTMILE_LOG_SYNC", value_name = "MODE")]
    pub log_sync: Option<LogSync>,
    /// Size of a log segment; small ones free disk sooner [default: 64MiB]
    #[arg(long, env = "LASTMILE_LOG_SEGMENT_SIZE", value_name = "SIZE")]
    pub log_segment_size: Option<ByteSize>,
    /// Most bytes accepted and not yet on disk; at the bound clients are not read [default: 32MiB]
    #[arg(long, env = "LASTMILE_LOG_MAX_PENDING", value_name = "SIZE")]
    pub log_max_pending: Option<ByteSize>,
    /// Most bytes the log may take on disk; at the bound clients are not read, and nothing is evicted that a
    /// session, a group or a consumer waits for [default: the disk]
    #[arg(long, env = "LASTMILE_LOG_MAX_SIZE", value_name = "SIZE")]
    pub log_max_size: Option<ByteSize>,
    /// The other listeners, and TLS.
    #[command(flatten)]
    pub listeners: ListenerSettings,
    /// Users and rules.
    #[command(flatten)]
    pub access: AccessSettings,
    /// What one client may take.
    #[command(flatten)]
    pub limits: LimitSettings,
    /// Sessions and MQTT 5.
    #[command(flatten)]
    pub sessions: SessionSettings,
    /// Consumers for which messages are kept from the first one on, before they ever came: the names of their
    /// groups (`$share/NAME/...`), separated by commas, or `none`. Held are the topics of the subscriber program,
    /// whose group is its --client-id. The log keeps everything until each has come and taken it
    /// [default: lastmile-subscriber; in the all-in-one none]
    #[arg(
        long,
        env = "LASTMILE_HOLD_FOR",
        value_name = "NAMES",
        value_delimiter = ','
    )]
    pub hold_for: Option<Vec<String>>,
    /// Acknowledges before the log's write: the negative control of the kill tests.
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, num_args = 0, default_missing_value = "true")]
    pub unsafe_ack_before_commit: Option<bool>,
}

/// Longest name of a group that is held.
const MAX_GROUP_BYTES: usize = 256;

/// Returns the names that were given, each once; `none` alone is no name.
fn groups(given: &[String]) -> Vec<String> {
    let given = given.iter().map(|name| name.trim());
    let mut names: Vec<_> = given
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    if names == ["none"] {
        names.clear();
    }
    names
}

/// What makes a message durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum LogSync {
    /// `fdatasync` before the acknowledgement.
    #[default]
    Fdatasync,
    /// A write to the operating system before the acknowledgement.
    OsBuffer,
}

/// The settings in effect.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Address for MQTT clients.
    pub mqtt_listen: SocketAddr,
    /// Most connections at once.
    pub mqtt_max_connections: usize,
    /// Largest MQTT packet.
    pub mqtt_max_packet_size: ByteSize,
    /// Time for a CONNECT.
    pub mqtt_connect_timeout: HumanDuration,
    /// Time without progress after which a client that does not read is disconnected.
    pub mqtt_stall_timeout: HumanDuration,
    /// Most QoS 1 messages in flight to one subscriber.
    pub mqtt_window: usize,
    /// Most persistent sessions.
    pub mqtt_max_sessions: usize,
    /// Most bytes waiting for one clean-session subscriber.
    pub mqtt_live_queue: ByteSize,
    /// Most bytes of retained messages.
    pub mqtt_retained_size: ByteSize,
    /// How often the statistics below `$SYS/broker/` are made; zero is never.
    pub mqtt_sys_interval: HumanDuration,
    /// Folder of the log.
    pub log_dir: PathBuf,
    /// Folder of what is remembered of clients besides messages.
    pub state_dir: PathBuf,
    /// What a PUBACK promises.
    pub log_sync: LogSync,
    /// Size of a log segment.
    pub log_segment_size: ByteSize,
    /// Most bytes accepted and not yet on disk.
    pub log_max_pending: ByteSize,
    /// Most bytes the log may take on disk.
    pub log_max_size: Option<ByteSize>,
    /// The other listeners, and TLS.
    pub listeners: Listeners,
    /// Users and rules.
    pub access: AccessConfig,
    /// What one client may take.
    pub limits: LimitConfig,
    /// Sessions and MQTT 5.
    pub sessions: SessionConfig,
    /// Names of the groups that are held.
    pub hold_for: Vec<String>,
    /// Whether PUBACK leaves before the log's write; exists in debug builds only.
    #[serde(skip)]
    pub(crate) ack_before_commit: bool,
}

impl Config {
    /// Applies the defaults and checks every value; the folder of the log is `log` in the data directory.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn resolve(settings: &Settings, common: &Common) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        #[cfg(debug_assertions)]
        let ack_before_commit = settings.unsafe_ack_before_commit.unwrap_or_default();
        #[cfg(not(debug_assertions))]
        let ack_before_commit = false;
        let mqtt_listen =
            common.listen_addr("mqtt_listen", settings.mqtt_listen, 1883, &mut problems);
        let listeners = Listeners::resolve(&settings.listeners, common, &mut problems);
        let config = Self {
            listeners,
            access: AccessConfig::resolve(&settings.access),
            limits: LimitConfig::resolve(&settings.limits),
            sessions: SessionConfig::resolve(&settings.sessions),
            mqtt_listen,
            mqtt_max_connections: settings.mqtt_max_connections.unwrap_or(20_000),
            mqtt_max_packet_size: settings.mqtt_max_packet_size.unwrap_or(ByteSize::kib(256)),
            mqtt_connect_timeout: settings
                .mqtt_connect_timeout
                .unwrap_or(HumanDuration::from_secs(10)),
            mqtt_stall_timeout: settings
                .mqtt_stall_timeout
                .unwrap_or(HumanDuration::from_secs(30)),
            mqtt_window: settings.mqtt_window.unwrap_or(1000),
            mqtt_max_sessions: settings.mqtt_max_sessions.unwrap_or(10_000),
            mqtt_live_queue: settings.mqtt_live_queue.unwrap_or(ByteSize::mib(1)),
            mqtt_retained_size: settings.mqtt_retained_size.unwrap_or(ByteSize::mib(16)),
            mqtt_sys_interval: settings
                .mqtt_sys_interval
                .unwrap_or(HumanDuration::from_secs(10)),
            log_dir: common.data.join("log"),
            state_dir: common.data.join("state"),
            log_sync: settings.log_sync.unwrap_or_default(),
            log_segment_size: settings.log_segment_size.unwrap_or(ByteSize::mib(64)),
            log_max_pending: settings.log_max_pending.unwrap_or(ByteSize::mib(32)),
            log_max_size: settings.log_max_size,
            hold_for: groups(settings.hold_for.as_deref().unwrap_or_default()),
            ack_before_commit,
        };
        config.check(&mut problems);
        problems.or(config)
    }

    fn check(&self, problems: &mut Problems) {
        self.access.check(self, problems);
        self.limits.check(problems);
        self.sessions.check(problems);
        let mut within = |name: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                problems.add(name, format!("is {value}; give {least} to {most}"));
            }
        };
        let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        within(
            "mqtt_max_connections",
            count(self.mqtt_max_connections),
            1,
            1_000_000,
        );
        within(
            "mqtt_max_packet_size",
            self.mqtt_max_packet_size.0,
            1 << 10,
            64 << 20,
        );
        within("mqtt_window", count(self.mqtt_window), 1, 30_000);
        within(
            "mqtt_max_sessions",
            count(self.mqtt_max_sessions),
            0,
            1_000_000,
        );
        within("mqtt_live_queue", self.mqtt_live_queue.0, 1 << 10, 1 << 30);
        within("mqtt_retained_size", self.mqtt_retained_size.0, 0, 1 << 34);
        for (name, duration) in [
            ("mqtt_connect_timeout", self.mqtt_connect_timeout),
            ("mqtt_stall_timeout", self.mqtt_stall_timeout),
        ] {
            if duration.0.is_zero() {
                problems.add(name, "is 0; give a positive duration");
            }
        }
        // The largest read that becomes one batch is one buffer and one packet; records add their heads.
        let least = 4 * (self.mqtt_max_packet_size.0 + crate::connection::READ_BYTES as u64);
        if self.log_max_pending.0 < least {
            let value = self.log_max_pending.0;
            problems.add(
                "log_max_pending",
                format!("is {value}; give at least {least}, so that any read fits"),
            );
        }
        // A group of commits can be as large as all that is pending, and it must fit beside what is read.
        let least = 3 * self.log_segment_size.0 + 2 * self.log_max_pending.0;
        if let Some(most) = self.log_max_size.filter(|most| most.0 < least) {
            problems.add(
                "log_max_size",
                format!(
                    "is {most}; give at least {least}: three segments and two times log_max_pending"
                ),
            );
        }
        self.check_hold_for(problems);
        if let Err(error) = self.log_config().check() {
            problems.add("log", error.to_string());
        }
    }

    fn check_hold_for(&self, problems: &mut Problems) {
        for name in &self.hold_for {
            let is_group = !name.contains(['/', '+', '#', '\0']) && name.len() <= MAX_GROUP_BYTES;
            if !is_group || name == "none" {
                problems.add(
                    "hold_for",
                    format!(
                        "{name:?} is no group's name: at most {MAX_GROUP_BYTES} bytes, none of / + #, and `none` alone"
                    ),
                );
            }
        }
        if self.hold_for.len() > MAX_NAMES {
            let count = self.hold_for.len();
            problems.add(
                "hold_for",
                format!("are {count} names; give at most {MAX_NAMES}"),
            );
        }
    }

    pub(crate) fn log_config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: self.log_segment_size.0,
            max_pending_bytes: self.log_max_pending.as_usize(),
            max_log_bytes: self.log_max_size.map(|size| size.0),
            sync: match self.log_sync {
                LogSync::Fdatasync => SyncMode::Fdatasync,
                LogSync::OsBuffer => SyncMode::OsBuffer,
            },
            held: true,
            ..LogConfig::new(&self.log_dir)
        }
    }

    /// Returns the settings of the journal of the session state: small segments, and room for the changes of many
    /// connections at once.
    pub(crate) fn state_config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: 4 << 20,
            max_pending_bytes: 64 << 20,
            sync: self.log_config().sync,
            ..LogConfig::new(&self.state_dir)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(names: &[&str]) -> Result<Vec<String>, Problems> {
        let names = names.iter().map(ToString::to_string).collect();
        let settings = Settings {
            hold_for: Some(names),
            ..Settings::default()
        };
        Config::resolve(&settings, &Common::new("d")).map(|config| config.hold_for)
    }

    #[test]
    fn groups_to_hold_are_names() {
        assert_eq!(held(&["b", " a ", "b", ""]).unwrap(), ["a", "b"]);
        for off in [&["none"][..], &[""], &[]] {
            assert!(held(off).unwrap().is_empty(), "{off:?}");
        }
        let long = "x".repeat(MAX_GROUP_BYTES + 1);
        for wrong in [&["a", "none"][..], &["a/b"], &["+"], &["a#"], &[&long]] {
            let problems = held(wrong).unwrap_err().to_string();
            assert!(problems.contains("hold_for"), "{problems}");
        }
        let many: Vec<_> = (0..=MAX_NAMES).map(|n| n.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(held(&many).is_err());
        assert_eq!(held(&many[1..]).unwrap().len(), MAX_NAMES);
    }
}
