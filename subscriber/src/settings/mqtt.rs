//! Settings of the MQTT source: which broker, and as which session.

use std::fmt;
use std::str::FromStr;

use model::topic::INGEST_GROUP;
use mqtt_client::{BrokerUrl, Tls, TlsSettings};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use service::{ByteSize, Common, Problems};

/// Most connections of a process.
const MOST_CONNECTIONS: usize = 64;

/// What may be set of the MQTT source; see [`MqttConfig`].
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "MQTT options")]
pub struct MqttSettings {
    /// Broker to take messages from, `mqtt://user:password@host:port`, or `mqtts://` for TLS; user, password and
    /// port may be left out [default: port 1883 of this machine, for TLS 8883]
    #[arg(long, env = "LASTMILE_BROKER", value_name = "URL")]
    pub broker: Option<String>,
    /// TLS to it.
    #[command(flatten)]
    pub tls: TlsSettings,
    /// Name of the subscription at the broker: the group of `$share/ID/...` and the beginning of the sessions'
    /// names, the only one's whole name. The same after every restart. Another name is another subscription, and
    /// begins with what comes from then on, or with all that the broker holds for it (--hold-for of the broker)
    /// [default: lastmile-subscriber]
    #[arg(long, env = "LASTMILE_CLIENT_ID", value_name = "ID")]
    pub client_id: Option<String>,
    /// Connections to the broker, each with a pipeline and a store writer of its own. More than one need a
    /// broker that knows shared subscriptions ($share). With a broker not of this project another number is other
    /// sessions: stop when all is stored, or their messages wait for the old number [default: 1]
    #[arg(long, env = "LASTMILE_CONNECTIONS", value_name = "N")]
    pub connections: Option<usize>,
    /// How one connection without a replica number subscribes. `auto`: it shares ($share), as several do, and
    /// where the broker refuses that, plainly. `plain`: for brokers that keep plain subscriptions more safely than
    /// shared ones, or take $share for a topic like any other, and so deliver nothing [default: auto]
    #[arg(long, env = "LASTMILE_SUBSCRIPTION", value_name = "auto|plain")]
    pub subscription: Option<Subscription>,
    /// Which of several subscribers this is, for they share the messages and each needs sessions of its own:
    /// `none` when it is the only one, a number that no other has, or `auto` to lease the lowest free number in
    /// the store, renewed every 4 s and lost after 15 s of silence [default: none]
    #[arg(long, env = "LASTMILE_REPLICA", value_name = "none|auto|NUMBER")]
    pub replica: Option<Replica>,
    /// Most bytes of messages taken from the broker and waiting for a batch, for each connection; beyond it
    /// nothing more is read [default: 16MiB]
    #[arg(long, env = "LASTMILE_RECEIVE_BUFFER", value_name = "SIZE")]
    pub receive_buffer: Option<ByteSize>,
    /// Largest MQTT packet taken; not below what the broker lets through, or the connection breaks again and
    /// again [default: 1MiB]
    #[arg(long, env = "LASTMILE_MAX_PACKET_SIZE", value_name = "SIZE")]
    pub max_packet_size: Option<ByteSize>,
    /// Acknowledges before the store's commit: the negative control of the kill tests.
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, num_args = 0, default_missing_value = "true")]
    pub unsafe_ack_before_commit: Option<bool>,
}

/// How the only connection subscribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Subscription {
    /// Sharing, and where that is refused for itself alone.
    #[default]
    Auto,
    /// For itself alone.
    Plain,
}

/// Which of several subscribers on one broker a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replica {
    /// The only one.
    #[default]
    None,
    /// The lowest number that is free in the store.
    Auto,
    /// The one with this number.
    Number(u16),
}

/// A text that is none of a [`Replica`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give none, auto, or a number from 0 to 65535")]
pub struct ReplicaError;

impl FromStr for Replica {
    type Err = ReplicaError;

    fn from_str(text: &str) -> Result<Self, ReplicaError> {
        match text {
            // An empty variable, as compose files pass it on, says nothing.
            "none" | "" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            number => number.parse().map(Self::Number).map_err(|_| ReplicaError),
        }
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Auto => f.write_str("auto"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl Serialize for Replica {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Replica {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
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
    /// TLS to it, where its address asks for that.
    #[serde(skip)]
    pub tls: Option<Tls>,
    /// Its port, when the address names none.
    pub default_port: u16,
    /// Name of the session; with several connections the beginning of their names.
    pub client_id: String,
    /// Number of connections.
    pub connections: usize,
    /// How the only connection subscribes.
    pub subscription: Subscription,
    /// Which of several subscribers this is.
    pub replica: Replica,
    /// Most bytes waiting for a batch, for each connection.
    pub receive_buffer: ByteSize,
    /// Largest packet taken.
    pub max_packet_size: ByteSize,
    /// Whether messages are acknowledged before they are stored; exists in debug builds only.
    #[serde(skip)]
    pub(crate) ack_before_commit: bool,
}

impl MqttConfig {
    /// Applies the defaults and checks every value.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn resolve(settings: MqttSettings, common: &Common) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        #[cfg(debug_assertions)]
        let ack_before_commit = settings.unsafe_ack_before_commit.unwrap_or_default();
        #[cfg(not(debug_assertions))]
        let ack_before_commit = false;
        let broker = settings.broker.as_deref().unwrap_or("mqtt://127.0.0.1");
        let broker = broker.parse::<BrokerUrl>().unwrap_or_else(|error| {
            problems.add("broker", error.to_string());
            BrokerUrl::default()
        });
        let config = Self {
            tls: settings.tls.resolve(&broker, &mut problems),
            broker: ShownUrl(broker),
            default_port: common
                .listen_addr("broker", None, 1883, &mut problems)
                .port(),
            client_id: settings
                .client_id
                .unwrap_or_else(|| INGEST_GROUP.to_owned()),
            connections: settings.connections.unwrap_or(1),
            subscription: settings.subscription.unwrap_or_default(),
            replica: settings.replica.unwrap_or_default(),
            receive_buffer: settings.receive_buffer.unwrap_or(ByteSize::mib(16)),
            max_packet_size: settings.max_packet_size.unwrap_or(ByteSize::mib(1)),
            ack_before_commit,
        };
        if config.client_id.is_empty() || config.client_id.contains(['/', '+', '#']) {
            problems.add(
                "client_id",
                "is empty or holds one of / + #; give a plain name",
            );
        }
        if !(1..=MOST_CONNECTIONS).contains(&config.connections) {
            let connections = config.connections;
            problems.add(
                "connections",
                format!("is {connections}; give 1 to {MOST_CONNECTIONS}"),
            );
        }
        let is_several = config.connections > 1 || config.replica != Replica::None;
        if config.subscription == Subscription::Plain && is_several {
            problems.add(
                "subscription",
                "is plain, and then there is one connection; give --connections 1 and --replica none",
            );
        }
        if !(1 << 16..=1 << 32).contains(&config.receive_buffer.as_u64()) {
            let size = config.receive_buffer;
            problems.add("receive_buffer", format!("is {size}; give 64KiB to 4GiB"));
        }
        if config.max_packet_size.as_u64() < 1024 {
            problems.add("max_packet_size", "is below 1KiB; give 1KiB or more");
        }
        problems.or(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_read_as_it_is_written() {
        for text in ["none", "auto", "0", "17"] {
            assert_eq!(text.parse::<Replica>().unwrap().to_string(), text);
        }
        assert_eq!("".parse(), Ok(Replica::None));
        for wrong in ["-1", "65536", "Auto", "one"] {
            assert_eq!(wrong.parse::<Replica>(), Err(ReplicaError), "{wrong}");
        }
    }

    #[test]
    fn several_cannot_subscribe_plainly() {
        let plain = |connections, replica| {
            let settings = MqttSettings {
                subscription: Some(Subscription::Plain),
                connections,
                replica,
                ..MqttSettings::default()
            };
            MqttConfig::resolve(settings, &Common::new("d"))
        };
        assert_eq!(plain(None, None).unwrap().subscription, Subscription::Plain);
        for (connections, replica) in [(Some(2), None), (None, Some(Replica::Number(0)))] {
            let problems = plain(connections, replica).unwrap_err().to_string();
            assert!(problems.contains("subscription"), "{problems}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said() {
        let settings = MqttSettings {
            broker: Some("http://h".to_owned()),
            client_id: Some("a/b".to_owned()),
            connections: Some(0),
            receive_buffer: Some(ByteSize::kib(1)),
            max_packet_size: Some(ByteSize::kib(0)),
            ..MqttSettings::default()
        };
        let problems = MqttConfig::resolve(settings, &Common::new("d")).unwrap_err();
        let text = problems.to_string();
        for name in [
            "broker",
            "client_id",
            "connections",
            "receive_buffer",
            "max_packet_size",
        ] {
            assert!(text.contains(name), "{name} is missing in {text}");
        }
    }
}
