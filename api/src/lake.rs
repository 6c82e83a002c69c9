//! Who answers queries over the lake: a `lake_ingest` with an address for queries.
//!
//! Owns the settings and the way there. Invariants: this service knows nothing of SQL and holds no answer in memory;
//! what it was not told is off, and says so. It speaks HTTP without TLS: both stand in one network.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use clap::Args;
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};
use service::{ErrorChain, HumanDuration, Problems, Secret};

use crate::error::ApiError;

/// Longest time to a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time to read a request and to pass on an answer, beside the query's.
const MARGIN: Duration = Duration::from_secs(5);
/// Most bytes of an answer passed on: the most `lake_ingest` can be told to give, and its frame.
const MAX_ANSWER: u64 = (1 << 30) + (64 << 20);
/// Says whether there are more rows than the answer has.
pub(crate) const TRUNCATED: HeaderName = HeaderName::from_static("lastmile-truncated");

/// What may be set for queries over the lake.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "api_lake_query")]
#[expect(
    clippy::struct_field_names,
    reason = "fields are named as their flags, and these stand beside those of other parts"
)]
pub struct LakeSettings {
    /// URL of the `lake_ingest` that answers queries (its --query-listen), for POST /api/v1/lake/query
    /// [default: none, the route answers 501]
    #[arg(long, env = "LASTMILE_LAKE_QUERY", value_name = "URL")]
    pub lake_query: Option<String>,
    /// What that `lake_ingest` wants to be shown (its --query-token) [default: none]
    #[arg(long, env = "LASTMILE_QUERY_TOKEN", value_name = "TOKEN")]
    pub lake_query_token: Option<Secret<String>>,
    /// Longest time to the answer of a query, 504 after that; more than --query-timeout there, which knows
    /// better why [default: 60s]
    #[arg(long, env = "LASTMILE_LAKE_QUERY_TIMEOUT", value_name = "DURATION")]
    pub lake_query_timeout: Option<HumanDuration>,
}

/// What holds for queries over the lake.
#[derive(Debug, Clone, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "fields are named as their flags, and these stand beside those of other parts"
)]
pub struct LakeConfig {
    /// Who answers them; nobody without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lake_query: Option<String>,
    /// What that one wants to be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lake_query_token: Option<Secret<String>>,
    /// Longest time to an answer.
    pub lake_query_timeout: HumanDuration,
}

impl LakeSettings {
    /// Applies defaults and checks everything.
    pub(crate) fn resolve(self, problems: &mut Problems) -> LakeConfig {
        let url = self.lake_query.filter(|url| !url.is_empty());
        if url.as_deref().is_some_and(|url| endpoint(url).is_none()) {
            // Not repeated: it may hold a password.
            problems.add(
                "lake.lake_query",
                "is no URL of a lake_ingest; give for example http://127.0.0.1:9105 (not https: it speaks no TLS)",
            );
        }
        let timeout = self.lake_query_timeout;
        let timeout = timeout.unwrap_or(HumanDuration::from_secs(60));
        if timeout < HumanDuration::from_millis(1) || timeout > HumanDuration::from_secs(7_200) {
            let message = format!("is {timeout}; give 1ms to 2h");
            problems.add("lake.lake_query_timeout", message);
        }
        LakeConfig {
            lake_query: url,
            lake_query_token: self
                .lake_query_token
                .filter(|token| !token.expose().is_empty()),
            lake_query_timeout: timeout,
        }
    }
}

impl LakeConfig {
    /// Returns how long a request may take in all.
    pub(crate) fn longest(&self) -> Duration {
        self.lake_query_timeout.as_duration() + MARGIN
    }
}

/// Returns where queries go, for the address of a service.
fn endpoint(url: &str) -> Option<Url> {
    let mut url = Url::parse(url).ok()?;
    let plain = url.scheme() == "http"
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none();
    url.set_path("/v1/query");
    plain.then_some(url)
}

/// Asks who answers queries over the lake.
#[derive(Debug, Clone)]
pub(crate) struct Lake {
    client: Client,
    url: Url,
    token: Option<Secret<String>>,
}

impl Lake {
    /// Makes a client; `None` when nobody is to be asked.
    pub(crate) fn new(config: &LakeConfig) -> reqwest::Result<Option<Self>> {
        let Some(url) = config.lake_query.as_deref().and_then(endpoint) else {
            return Ok(None);
        };
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(config.lake_query_timeout.as_duration())
            .build()?;
        Ok(Some(Self {
            client,
            url,
            token: config.lake_query_token.clone(),
        }))
    }

    /// Has a query answered: `body` is of the type that `headers` say, the answer of the one they accept.
    ///
    /// # Errors
    /// [`ApiError::LakeUnavailable`] or [`ApiError::LakeTimeout`]; a query that is refused is an answer.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection, which ends the query.
    pub(crate) async fn ask(&self, headers: &HeaderMap, body: Bytes) -> Result<Response, ApiError> {
        let mut request = self.client.post(self.url.clone()).body(body);
        for name in [CONTENT_TYPE, ACCEPT] {
            if let Some(value) = headers.get(&name) {
                request = request.header(name, value);
            }
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let answer = request.send().await.map_err(|error| {
            tracing::warn!(error = %ErrorChain(&error), "the lake was not heard from");
            if error.is_timeout() && !error.is_connect() {
                ApiError::LakeTimeout
            } else {
                ApiError::LakeUnavailable
            }
        })?;
        passed_on(answer)
    }
}

/// Passes an answer on as it comes, if it is one to a client's query.
fn passed_on(answer: reqwest::Response) -> Result<Response, ApiError> {
    let status = answer.status();
    let sent = answer.headers().clone();
    let is_problem = sent
        .get(CONTENT_TYPE)
        .is_some_and(|media_type| media_type == "application/problem+json");
    // These are about how it is asked, which is not the client's doing.
    let ours = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED,
    ];
    let bounded = answer.content_length().is_some_and(|it| it <= MAX_ANSWER);
    if !bounded || (status != StatusCode::OK && (!is_problem || ours.contains(&status))) {
        tracing::error!(
            %status,
            "what is asked about the lake answers as no lake_ingest does; check lake_query and lake_query_token"
        );
        return Err(ApiError::LakeUnavailable);
    }
    let mut response = Response::new(Body::from_stream(answer.bytes_stream()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for name in [CONTENT_TYPE, CONTENT_LENGTH, RETRY_AFTER, TRUNCATED] {
        if let Some(value) = sent.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_inside_the_network_is_taken() {
        let resolve = |url: &str| {
            let mut problems = Problems::new();
            let settings = LakeSettings {
                lake_query: Some(url.to_owned()),
                ..LakeSettings::default()
            };
            let config = settings.resolve(&mut problems);
            (config.lake_query, problems.to_string())
        };
        let (url, problems) = resolve("http://lake_ingest:9105");
        assert_eq!(
            (url.as_deref(), &*problems),
            (Some("http://lake_ingest:9105"), "")
        );
        assert_eq!(resolve("http://[::1]:9105/").1, "");
        assert_eq!(resolve(""), (None, String::new()));
        for wrong in [
            "127.0.0.1:9105",
            "https://lake:9105",
            "http://lake:9105/v1/query",
            "http://ann:hunter2@lake:9105",
            "http://",
        ] {
            let problems = resolve(wrong).1;
            assert!(problems.contains("lake_query"), "{wrong}");
            assert!(!problems.contains("hunter2"), "{problems}");
        }
    }
}
