//! What is measured: our all-in-one program, or Debian's mosquitto beside it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use system_tests::pipeline::Pipeline;
use system_tests::process::{Launch, Process};
use system_tests::{mosquitto, poll, ports};
use tempfile::TempDir;

/// How long the absent subscriber may take to collect everything.
const COLLECT_PATIENCE: Duration = Duration::from_mins(3);

/// A kind of subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The all-in-one program with its defaults: every acknowledged message is on disk and stored.
    Lastmile,
    /// mosquitto with `persistence true` and its default save interval of 30 minutes.
    MosquittoPersistent,
    /// mosquitto with `persistence false`.
    MosquittoInMemory,
}

impl Kind {
    /// Every kind, in the order measured.
    pub(crate) const ALL: [Self; 3] = [
        Self::Lastmile,
        Self::MosquittoPersistent,
        Self::MosquittoInMemory,
    ];
}

/// A running subject on data of its own.
#[derive(Debug)]
pub(crate) enum Subject {
    /// Ours.
    Lastmile(Box<Pipeline>),
    /// The other.
    Mosquitto {
        /// The broker.
        process: Process,
        /// Where it listens.
        address: String,
        /// Its configuration and its data; goes with it.
        folder: TempDir,
    },
}

impl Subject {
    /// Starts one.
    pub(crate) fn start(kind: Kind, lastmile: &Path) -> Result<Self> {
        match kind {
            Kind::Lastmile => {
                let pipeline = Pipeline::start_program(lastmile, &["--log", "warn"])?;
                Ok(Self::Lastmile(Box::new(pipeline)))
            }
            Kind::MosquittoPersistent => start_keeping_mosquitto(true),
            Kind::MosquittoInMemory => start_keeping_mosquitto(false),
        }
    }

    /// Returns the address of its MQTT listener.
    pub(crate) fn mqtt(&self) -> Result<String> {
        match self {
            Self::Lastmile(pipeline) => pipeline.mqtt_address(),
            Self::Mosquitto { address, .. } => Ok(address.clone()),
        }
    }

    /// Returns the server's process.
    pub(crate) fn process(&mut self) -> &mut Process {
        match self {
            Self::Lastmile(pipeline) => pipeline.process(),
            Self::Mosquitto { process, .. } => process,
        }
    }

    /// Checks that a peer kept every message, by letting the absent subscriber come back for them; what
    /// ours kept has been read by then.
    pub(crate) fn until_kept(&self, messages: u64) -> Result<()> {
        let Self::Mosquitto {
            address, folder, ..
        } = self
        else {
            return Ok(());
        };
        let (_, port) = address.rsplit_once(':').context("an address has a port")?;
        Launch::of("keeper", "mosquitto_sub", folder.path())
            .args([
                "-p", port, "-i", "keeper", "-c", "-q", "1", "-t", "#", "-F", ".",
            ])
            .args(["-C", &messages.to_string(), "-W", "120"])
            .run(COLLECT_PATIENCE)?
            .success()
            .context("mosquitto did not keep every message it acknowledged")?;
        Ok(())
    }

    /// Returns our pipeline, `None` for a peer: it stores nothing that could be read.
    pub(crate) fn pipeline(&self) -> Option<&Pipeline> {
        match self {
            Self::Lastmile(pipeline) => Some(pipeline),
            Self::Mosquitto { .. } => None,
        }
    }
}

/// Starts mosquitto on a port of its own and waits until it listens.
pub(super) fn start_mosquitto(folder: &Path, persistence: bool) -> Result<(Process, u16)> {
    let port = ports::free_base()? + 1883;
    let process = mosquitto::launch(folder, port, persistence)?
        .start()
        .context("mosquitto is needed for the comparison; run tools/install.sh as root")?;
    poll::until("mosquitto to listen", poll::PATIENCE, || {
        Ok((!ports::is_free(port)).then_some(()))
    })?;
    Ok((process, port))
}

/// Starts mosquitto and makes it keep every message: without a session to keep them for it would
/// acknowledge and forget, which is no work to compare with.
fn start_keeping_mosquitto(persistence: bool) -> Result<Subject> {
    let folder = TempDir::with_prefix("lastmile-bench-")?;
    let (process, port) = start_mosquitto(folder.path(), persistence)?;
    let port_text = port.to_string();
    Launch::of("keeper", "mosquitto_sub", folder.path())
        .args([
            "-p", &port_text, "-i", "keeper", "-c", "-q", "1", "-t", "#", "-E",
        ])
        .run(poll::PATIENCE)?
        .success()?;
    Ok(Subject::Mosquitto {
        process,
        address: format!("127.0.0.1:{port}"),
        folder,
    })
}
