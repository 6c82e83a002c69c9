//! Where to listen, and binding with an error that says what to do.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tokio::net::TcpListener;

/// An address to listen on: `127.0.0.1:1883`, `[::1]:1883`, `localhost:1883`, `1883` (this machine only)
/// or `:1883` (every interface). Port 0 lets the system choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenAddr(pub SocketAddr);

/// A text that is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address; give host:port with a numeric host, for example 127.0.0.1:1883")]
pub struct ParseListenAddrError(String);

impl FromStr for ListenAddr {
    type Err = ParseListenAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let on = |host: Ipv4Addr, port: &str| {
            let port = port.parse::<u16>().ok()?;
            Some(SocketAddr::new(IpAddr::V4(host), port))
        };
        let address = if let Some(port) = text.strip_prefix(':') {
            on(Ipv4Addr::UNSPECIFIED, port)
        } else if let Some(port) = text.strip_prefix("localhost:") {
            on(Ipv4Addr::LOCALHOST, port)
        } else {
            on(Ipv4Addr::LOCALHOST, text).or_else(|| text.parse().ok())
        };
        address
            .map(Self)
            .ok_or_else(|| ParseListenAddrError(text.to_owned()))
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ListenAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ListenAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}{}", hint(source))]
pub struct BindError {
    /// What would have been served there, for example `MQTT`.
    pub purpose: String,
    /// The address asked for.
    pub address: SocketAddr,
    /// The cause.
    #[source]
    pub source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another program has this port; --port-base N moves all default ports)"
        }
        io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege)",
        io::ErrorKind::AddrNotAvailable => " (this machine has no such address)",
        _ => "",
    }
}

/// Binds a listener; `purpose` names it in the error.
///
/// # Errors
/// A [`BindError`] that names the address.
pub async fn bind_tcp(purpose: &str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BindError {
            purpose: purpose.to_owned(),
            address,
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_reads() {
        let cases = [
            ("127.0.0.1:1883", "127.0.0.1:1883"),
            ("localhost:1883", "127.0.0.1:1883"),
            ("1883", "127.0.0.1:1883"),
            (":1883", "0.0.0.0:1883"),
            ("[::1]:0", "[::1]:0"),
        ];
        for (text, shown) in cases {
            assert_eq!(
                text.parse::<ListenAddr>().map(|a| a.to_string()),
                Ok(shown.to_owned())
            );
        }
        for text in ["", "x", "example.org:1", "127.0.0.1", "127.0.0.1:70000"] {
            assert!(text.parse::<ListenAddr>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_busy_port_is_named() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let first = bind_tcp("test", any).await.expect("a free port");
        let taken = first.local_addr().expect("a bound address");
        let error = bind_tcp("MQTT", taken)
            .await
            .expect_err("the port is taken");
        assert!(error.to_string().contains(&taken.to_string()));
        assert!(error.to_string().contains("--port-base"));
    }
}
