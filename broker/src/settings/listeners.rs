//! Settings of the listeners other than plain TCP, and of TLS.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use service::{Common, ListenAddr, Problems};

use crate::listen::tls::TlsFiles;

/// What may be set of the listeners.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "broker_listeners")]
#[command(next_help_heading = "Broker listeners")]
#[expect(
    clippy::struct_field_names,
    reason = "settings are named as their flags"
)]
pub struct ListenerSettings {
    /// Address for MQTT over TLS 1.2 and 1.3, by custom port 8883 [default: none]
    #[arg(long, env = "LASTMILE_MQTT_TLS_LISTEN", value_name = "ADDR")]
    pub mqtt_tls_listen: Option<ListenAddr>,
    /// Address for MQTT over WebSocket, by custom port 8083 [default: none]
    #[arg(long, env = "LASTMILE_MQTT_WS_LISTEN", value_name = "ADDR")]
    pub mqtt_ws_listen: Option<ListenAddr>,
    /// Address for MQTT over secure WebSocket, by custom port 8084 [default: none]
    #[arg(long, env = "LASTMILE_MQTT_WSS_LISTEN", value_name = "ADDR")]
    pub mqtt_wss_listen: Option<ListenAddr>,
    /// Certificate of this server and those that lead to its CA, PEM; read again when it changes or at SIGHUP
    #[arg(long, env = "LASTMILE_MQTT_TLS_CERT", value_name = "FILE")]
    pub mqtt_tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM; read again with it
    #[arg(long, env = "LASTMILE_MQTT_TLS_KEY", value_name = "FILE")]
    pub mqtt_tls_key: Option<PathBuf>,
    /// CA of clients' certificates, PEM: with it, TLS clients without a certificate of it are refused
    /// [default: none]
    #[arg(long, env = "LASTMILE_MQTT_TLS_CLIENT_CA", value_name = "FILE")]
    pub mqtt_tls_client_ca: Option<PathBuf>,
    /// Whose pages may connect by WebSocket besides those of the same host and port: origins with commas, or *
    /// for all [default: none]
    #[arg(long, env = "LASTMILE_MQTT_WS_ORIGINS", value_name = "ORIGINS")]
    pub mqtt_ws_origins: Option<String>,
}

/// The listeners in effect.
#[derive(Debug, Clone, Default, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "settings are named as their flags"
)]
pub struct Listeners {
    /// Address for TLS.
    pub mqtt_tls_listen: Option<SocketAddr>,
    /// Address for WebSocket.
    pub mqtt_ws_listen: Option<SocketAddr>,
    /// Address for secure WebSocket.
    pub mqtt_wss_listen: Option<SocketAddr>,
    /// The server's certificates.
    pub mqtt_tls_cert: Option<PathBuf>,
    /// The server's key.
    pub mqtt_tls_key: Option<PathBuf>,
    /// CA of clients.
    pub mqtt_tls_client_ca: Option<PathBuf>,
    /// Whose pages may connect.
    pub mqtt_ws_origins: String,
}

impl Listeners {
    pub(super) fn resolve(
        settings: &ListenerSettings,
        common: &Common,
        problems: &mut Problems,
    ) -> Self {
        let settings = settings.clone();
        let mut address = |name: &str, given: Option<ListenAddr>, port| {
            given.map(|given| common.listen_addr(name, Some(given), port, problems))
        };
        let listeners = Self {
            mqtt_tls_listen: address("mqtt_tls_listen", settings.mqtt_tls_listen, 8883),
            mqtt_ws_listen: address("mqtt_ws_listen", settings.mqtt_ws_listen, 8083),
            mqtt_wss_listen: address("mqtt_wss_listen", settings.mqtt_wss_listen, 8084),
            mqtt_tls_cert: settings.mqtt_tls_cert,
            mqtt_tls_key: settings.mqtt_tls_key,
            mqtt_tls_client_ca: settings.mqtt_tls_client_ca,
            mqtt_ws_origins: settings.mqtt_ws_origins.unwrap_or_default(),
        };
        if listeners.has_tls() {
            for (name, file) in [
                ("mqtt_tls_cert", &listeners.mqtt_tls_cert),
                ("mqtt_tls_key", &listeners.mqtt_tls_key),
            ] {
                if file.is_none() {
                    problems.add(name, "is not set; TLS needs a certificate and its key, PEM");
                }
            }
        } else if listeners.mqtt_tls_client_ca.is_some() {
            let message =
                "asks for certificates, and nothing listens with TLS; give mqtt_tls_listen";
            problems.add("mqtt_tls_client_ca", message);
        }
        listeners
    }

    /// Tells whether anything listens with TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.mqtt_tls_listen.is_some() || self.mqtt_wss_listen.is_some()
    }

    /// Returns the files of TLS, where it is served.
    pub(crate) fn tls_files(&self) -> Option<TlsFiles> {
        let files = TlsFiles {
            certificates: self.mqtt_tls_cert.clone()?,
            key: self.mqtt_tls_key.clone()?,
            client_ca: self.mqtt_tls_client_ca.clone(),
        };
        self.has_tls().then_some(files)
    }

    /// Returns the addresses where clients come in without a certificate, with the setting of each.
    pub(super) fn without_certificates(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let certified = self.mqtt_tls_client_ca.is_some();
        let tls = [
            ("mqtt_tls_listen", self.mqtt_tls_listen),
            ("mqtt_wss_listen", self.mqtt_wss_listen),
        ];
        let tls = tls.into_iter().filter(move |_| !certified);
        let plain = [("mqtt_ws_listen", self.mqtt_ws_listen)];
        let all = plain.into_iter().chain(tls);
        all.filter_map(|(name, address)| Some((name, address?)))
    }
}
