//! The publisher's binary against a real Mosquitto (skipped by name where none is installed) and
//! against an API of a page.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]
#![expect(clippy::print_stdout, reason = "a skipped test says so by name")]

#[path = "../../../crates/mqtt_client/tests/it/mosquitto.rs"]
mod mosquitto;
mod replay;
mod simulate;
mod verify;

use std::collections::HashSet;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before the test fails; nothing is measured against it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Starts the publisher with a JSON summary and nothing from the environment.
pub(crate) fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_publisher"))
        .env_clear()
        .args(arguments)
        .args(["--summary", "json", "--log", "warn"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) fn run(arguments: &[&str]) -> Finished {
    Finished::of(start(arguments).wait_with_output().unwrap())
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    /// The summary; null when there is none.
    pub(crate) summary: Value,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            summary: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn count(&self, field: &str) -> u64 {
        self.summary[field].as_u64().unwrap()
    }
}

/// Reads a ledger and checks that no line is there twice.
pub(crate) fn ledger(path: &Path) -> HashSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines: HashSet<_> = text.lines().map(str::to_owned).collect();
    assert_eq!(
        lines.len(),
        text.lines().count(),
        "a message was acknowledged twice"
    );
    lines
}

/// Waits until the ledger has its first lines.
pub(crate) fn wait_for_first_acks(path: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        assert!(Instant::now() < deadline, "nothing was acknowledged");
        std::thread::yield_now();
    }
}
