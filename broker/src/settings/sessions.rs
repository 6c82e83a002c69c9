//! Settings of sessions, and of what MQTT 5 lets client and broker agree on.

use serde::{Deserialize, Serialize};
use service::{HumanDuration, Problems};

use crate::protocol::v5::NEVER;

/// What may be set of sessions and of MQTT 5.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "broker_sessions")]
#[command(next_help_heading = "Broker sessions")]
#[expect(
    clippy::struct_field_names,
    reason = "they are the names of the settings"
)]
pub struct SessionSettings {
    /// Longest time a session outlives its connection, whatever the client asks; then what it holds of the log
    /// is free [default: for ever]
    #[arg(
        long,
        env = "LASTMILE_MQTT_MAX_SESSION_EXPIRY",
        value_name = "DURATION"
    )]
    pub mqtt_max_session_expiry: Option<HumanDuration>,
    /// Client ids whose sessions never expire, separated by commas [default: none]
    #[arg(
        long,
        env = "LASTMILE_MQTT_PINNED",
        value_name = "ID",
        value_delimiter = ','
    )]
    pub mqtt_pinned: Option<Vec<String>>,
    /// Most QoS 1 and 2 messages a client may have on their way to the broker [default: 65535]
    #[arg(long, env = "LASTMILE_MQTT_RECEIVE_MAXIMUM", value_name = "N")]
    pub mqtt_receive_maximum: Option<u16>,
    /// Most topic aliases a client may set; each holds a topic in memory [default: 32]
    #[arg(long, env = "LASTMILE_MQTT_TOPIC_ALIASES", value_name = "N")]
    pub mqtt_topic_aliases: Option<u16>,
    /// Longest keep-alive in seconds; a client of MQTT 5 that asks for a longer one, or none, is told this one
    /// [default: what it asks]
    #[arg(long, env = "LASTMILE_MQTT_MAX_KEEP_ALIVE", value_name = "SECONDS")]
    pub mqtt_max_keep_alive: Option<u16>,
    /// Topic below which a client that asks for response information is told to expect responses; its id is put
    /// behind it [default: responses]
    #[arg(long, env = "LASTMILE_MQTT_RESPONSE_TOPIC", value_name = "TOPIC")]
    pub mqtt_response_topic: Option<String>,
}

/// The settings of sessions and of MQTT 5 in effect.
#[derive(Debug, Clone, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "they are the names of the settings"
)]
pub struct SessionConfig {
    /// Longest time a session outlives its connection.
    pub mqtt_max_session_expiry: Option<HumanDuration>,
    /// Client ids whose sessions never expire.
    pub mqtt_pinned: Vec<String>,
    /// Most QoS 1 and 2 messages a client may have on their way.
    pub mqtt_receive_maximum: u16,
    /// Most topic aliases a client may set.
    pub mqtt_topic_aliases: u16,
    /// Longest keep-alive in seconds.
    pub mqtt_max_keep_alive: Option<u16>,
    /// Topic below which clients expect responses.
    pub mqtt_response_topic: String,
}

impl SessionConfig {
    pub(super) fn resolve(settings: &SessionSettings) -> Self {
        let response_topic = settings.mqtt_response_topic.as_deref();
        Self {
            mqtt_max_session_expiry: settings.mqtt_max_session_expiry,
            mqtt_pinned: settings.mqtt_pinned.clone().unwrap_or_default(),
            mqtt_receive_maximum: settings.mqtt_receive_maximum.unwrap_or(u16::MAX),
            mqtt_topic_aliases: settings.mqtt_topic_aliases.unwrap_or(32),
            mqtt_max_keep_alive: settings.mqtt_max_keep_alive,
            mqtt_response_topic: response_topic.unwrap_or("responses").to_owned(),
        }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if self.mqtt_receive_maximum == 0 {
            problems.add("mqtt_receive_maximum", "is 0; give 1 to 65535");
        }
        if self.mqtt_topic_aliases > 4096 {
            let value = self.mqtt_topic_aliases;
            problems.add("mqtt_topic_aliases", format!("is {value}; give 0 to 4096"));
        }
        if self.mqtt_max_keep_alive == Some(0) {
            problems.add("mqtt_max_keep_alive", "is 0; give 1 to 65535 seconds");
        }
        if self.max_session_expiry() == Some(0) {
            problems.add("mqtt_max_session_expiry", "is below a second");
        }
        let topic = &self.mqtt_response_topic;
        if crate::protocol::topic::name(topic.as_bytes()).is_err() || topic.starts_with('$') {
            problems.add("mqtt_response_topic", format!("is {topic:?}; give a topic"));
        }
    }

    /// Returns the longest expiry interval in seconds.
    pub(crate) fn max_session_expiry(&self) -> Option<u32> {
        let longest = self.mqtt_max_session_expiry?;
        Some(u32::try_from(longest.0.as_secs()).unwrap_or(NEVER))
    }
}
