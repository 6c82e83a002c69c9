//! Where the broker is and how to connect to it.
//!
//! The only place that builds rumqttc's options, because their defaults are traps: packets above
//! 10 KB break the connection, and received messages are acknowledged before anybody has seen them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Tls;

/// A user name and a password; `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password; may be empty.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &"***")
            .finish()
    }
}

/// Port of MQTT over TLS.
const TLS_PORT: u16 = 8883;

/// A broker's address: `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS.
///
/// `Display` writes it without the password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerUrl {
    /// TLS is asked for.
    pub tls: bool,
    /// Host name or IP address (an IPv6 address without its brackets).
    pub host: String,
    /// TCP port, when the URL names one.
    pub port: Option<u16>,
    /// Who connects, when the URL says so.
    pub credentials: Option<Credentials>,
}

/// Says why a text is not a broker's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokerUrlError {
    /// The text begins with another scheme.
    #[error(
        "has an unknown scheme; give mqtt://[user[:password]@]host[:port], or mqtts:// for TLS"
    )]
    Scheme,
    /// The text names no host.
    #[error("names no host; give mqtt://[user[:password]@]host[:port]")]
    Host,
    /// The port is no number from 1 to 65535.
    #[error("has a port that is no number from 1 to 65535")]
    Port,
}

impl FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, BrokerUrlError> {
        let (tls, rest) = match text.split_once("://") {
            Some(("mqtt" | "tcp", rest)) => (false, rest),
            Some(("mqtts" | "ssl" | "tls", rest)) => (true, rest),
            Some(_) => return Err(BrokerUrlError::Scheme),
            None => (false, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, address) = match rest.rsplit_once('@') {
            Some((user, address)) => {
                let (username, password) = user.split_once(':').unwrap_or((user, ""));
                let credentials = Credentials {
                    username: username.to_owned(),
                    password: password.to_owned(),
                };
                (Some(credentials), address)
            }
            None => (None, rest),
        };
        let (host, port) = split_port(address)?;
        if host.is_empty() || host.contains('/') {
            return Err(BrokerUrlError::Host);
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            credentials,
        })
    }
}

impl BrokerUrl {
    /// Returns its port: the one it names, else 8883 for TLS and `default_port` without.
    pub fn port_or(&self, default_port: u16) -> u16 {
        let default = if self.tls { TLS_PORT } else { default_port };
        self.port.unwrap_or(default)
    }
}

fn split_port(address: &str) -> Result<(&str, Option<u16>), BrokerUrlError> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(BrokerUrlError::Host)?;
        (host, after.strip_prefix(':'))
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    let port = match port {
        Some(port) => Some(
            port.parse()
                .ok()
                .filter(|&p| p != 0)
                .ok_or(BrokerUrlError::Port)?,
        ),
        None => None,
    };
    Ok((host, port))
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "mqtts://" } else { "mqtt://" })?;
        if let Some(credentials) = &self.credentials {
            write!(f, "{}@", credentials.username)?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// How a client connects.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The client id. For a [`crate::Consumer`] it names the session: it must be the same after every
    /// restart and used by one process at a time, else the broker lets the two push each other out.
    pub client_id: String,
    /// Who connects; default nobody.
    pub credentials: Option<Credentials>,
    /// TLS, where it is to be spoken; default not.
    pub tls: Option<Tls>,
    /// The broker drops a client it has not heard from for 1.5 times this; default 30 s, at least 1 s.
    pub keep_alive: Duration,
    /// Largest packet sent or taken, in bytes; default 1 MiB. A larger one from the broker breaks the
    /// connection, again after every reconnect: it must not be below the broker's own limit.
    pub max_packet_size: usize,
    /// Most unacknowledged messages on the wire of a publisher, 1 to 65,535; default 1,000. Some brokers
    /// take fewer; those then stop reading, which costs speed and nothing else.
    pub inflight: u16,
}

impl ConnectOptions {
    /// Takes where to connect and as whom; the rest is default.
    pub fn new(host: impl Into<String>, port: u16, client_id: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port,
            client_id: client_id.into(),
            credentials: None,
            tls: None,
            keep_alive: Duration::from_secs(30),
            max_packet_size: 1024 * 1024,
            inflight: 1_000,
        }
    }

    /// Takes a broker's address and how TLS is spoken where it asks for it ([`crate::TlsSettings::resolve`]);
    /// `default_port` stands in when it names none and asks for no TLS.
    pub fn from_url(
        url: &BrokerUrl,
        default_port: u16,
        client_id: impl Into<String>,
        tls: Option<Tls>,
    ) -> Self {
        Self {
            credentials: url.credentials.clone(),
            tls,
            ..Self::new(url.host.clone(), url.port_or(default_port), client_id)
        }
    }

    /// Makes rumqttc's options: manual acks, sizes set, keep-alive in its range.
    pub(crate) fn to_rumqttc(&self, clean_session: bool) -> rumqttc::MqttOptions {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the place that sets what the others must not forget"
        )]
        let mut options =
            rumqttc::MqttOptions::new(self.client_id.clone(), self.host.clone(), self.port);
        options
            .set_keep_alive(self.keep_alive.max(Duration::from_secs(1)))
            .set_clean_session(clean_session)
            .set_manual_acks(true)
            .set_max_packet_size(self.max_packet_size, self.max_packet_size)
            .set_inflight(self.inflight.max(1));
        if let Some(credentials) = &self.credentials {
            options.set_credentials(&credentials.username, &credentials.password);
        }
        if let Some(tls) = &self.tls {
            options.set_transport(tls.to_rumqttc());
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_without_the_password() {
        let url: BrokerUrl = "mqtt://ann:s3:cret@broker.example:1884".parse().unwrap();
        assert_eq!(
            (url.host.as_str(), url.port),
            ("broker.example", Some(1884))
        );
        assert_eq!(url.credentials.as_ref().unwrap().password, "s3:cret");
        assert_eq!(url.to_string(), "mqtt://ann@broker.example:1884");
        assert!(!format!("{url:?}").contains("cret"));

        let bare: BrokerUrl = "localhost".parse().unwrap();
        assert_eq!((bare.host.as_str(), bare.port), ("localhost", None));
        let v6: BrokerUrl = "tcp://[::1]:1883/".parse().unwrap();
        assert_eq!(v6.to_string(), "mqtt://[::1]:1883");
        assert!(![&url, &bare, &v6].iter().any(|url| url.tls));
    }

    #[test]
    fn tls_has_a_scheme_and_a_port_of_its_own() {
        for text in ["mqtts://host", "ssl://host", "tls://host/"] {
            let url: BrokerUrl = text.parse().unwrap();
            assert!(url.tls && url.port.is_none(), "{text}");
            assert_eq!(
                (url.port_or(1883), url.to_string().as_str()),
                (8883, "mqtts://host")
            );
        }
        let url: BrokerUrl = "mqtts://host:1".parse().unwrap();
        assert_eq!(url.port_or(1883), 1);
        assert_eq!("host".parse::<BrokerUrl>().unwrap().port_or(2), 2);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, error) in [
            ("http://host", BrokerUrlError::Scheme),
            ("mqtts://", BrokerUrlError::Host),
            ("mqtt://", BrokerUrlError::Host),
            ("mqtt://user@", BrokerUrlError::Host),
            ("mqtt://host:0", BrokerUrlError::Port),
            ("host:port", BrokerUrlError::Port),
            ("mqtt://host/path", BrokerUrlError::Host),
        ] {
            assert_eq!(text.parse::<BrokerUrl>(), Err(error), "{text}");
        }
    }
}
