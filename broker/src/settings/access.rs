//! Settings of users and rules.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use service::Problems;

use super::Config;

/// What may be set of users and rules.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "broker_access")]
#[command(next_help_heading = "Broker access")]
#[expect(
    clippy::struct_field_names,
    reason = "settings are named as their flags"
)]
pub struct AccessSettings {
    /// File of users and their passwords' hashes, which `broker passwd` writes; with it, clients must prove a name.
    /// Read again when it changes or at SIGHUP [default: none]
    #[arg(long, env = "LASTMILE_MQTT_PASSWORD_FILE", value_name = "FILE")]
    pub mqtt_password_file: Option<PathBuf>,
    /// File of rules: who may read and write which topics. Read again when it changes or at SIGHUP [default: none,
    /// so that whoever is connected may read and write all]
    #[arg(long, env = "LASTMILE_MQTT_ACL_FILE", value_name = "FILE")]
    pub mqtt_acl_file: Option<PathBuf>,
    /// Takes the common name of a client's certificate for its user's name; wants --mqtt-tls-client-ca
    /// [default: false]
    #[arg(long, env = "LASTMILE_MQTT_TLS_USERS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub mqtt_tls_users: Option<bool>,
    /// Lets in clients without a name: on addresses that other machines reach, and beside users [default: false;
    /// without users, clients of this machine are let in all the same]
    #[arg(long, env = "LASTMILE_MQTT_ALLOW_ANONYMOUS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub mqtt_allow_anonymous: Option<bool>,
}

/// Users and rules in effect.
#[derive(Debug, Clone, Default, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "settings are named as their flags"
)]
pub struct AccessConfig {
    /// File of users.
    pub mqtt_password_file: Option<PathBuf>,
    /// File of rules.
    pub mqtt_acl_file: Option<PathBuf>,
    /// Whether certificates name users.
    pub mqtt_tls_users: bool,
    /// Whether clients without a name are let in.
    pub mqtt_allow_anonymous: bool,
}

impl AccessConfig {
    pub(super) fn resolve(settings: &AccessSettings) -> Self {
        Self {
            mqtt_password_file: settings.mqtt_password_file.clone(),
            mqtt_acl_file: settings.mqtt_acl_file.clone(),
            mqtt_tls_users: settings.mqtt_tls_users.unwrap_or_default(),
            mqtt_allow_anonymous: settings.mqtt_allow_anonymous.unwrap_or_default(),
        }
    }

    /// Refuses what would let in anyone from anywhere without having been asked to.
    pub(super) fn check(&self, config: &Config, problems: &mut Problems) {
        let client_ca = &config.listeners.mqtt_tls_client_ca;
        if self.mqtt_tls_users && client_ca.is_none() {
            let message =
                "takes names from certificates, and none are asked for; give mqtt_tls_client_ca";
            problems.add("mqtt_tls_users", message);
        }
        let open = self.mqtt_password_file.is_none() && !self.mqtt_tls_users;
        if !open || self.mqtt_allow_anonymous {
            return;
        }
        let plain = [("mqtt_listen", config.mqtt_listen)].into_iter();
        let exposed = plain.chain(config.listeners.without_certificates());
        for (name, address) in exposed.filter(|(_, address)| !address.ip().is_loopback()) {
            problems.add(
                name,
                format!(
                    "is {address}, which other machines reach, and anyone could read and write everything; \
                     give mqtt_password_file (see `broker passwd --help`), or mqtt_allow_anonymous if that is \
                     what you want"
                ),
            );
        }
    }
}
