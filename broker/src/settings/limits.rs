//! Settings of what one client, or one address, may take.

use serde::{Deserialize, Serialize};
use service::Problems;

use crate::access::TopicLimits;
use crate::protocol::topic::MAX_FILTER_LEVELS;

/// What may be set of the limits.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "broker_limits")]
#[command(next_help_heading = "Broker limits")]
#[expect(
    clippy::struct_field_names,
    reason = "settings are named as their flags"
)]
pub struct LimitSettings {
    /// Most connections at once of one address; further ones are closed on arrival [default: as in all]
    #[arg(
        long,
        env = "LASTMILE_MQTT_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "N"
    )]
    pub mqtt_max_connections_per_address: Option<usize>,
    /// Most subscriptions of one client; further ones are refused [default: 1000]
    #[arg(long, env = "LASTMILE_MQTT_MAX_SUBSCRIPTIONS", value_name = "N")]
    pub mqtt_max_subscriptions: Option<usize>,
    /// Most messages per second of one publisher; a faster one is read more slowly, and nothing is dropped
    /// [default: no limit]
    #[arg(long, env = "LASTMILE_MQTT_MAX_MESSAGE_RATE", value_name = "N")]
    pub mqtt_max_message_rate: Option<u32>,
    /// Most bytes of a topic or filter; larger ones are refused [default: 65535]
    #[arg(long, env = "LASTMILE_MQTT_MAX_TOPIC_LENGTH", value_name = "N")]
    pub mqtt_max_topic_length: Option<usize>,
    /// Most levels of a topic or filter; deeper ones are refused [default: 128]
    #[arg(long, env = "LASTMILE_MQTT_MAX_TOPIC_LEVELS", value_name = "N")]
    pub mqtt_max_topic_levels: Option<usize>,
}

/// The limits in effect.
#[derive(Debug, Clone, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "settings are named as their flags"
)]
pub struct LimitConfig {
    /// Most connections of one address.
    pub mqtt_max_connections_per_address: Option<usize>,
    /// Most subscriptions of one client.
    pub mqtt_max_subscriptions: usize,
    /// Most messages per second of one client.
    pub mqtt_max_message_rate: Option<u32>,
    /// Most bytes of a topic.
    pub mqtt_max_topic_length: usize,
    /// Most levels of a topic.
    pub mqtt_max_topic_levels: usize,
}

impl LimitConfig {
    pub(super) fn resolve(settings: &LimitSettings) -> Self {
        let largest = TopicLimits::default();
        Self {
            mqtt_max_connections_per_address: settings.mqtt_max_connections_per_address,
            mqtt_max_subscriptions: settings.mqtt_max_subscriptions.unwrap_or(1000),
            mqtt_max_message_rate: settings.mqtt_max_message_rate,
            mqtt_max_topic_length: settings.mqtt_max_topic_length.unwrap_or(largest.bytes),
            mqtt_max_topic_levels: settings.mqtt_max_topic_levels.unwrap_or(largest.levels),
        }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        let mut within = |name: &str, value: usize, most: usize| {
            if !(1..=most).contains(&value) {
                problems.add(name, format!("is {value}; give 1 to {most}"));
            }
        };
        let per_address = self.mqtt_max_connections_per_address.unwrap_or(1);
        within("mqtt_max_connections_per_address", per_address, 1_000_000);
        within(
            "mqtt_max_subscriptions",
            self.mqtt_max_subscriptions,
            100_000,
        );
        let rate = self.mqtt_max_message_rate.unwrap_or(1);
        within("mqtt_max_message_rate", rate as usize, 100_000_000);
        within("mqtt_max_topic_length", self.mqtt_max_topic_length, 65_535);
        within(
            "mqtt_max_topic_levels",
            self.mqtt_max_topic_levels,
            MAX_FILTER_LEVELS,
        );
    }

    pub(crate) fn topics(&self) -> TopicLimits {
        TopicLimits {
            bytes: self.mqtt_max_topic_length,
            levels: self.mqtt_max_topic_levels,
        }
    }
}
