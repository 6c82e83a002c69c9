//! What may be set for the HTTP side, and what holds once it is checked.

use std::net::{Ipv4Addr, SocketAddr};

use axum::http::HeaderValue;
use clap::Args;
use serde::{Deserialize, Serialize};
use service::{ByteSize, Common, HumanDuration, ListenAddr, Problems};

use crate::lake::{LakeConfig, LakeSettings};

/// The port unless another is given; `--port-base` is added.
const DEFAULT_PORT: u16 = 8080;

/// Settings of the HTTP API; every field may be left out.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "api_http")]
pub struct Settings {
    /// Address to serve HTTP on: host:port, port (this machine only) or :port (every interface)
    /// [default: 127.0.0.1:8080]
    #[arg(long, env = "LASTMILE_HTTP_LISTEN", value_name = "ADDRESS")]
    pub http_listen: Option<ListenAddr>,
    /// Port to serve HTTP on, on every interface, as hosting platforms pass it; --http-listen wins
    /// [default: none]
    #[arg(long, env = "PORT", value_name = "PORT")]
    pub http_port: Option<u16>,
    /// Largest body of a POST. Larger needs more memory for each request, smaller makes senders split
    /// [default: 1MiB]
    #[arg(long, env = "LASTMILE_HTTP_MAX_BODY", value_name = "SIZE")]
    pub http_max_body: Option<ByteSize>,
    /// Longest time to an answer, 503 after that. A POST waits for the disk within it [default: 30s]
    #[arg(long, env = "LASTMILE_HTTP_TIMEOUT", value_name = "DURATION")]
    pub http_timeout: Option<HumanDuration>,
    /// Requests answered at a time; more are refused with 503 [default: 1024]
    #[arg(long, env = "LASTMILE_HTTP_MAX_REQUESTS", value_name = "N")]
    pub http_max_requests: Option<usize>,
    /// Connections open at a time, streams included; more wait to be accepted [default: 20000]
    #[arg(long, env = "LASTMILE_HTTP_MAX_CONNECTIONS", value_name = "N")]
    pub http_max_connections: Option<usize>,
    /// Live streams open at a time; more are refused with 503 [default: 10000]
    #[arg(long, env = "LASTMILE_HTTP_MAX_STREAMS", value_name = "N")]
    pub http_max_streams: Option<usize>,
    /// Pause after which a silent stream sends a comment and looks into the store [default: 15s]
    #[arg(long, env = "LASTMILE_HTTP_HEARTBEAT", value_name = "DURATION")]
    pub http_heartbeat: Option<HumanDuration>,
    /// Web origins that may use the API from a browser: `*` (read only), `none`, or a list separated by
    /// commas (these may also POST) [default: *]
    #[arg(long, env = "LASTMILE_HTTP_CORS", value_name = "ORIGINS")]
    pub http_cors: Option<String>,
    /// Who answers queries over the lake.
    #[command(flatten)]
    pub lake: LakeSettings,
}

/// Which web pages may use the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cors {
    /// None but those served from here.
    None,
    /// All may read.
    AnyMayRead,
    /// These may read and POST.
    Origins(Vec<String>),
}

/// The settings in effect.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Where to serve.
    pub http_listen: SocketAddr,
    /// Largest body.
    pub http_max_body: ByteSize,
    /// Longest time to an answer.
    pub http_timeout: HumanDuration,
    /// Requests answered at a time.
    pub http_max_requests: usize,
    /// Connections open at a time.
    pub http_max_connections: usize,
    /// Streams open at a time.
    pub http_max_streams: usize,
    /// A silent stream's pause.
    pub http_heartbeat: HumanDuration,
    /// Which web pages may use the API.
    pub http_cors: Cors,
    /// Who answers queries over the lake.
    pub lake: LakeConfig,
    /// A position dated further than this after its receipt is not streamed as the last one. It must
    /// be what the store was told; who composes the service sets it.
    #[serde(skip)]
    pub max_skew_us: i64,
}

impl Config {
    /// Applies defaults and checks everything.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn resolve(settings: Settings, common: &Common) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let by_port = settings
            .http_port
            .map(|port| ListenAddr(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))));
        let given = settings.http_listen.or(by_port);
        let http_listen = common.listen_addr("http_listen", given, DEFAULT_PORT, &mut problems);
        let mut count = |name: &str, given: Option<usize>, default: usize| {
            let value = given.unwrap_or(default);
            if !(1..=1_000_000).contains(&value) {
                problems.add(name, format!("is {value}; give 1 to 1000000"));
            }
            value
        };
        let http_max_requests = count("http_max_requests", settings.http_max_requests, 1_024);
        let http_max_connections = count(
            "http_max_connections",
            settings.http_max_connections,
            20_000,
        );
        let http_max_streams = count("http_max_streams", settings.http_max_streams, 10_000);
        let http_max_body = settings.http_max_body.unwrap_or(ByteSize::mib(1));
        if !(1..=1 << 30).contains(&http_max_body.as_u64()) {
            problems.add(
                "http_max_body",
                format!("is {http_max_body}; give 1 byte to 1GiB"),
            );
        }
        let mut duration = |name: &str, given: Option<HumanDuration>, default: u64| {
            let value = given.unwrap_or(HumanDuration::from_secs(default));
            if value < HumanDuration::from_millis(1) || value > HumanDuration::from_secs(3_600) {
                problems.add(name, format!("is {value}; give 1ms to 1h"));
            }
            value
        };
        let http_timeout = duration("http_timeout", settings.http_timeout, 30);
        let http_heartbeat = duration("http_heartbeat", settings.http_heartbeat, 15);
        let http_cors = settings.http_cors.unwrap_or_else(|| "*".to_owned());
        let http_cors = cors(&http_cors, &mut problems);
        let lake = settings.lake.resolve(&mut problems);
        problems.or(Self {
            http_listen,
            http_max_body,
            http_timeout,
            http_max_requests,
            http_max_connections,
            http_max_streams,
            http_heartbeat,
            http_cors,
            lake,
            max_skew_us: store::DEFAULT_MAX_FUTURE_SKEW_US,
        })
    }
}

fn cors(text: &str, problems: &mut Problems) -> Cors {
    match text.trim() {
        "*" => return Cors::AnyMayRead,
        "none" | "" => return Cors::None,
        _ => {}
    }
    let origins: Vec<String> = text.split(',').map(|o| o.trim().to_owned()).collect();
    for origin in &origins {
        let web = origin.starts_with("http://") || origin.starts_with("https://");
        if !web || origin.ends_with('/') || HeaderValue::from_str(origin).is_err() {
            problems.add(
                "http_cors",
                format!("has {origin:?}; give origins such as https://maps.example.org"),
            );
        }
    }
    Cors::Origins(origins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_and_port_base_moves_the_port() {
        let mut common = Common::new("data");
        common.port_base = 1000;
        let config = Config::resolve(Settings::default(), &common).unwrap();
        assert_eq!(config.http_listen.to_string(), "127.0.0.1:9080");
        assert_eq!(config.http_cors, Cors::AnyMayRead);
    }

    #[test]
    fn a_platforms_port_is_served_on_every_interface_unless_an_address_is_given() {
        let settings = |listen: Option<&str>| Settings {
            http_port: Some(5000),
            http_listen: listen.map(|text| text.parse().unwrap()),
            ..Settings::default()
        };
        let address = |settings| {
            let config = Config::resolve(settings, &Common::new("data")).unwrap();
            config.http_listen.to_string()
        };
        assert_eq!(address(settings(None)), "0.0.0.0:5000");
        assert_eq!(address(settings(Some("127.0.0.1:7"))), "127.0.0.1:7");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let settings = Settings {
            http_max_body: Some(ByteSize(0)),
            http_max_requests: Some(0),
            http_timeout: Some(HumanDuration::from_secs(0)),
            http_cors: Some("maps.example.org".to_owned()),
            ..Settings::default()
        };
        let problems = Config::resolve(settings, &Common::new("data")).unwrap_err();
        let named: Vec<_> = problems.iter().map(|p| p.setting.as_str()).collect();
        assert_eq!(
            named,
            [
                "http_max_requests",
                "http_max_body",
                "http_timeout",
                "http_cors"
            ]
        );
    }
}
