//! The `publisher` program as the tests use it: its burst, its ledger, what it prints.
//!
//! The ledger is the client's own record of what the server acknowledged: one JSON object per line with
//! the identity of a position.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::process::{Finished, Launch};

/// Deliverers of a burst; a connection serves at least one.
const WORKERS: u32 = 50;

/// A burst of simulated positions.
#[derive(Debug, Clone)]
pub struct Burst {
    /// The broker, `host:port`, or its whole address.
    pub mqtt: String,
    /// How many messages.
    pub messages: u64,
    /// Over how many connections.
    pub connections: u32,
    /// Where acknowledged messages are recorded.
    pub ledger: Option<PathBuf>,
    /// Messages per second; as fast as possible without.
    pub rate: Option<u32>,
}

impl Burst {
    /// Prepares the program that sends it.
    pub fn launch(&self, publisher: &Path, log_folder: &Path) -> Launch {
        let scheme = if self.mqtt.contains("://") {
            ""
        } else {
            "mqtt://"
        };
        let mut launch = Launch::of("publisher", publisher, log_folder)
            .args(["--burst", &self.messages.to_string()])
            .args(["--mqtt", &format!("{scheme}{}", self.mqtt)])
            .args(["--connections", &self.connections.to_string()])
            .args(["--workers", &self.connections.max(WORKERS).to_string()])
            .args(["--log", "warn", "--summary", "json"]);
        if let Some(ledger) = &self.ledger {
            launch = launch.arg("--ledger").arg(ledger);
        }
        if let Some(rate) = self.rate {
            launch = launch.args(["--rate", &rate.to_string()]);
        }
        launch
    }
}

/// What a finished publisher says of itself; more fields than these are printed.
#[derive(Debug, Clone, Deserialize)]
pub struct Summary {
    /// Messages acknowledged.
    pub acked: u64,
    /// Seconds from the first connection to the last acknowledgement.
    pub elapsed_s: f64,
    /// Milliseconds from when each message was meant to be sent to its acknowledgement.
    pub ack_latency_ms: Quantiles,
}

/// Quantiles of a latency.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Quantiles {
    /// Half were faster.
    pub p50: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// 999 of 1000 were faster.
    #[serde(rename = "p99.9")]
    pub p99_9: f64,
}

impl Summary {
    /// Reads what a finished publisher printed.
    ///
    /// # Errors
    /// When it is not understood.
    pub fn read(finished: &Finished) -> Result<Self> {
        let json = finished.json()?;
        serde_json::from_value(json.clone())
            .with_context(|| format!("the publisher's summary is not understood: {json}"))
    }
}

/// A line of the ledger: what makes a position one and the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Identity {
    /// When the device was there, microseconds since the epoch.
    pub event_time_us: u64,
    /// The device's counter.
    pub seq: u64,
    /// The order.
    pub order_id: String,
    /// Who moves.
    pub deliverer_id: String,
}

impl Identity {
    /// Reads a ledger.
    ///
    /// # Errors
    /// When it cannot be read or a line is not understood.
    pub fn read_all(ledger: &Path) -> Result<Vec<Self>> {
        let file = File::open(ledger).with_context(|| format!("no {}", ledger.display()))?;
        let lines = BufReader::new(file).lines();
        lines
            .map(|line| {
                let line = line?;
                serde_json::from_str(&line).with_context(|| format!("ledger line {line:?}"))
            })
            .collect()
    }

    /// Returns the last position of some of the orders in a ledger, evenly chosen.
    ///
    /// # Errors
    /// As [`Identity::read_all`].
    pub fn last_of_orders(ledger: &Path, most: usize) -> Result<Vec<Self>> {
        let mut last: BTreeMap<String, Self> = BTreeMap::new();
        for identity in Self::read_all(ledger)? {
            let newest = last
                .entry(identity.order_id.clone())
                .or_insert(identity.clone());
            if identity > *newest {
                *newest = identity;
            }
        }
        let step = last.len().div_ceil(most.max(1)).max(1);
        Ok(last.into_values().step_by(step).collect())
    }
}

/// Prepares `publisher verify`, which asks the API for every line of a ledger.
pub fn verify(publisher: &Path, ledger: &Path, api: &str, log_folder: &Path) -> Launch {
    Launch::of("publisher-verify", publisher, log_folder)
        .args(["verify", "--api", api, "--ledger"])
        .arg(ledger)
}

/// Prepares `publisher replay`, which publishes the events of a door2door file. `--ledger` may be added.
pub fn replay(publisher: &Path, file: &Path, mqtt: &str, log_folder: &Path) -> Launch {
    Launch::of("publisher-replay", publisher, log_folder)
        .args(["--log", "warn", "replay"])
        .arg(file)
        .args(["--mqtt", &format!("mqtt://{mqtt}"), "--summary", "json"])
}
