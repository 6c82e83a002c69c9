//! What every component is given.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{Clock, Health, Metrics, SystemClock, Tasks};

/// Tasks, clock, health and metrics of this process. Cheap to clone; all clones share them.
#[derive(Debug, Clone)]
pub struct Context {
    /// Spawns components and stops them in order.
    pub tasks: Tasks,
    /// Tells the time of day.
    pub clock: Arc<dyn Clock>,
    /// Collects whether components are ready.
    pub health: Health,
    /// Collects metrics.
    pub metrics: Metrics,
}

impl Context {
    /// Makes a context with the given clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            tasks: Tasks::new(),
            metrics: Metrics::new(clock.as_ref()),
            health: Health::default(),
            clock,
        }
    }

    /// Makes a context with the system's clock, outside [`crate::main`]; stop it with [`Tasks::stop`].
    pub fn for_tests() -> Self {
        Self::new(Arc::new(SystemClock))
    }

    /// Prints the ready line with the addresses that were bound, and turns `/readyz` to 200.
    ///
    /// The line is `READY {"service":"broker","mqtt":"127.0.0.1:1883"}` on stdout: what starts this process
    /// reads it to learn the ports. A program that never announces is taken for one that works once and
    /// ends; see [`crate::Program::run`].
    pub fn announce_ready(&self, service: &str, addresses: &[(&str, SocketAddr)]) {
        let mut fields = Map::new();
        fields.insert("service".to_owned(), Value::from(service));
        for (name, address) in addresses {
            fields.insert((*name).to_owned(), Value::from(address.to_string()));
        }
        let line = Value::Object(fields);
        self.health.announce();
        tracing::info!(addresses = %line, "ready");
        let mut stdout = io::stdout().lock();
        let written = writeln!(stdout, "READY {line}").and_then(|()| stdout.flush());
        if let Err(error) = written {
            tracing::warn!(%error, "the ready line could not be written to stdout");
        }
    }
}
