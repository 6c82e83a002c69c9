//! The all-in-one program on a folder and ports of its own, which it keeps when it is killed and started
//! again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::http::Http;
use crate::process::{Launch, Process, Ready};
use crate::{poll, ports};

/// The running pipeline.
#[derive(Debug)]
pub struct Pipeline {
    folder: TempDir,
    program: PathBuf,
    args: Vec<String>,
    process: Process,
    ready: Ready,
    http: Http,
}

/// What the status page counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stored positions, those of fleet events included.
    pub positions: u64,
    /// Stored fleet events.
    pub fleet_events: u64,
    /// Dead letters.
    pub rejected: u64,
}

impl Pipeline {
    /// Starts the development binary with further arguments and without its scheduled offload.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(args: &[&str]) -> Result<Self> {
        Self::start_program(&crate::binaries::path("lastmile")?, args)
    }

    /// Starts a given executable with further arguments.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_program(program: &Path, args: &[&str]) -> Result<Self> {
        let folder = TempDir::with_prefix("lastmile-test-")?;
        let base = ports::free_base()?;
        let data = folder.path().join("data");
        let mut all = vec![
            "--data".to_owned(),
            data.to_string_lossy().into_owned(),
            "--port-base".to_owned(),
            base.to_string(),
            // The offload has tests of its own; here it would only come and go with the minute.
            "--lake-schedule".to_owned(),
            "off".to_owned(),
        ];
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        let (process, ready) = launch(program, &all, folder.path())?;
        let http = Http::new(&ready.address("http")?)?;
        Ok(Self {
            folder,
            program: program.to_path_buf(),
            args: all,
            process,
            ready,
            http,
        })
    }

    /// Starts the program again on the same data and ports; returns how long it took to be ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn restart(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let (process, ready) = launch(&self.program, &self.args, self.folder.path())?;
        self.process = process;
        self.ready = ready;
        Ok(start.elapsed())
    }

    /// Kills the program (SIGKILL) and starts it again; returns how long it took to be ready.
    ///
    /// # Errors
    /// As [`Pipeline::restart`].
    pub fn kill_and_restart(&mut self) -> Result<Duration> {
        self.process.kill()?;
        self.restart()
    }

    /// Returns the running program.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Returns the folder of data, which `--data` names.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns a folder for logs and files of the test; it goes with the pipeline.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the API's client.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Returns the API's address.
    ///
    /// # Errors
    /// When the ready line does not name it.
    pub fn http_address(&self) -> Result<String> {
        self.ready.address("http")
    }

    /// Returns the address of the MQTT listener.
    ///
    /// # Errors
    /// When the ready line does not name it.
    pub fn mqtt_address(&self) -> Result<String> {
        self.ready.address("mqtt")
    }

    /// Returns the port of the MQTT listener, as text for a command line.
    ///
    /// # Errors
    /// When the ready line does not name it.
    pub fn mqtt_port(&self) -> Result<String> {
        let address = self.mqtt_address()?;
        let (_, port) = address.rsplit_once(':').context("an address has a port")?;
        Ok(port.to_owned())
    }

    /// Returns what the status page counts.
    ///
    /// # Errors
    /// When the API does not answer.
    pub fn counts(&self) -> Result<Counts> {
        counts(&self.http)
    }

    /// Waits until the status page counts `expected`.
    ///
    /// # Errors
    /// When it does not within `patience`.
    pub fn until_counts(&self, expected: Counts, patience: Duration) -> Result<()> {
        poll::until_equal("the stored counts", patience, &expected, || self.counts())
    }
}

/// Returns what the status page of an API counts.
///
/// # Errors
/// When it does not answer, or not with numbers.
pub fn counts(http: &Http) -> Result<Counts> {
    let status = http.json("/api/v1/status")?;
    let number = |name: &str| {
        let value = status[name].as_u64();
        value.with_context(|| format!("no {name} in the status {status}"))
    };
    Ok(Counts {
        positions: number("positions")?,
        fleet_events: number("fleet_events")?,
        rejected: number("rejected")?,
    })
}

fn launch(program: &Path, args: &[String], folder: &Path) -> Result<(Process, Ready)> {
    Launch::of("lastmile", program, folder)
        .args(args)
        .start_ready()
}
