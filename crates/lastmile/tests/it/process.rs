//! Starts the program on ports of the system's choice and asks it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// Returns a command for the program, with no environment to surprise it.
pub(crate) fn lastmile(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastmile"));
    command
        .env_clear()
        .arg("--data")
        .arg(data)
        .args(["--mqtt-listen", "127.0.0.1:0"])
        .args(["--http-listen", "127.0.0.1:0"])
        // The models have tests of their own.
        .args(["--lake-run-models", "false"])
        .args(arguments);
    command
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A program that is ready. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    http: String,
}

impl Running {
    /// Starts it and waits for the ready line.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut child = lastmile(data, arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: Value =
            serde_json::from_str(line.strip_prefix("READY ").unwrap_or("null")).unwrap();
        assert_eq!(ready["service"], "lastmile", "{line}");
        assert!(ready["mqtt"].is_string(), "{line}");
        let http = ready["http"].as_str().unwrap().to_owned();
        Self { child, http }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks for a path; the answer's status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.http)).await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Posts positions; the answer's status and body.
    pub(crate) async fn post(&self, body: String) -> (u16, String) {
        let request = reqwest::Client::new()
            .post(format!("http://{}/api/v1/locations", self.http))
            .header("content-type", "application/json")
            .body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Returns the number of stored positions.
    pub(crate) async fn stored(&self) -> u64 {
        let (status, body) = self.get("/api/v1/status").await;
        assert_eq!(status, 200, "{body}");
        let status: Value = serde_json::from_str(&body).unwrap();
        status["positions"].as_u64().unwrap()
    }

    /// Waits until as many positions are stored.
    pub(crate) async fn until_stored(&self, count: u64) {
        let begun = Instant::now();
        while self.stored().await != count {
            assert!(begun.elapsed() < PATIENCE, "{} stored", self.stored().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops it gracefully; its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Kills it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until `done` answers something.
pub(crate) async fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs the program to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}
