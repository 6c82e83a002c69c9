//! Starts the example `probe` and reads what it says.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Returns a command for the probe, with no environment to surprise it and a port of the system's choice.
pub(crate) fn probe(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("LASTMILE_PROBE_LISTEN", "127.0.0.1:0")
        .args(arguments);
    command
}

/// Runs the probe to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Cargo puts examples beside the folder of the tests.
fn binary() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.ancestors().nth(2).unwrap().join("examples/probe");
    assert!(
        path.exists(),
        "run `cargo test -p service`, which builds it"
    );
    path
}

/// A probe that is ready. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: String,
}

/// How a probe ended.
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    /// Starts it and waits for the ready line.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = probe(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready: serde_json::Value =
            serde_json::from_str(line.strip_prefix("READY ").unwrap_or("null")).unwrap();
        assert_eq!(ready["service"], "probe", "{line}");
        Self {
            child,
            stdout,
            address: ready["http"].as_str().unwrap().to_owned(),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Reads its stdout until `line` comes.
    pub(crate) fn wait_for_line(&mut self, line: &str) {
        let mut read = String::new();
        while read.trim_end() != line {
            read.clear();
            assert_ne!(self.stdout.read_line(&mut read).unwrap(), 0, "no {line}");
        }
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> End {
        use std::os::unix::process::ExitStatusExt;
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).unwrap();
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        End {
            code: status.code(),
            signal: status.signal(),
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
