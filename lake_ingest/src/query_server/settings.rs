//! Settings of queries over HTTP.

use std::net::SocketAddr;

use clap::Args;
use serde::{Deserialize, Serialize};
use service::{ByteSize, HumanDuration, ListenAddr, Problems, Secret};

/// Shortest token: 16 characters of a generator's are not guessed over a network.
const SHORTEST_TOKEN: usize = 16;

/// What may be set for queries over HTTP.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "lake_query")]
#[expect(
    clippy::struct_field_names,
    reason = "fields are named as their flags, and these stand beside those of other parts"
)]
pub struct QuerySettings {
    /// Address to answer SQL queries on over HTTP (POST /v1/query), while running on the schedule. One that other
    /// machines reach needs --query-token [default: none, no queries over HTTP]
    #[arg(
        long,
        env = "LASTMILE_QUERY_LISTEN",
        value_name = "ADDRESS",
        help_heading = "Queries over HTTP"
    )]
    pub query_listen: Option<ListenAddr>,
    /// What whoever asks must send as `Authorization: Bearer TOKEN`; 16 characters or more [default: none]
    #[arg(
        long,
        env = "LASTMILE_QUERY_TOKEN",
        value_name = "TOKEN",
        help_heading = "Queries over HTTP"
    )]
    pub query_token: Option<Secret<String>>,
    /// Longest time a query may take, 504 after that [default: 30s]
    #[arg(
        long,
        env = "LASTMILE_QUERY_TIMEOUT",
        value_name = "DURATION",
        help_heading = "Queries over HTTP"
    )]
    pub query_timeout: Option<HumanDuration>,
    /// Most rows of an answer, 1 to 1000000; it says when there were more [default: 10000]
    #[arg(
        long,
        env = "LASTMILE_QUERY_MAX_ROWS",
        value_name = "N",
        help_heading = "Queries over HTTP"
    )]
    pub query_max_rows: Option<usize>,
    /// Most bytes of an answer, whole rows; it says when there were more [default: 16MiB]
    #[arg(
        long,
        env = "LASTMILE_QUERY_MAX_ANSWER",
        value_name = "SIZE",
        help_heading = "Queries over HTTP"
    )]
    pub query_max_answer: Option<ByteSize>,
    /// Memory of one query for sorts, joins and aggregations, 422 beyond it; nothing goes to disk. Its process may
    /// have twice that and 512MiB in all [default: 256MiB]
    #[arg(
        long,
        env = "LASTMILE_QUERY_MEMORY",
        value_name = "SIZE",
        help_heading = "Queries over HTTP"
    )]
    pub query_memory: Option<ByteSize>,
    /// Queries answered at a time, 1 to 64; more are refused with 503. Each is a process of its own [default: 2]
    #[arg(
        long,
        env = "LASTMILE_QUERY_CONCURRENCY",
        value_name = "N",
        help_heading = "Queries over HTTP"
    )]
    pub query_concurrency: Option<usize>,
}

/// What holds for queries over HTTP.
#[derive(Debug, Clone, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "fields are named as their flags, and these stand beside those of other parts"
)]
pub struct QueryConfig {
    /// Where they are answered; nowhere without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_listen: Option<SocketAddr>,
    /// What whoever asks must know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_token: Option<Secret<String>>,
    /// Longest time of one.
    pub query_timeout: HumanDuration,
    /// Most rows of an answer.
    pub query_max_rows: usize,
    /// Most bytes of an answer.
    pub query_max_answer: ByteSize,
    /// The engine's memory for one.
    pub query_memory: ByteSize,
    /// How many at a time.
    pub query_concurrency: usize,
}

impl QuerySettings {
    /// Applies defaults and checks everything.
    pub(crate) fn resolve(self, problems: &mut Problems) -> QueryConfig {
        let listen = self.query_listen.map(|ListenAddr(address)| address);
        let token = self.query_token.filter(|token| !token.expose().is_empty());
        let length = token.as_ref().map(|token| token.expose().len());
        if length.is_some_and(|length| length < SHORTEST_TOKEN) {
            problems.add(
                "query.query_token",
                format!("is short; give {SHORTEST_TOKEN} characters or more"),
            );
        }
        if let Some(address) = listen
            && token.is_none()
            && !address.ip().is_loopback()
        {
            problems.add(
                "query.query_listen",
                format!("is {address}, which other machines may reach; give query_token as well"),
            );
        }
        let mut within = |name: &str, value: u64, least: u64, most: u64, expected: &str| {
            if !(least..=most).contains(&value) {
                problems.add(format!("query.{name}").as_str(), expected);
            }
        };
        let config = QueryConfig {
            query_listen: listen,
            query_token: token,
            query_timeout: self.query_timeout.unwrap_or(HumanDuration::from_secs(30)),
            query_max_rows: self.query_max_rows.unwrap_or(10_000),
            query_max_answer: self.query_max_answer.unwrap_or(ByteSize::mib(16)),
            query_memory: self.query_memory.unwrap_or(ByteSize::mib(256)),
            query_concurrency: self.query_concurrency.unwrap_or(2),
        };
        let time = config.query_timeout.as_duration().as_millis();
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        within("query_timeout", time, 1, 3_600_000, "give 1ms to 1h");
        let rows = config.query_max_rows as u64;
        within("query_max_rows", rows, 1, 1_000_000, "give 1 to 1000000");
        let answer = config.query_max_answer.as_u64();
        within(
            "query_max_answer",
            answer,
            1 << 10,
            1 << 30,
            "give 1KiB to 1GiB",
        );
        let memory = config.query_memory.as_u64();
        within(
            "query_memory",
            memory,
            1 << 20,
            1 << 40,
            "give 1MiB to 1TiB",
        );
        let concurrency = config.query_concurrency as u64;
        within("query_concurrency", concurrency, 1, 64, "give 1 to 64");
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(settings: QuerySettings) -> String {
        let mut problems = Problems::new();
        settings.resolve(&mut problems);
        problems.to_string()
    }

    #[test]
    fn nothing_is_served_unless_asked_for() {
        let mut problems = Problems::new();
        let config = QuerySettings::default().resolve(&mut problems);
        assert!(problems.is_empty() && config.query_listen.is_none());
    }

    #[test]
    fn what_other_machines_reach_needs_a_token() {
        let settings = |listen: &str, token: Option<&str>| QuerySettings {
            query_listen: Some(listen.parse().unwrap()),
            query_token: token.map(|token| Secret::new(token.to_owned())),
            ..QuerySettings::default()
        };
        let token = "0123456789abcdef";
        for listen in ["127.0.0.1:9105", "[::1]:9105", "9105"] {
            assert_eq!(problems(settings(listen, None)), "");
        }
        for listen in ["0.0.0.0:9105", ":9105", "10.0.0.1:9105"] {
            assert!(problems(settings(listen, None)).contains("query_token"));
            assert!(problems(settings(listen, Some(""))).contains("query_token"));
            assert_eq!(problems(settings(listen, Some(token))), "");
        }
        let short = problems(settings("9105", Some("hunter2")));
        assert!(short.contains("16 characters") && !short.contains("hunter2"));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let problems = problems(QuerySettings {
            query_timeout: Some(HumanDuration::from_secs(0)),
            query_max_rows: Some(0),
            query_max_answer: Some(ByteSize(1)),
            query_memory: Some(ByteSize(1)),
            query_concurrency: Some(65),
            ..QuerySettings::default()
        });
        for name in ["timeout", "max_rows", "max_answer", "memory", "concurrency"] {
            assert!(problems.contains(&format!("query_{name}")), "{problems}");
        }
    }
}
