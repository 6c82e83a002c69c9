//! Asking the API as any client would, from code that is not async.

use anyhow::{Context as _, Result};
use serde_json::Value;

use std::time::Duration;

/// A client of one server.
#[derive(Debug)]
pub struct Http {
    base: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

/// A status code and the body as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Reads the body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body)
            .with_context(|| format!("status {}, body {:?} is no JSON", self.status, self.body))
    }
}

impl Http {
    /// Makes a client of the server at `address` (`host:port`).
    ///
    /// # Errors
    /// When the runtime cannot be made.
    pub fn new(address: &str) -> Result<Self> {
        Ok(Self {
            base: format!("http://{address}"),
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(30))
                // Servers are killed here; a kept connection would belong to a dead one.
                .pool_max_idle_per_host(0)
                .build()?,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
        })
    }

    /// Gets `path`, which begins with `/`.
    ///
    /// # Errors
    /// When no complete answer comes.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.client.get(format!("{}{path}", self.base)))
    }

    /// Posts JSON to `path`.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.client.post(format!("{}{path}", self.base)).json(body))
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        self.runtime.block_on(async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let body = response.text().await?;
            Ok(Answer { status, body })
        })
    }

    /// Gets JSON from `path`; any status but 200 is an error.
    ///
    /// # Errors
    /// As [`Http::get`], and when the status is not 200 or the body no JSON.
    pub fn json(&self, path: &str) -> Result<Value> {
        let answer = self.get(path)?;
        anyhow::ensure!(
            answer.status == 200,
            "GET {path} answered {}: {}",
            answer.status,
            answer.body
        );
        answer.json()
    }
}
