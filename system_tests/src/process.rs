//! One program under test: started, waited for, ended; never left running.
//!
//! Invariant: when a [`Process`] is dropped its program is dead and reaped, however the test ended.
//! Standard error goes to a file, so that a chatty program never blocks on us and a failed test can
//! show what it said. Standard output is read by a thread of its own for the same reason.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal};

use crate::{binaries, poll};

/// What the ready line begins with.
const READY: &str = "READY ";

/// Lines of standard output kept until somebody asks; more are read and dropped.
const KEPT_LINES: usize = 10_000;

/// Bytes of standard error shown when a program disappoints.
const SHOWN_BYTES: usize = 6_000;

/// A program to be started, with its arguments and the folder of its log.
#[derive(Debug)]
pub struct Launch {
    name: String,
    command: Command,
    log_folder: PathBuf,
    stdin: Option<String>,
}

/// What the ready line said.
#[derive(Debug, Clone)]
pub struct Ready(pub serde_json::Value);

impl Ready {
    /// Returns the address bound under `name`, for example `mqtt`.
    ///
    /// # Errors
    /// When the line has none of that name.
    pub fn address(&self, name: &str) -> Result<String> {
        self.0[name]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("the ready line names no {name}: {}", self.0))
    }
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Launch {
    /// Prepares a program of this workspace; its log goes to `log_folder`.
    ///
    /// # Errors
    /// When the program cannot be built.
    pub fn new(program: &str, log_folder: &Path) -> Result<Self> {
        Ok(Self::of(program, binaries::path(program)?, log_folder))
    }

    /// Prepares any executable under a name of its own.
    pub fn of(name: &str, executable: impl AsRef<OsStr>, log_folder: &Path) -> Self {
        let mut command = Command::new(executable);
        command.current_dir(binaries::workspace_root());
        // A developer's own settings must not reach the programs under test.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LASTMILE_") {
                command.env_remove(name);
            }
        }
        // The same for the customary name of a database.
        command.env_remove("MONGODB_URI");
        Self {
            name: name.to_owned(),
            command,
            log_folder: log_folder.to_path_buf(),
            stdin: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    /// Gives the program this text as its standard input; without, it is empty.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    /// When its log cannot be opened or it cannot be run.
    pub fn start(mut self) -> Result<Process> {
        std::fs::create_dir_all(&self.log_folder)?;
        let log = self.log_folder.join(format!("{}.stderr", self.name));
        let file = OpenOptions::new().create(true).append(true).open(&log)?;
        let mut child = self
            .command
            .stdin(match self.stdin {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        if let (Some(text), Some(mut stdin)) = (self.stdin, child.stdin.take()) {
            // On a thread of its own: the program may write before it has read everything. The write
            // fails when the program ends early, which its exit status tells better.
            std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
        }
        Ok(Process {
            lines: read_lines(stdout),
            name: self.name,
            child,
            log,
        })
    }

    /// Starts the program and waits for its ready line.
    ///
    /// # Errors
    /// When it ends first, or is not ready within [`poll::PATIENCE`].
    pub fn start_ready(self) -> Result<(Process, Ready)> {
        let mut process = self.start()?;
        let ready = process.ready()?;
        Ok((process, ready))
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// When it cannot be run or does not end within `patience`; it is then killed.
    pub fn run(self, patience: Duration) -> Result<Finished> {
        self.start()?.finish(patience)
    }
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, with that of earlier runs in the same log folder before it.
    pub stderr: String,
}

impl Finished {
    /// Returns itself when the program exited with 0.
    ///
    /// # Errors
    /// Otherwise, with what the program said.
    pub fn success(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        bail!(
            "ended with {}\nstdout: {}\nstderr: {}",
            self.status,
            tail(&self.stdout),
            tail(&self.stderr)
        )
    }

    /// Reads the last line of standard output as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        let text = self.stdout.trim();
        serde_json::from_str(text)
            .or_else(|_| serde_json::from_str(text.lines().next_back().unwrap_or_default()))
            .with_context(|| format!("no JSON on standard output: {text:?}"))
    }
}

impl Process {
    /// Returns the program's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the ready line and returns what it says.
    ///
    /// # Errors
    /// When the program ends first, or is not ready within [`poll::PATIENCE`].
    pub fn ready(&mut self) -> Result<Ready> {
        let line = self.line_that(READY, |line| line.starts_with(READY))?;
        let json = line.strip_prefix(READY).unwrap_or_default();
        let value = serde_json::from_str(json)
            .with_context(|| format!("the ready line is no JSON: {line}"))?;
        Ok(Ready(value))
    }

    /// Tells whether the program still runs.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Kills the program (SIGKILL) and reaps it.
    ///
    /// # Errors
    /// When it cannot be reaped.
    pub fn kill(&mut self) -> Result<()> {
        // Fails only when the program is gone already, which is what is wanted.
        drop(self.child.kill());
        self.child.wait()?;
        Ok(())
    }

    /// Waits for a line of standard output that contains `sign` and returns it.
    ///
    /// # Errors
    /// When the program ends first, or says no such thing within [`poll::PATIENCE`].
    pub fn until_line(&mut self, sign: &str) -> Result<String> {
        self.line_that(sign, |line| line.contains(sign))
    }

    fn line_that(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = std::time::Instant::now() + poll::PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if is_it(&line) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.complaint(&format!("did not say {what:?} in time")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.wait(poll::PATIENCE)?;
                    return Err(
                        self.complaint(&format!("ended with {status} before it said {what:?}"))
                    );
                }
            }
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the program has been reaped.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        let pid = Pid::from_raw(pid).context("a process id is not 0")?;
        rustix::process::kill_process(pid, signal)
            .with_context(|| format!("cannot send {signal:?} to {}", self.name))
    }

    /// Asks the program to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// When it does not end within [`poll::PATIENCE`].
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(poll::PATIENCE)
    }

    /// Waits for the program to end by itself.
    ///
    /// # Errors
    /// When it does not within `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        let waited = poll::until("its end", patience, || Ok(child.try_wait()?));
        waited.map_err(|error| self.complaint(&format!("{error:#}")))
    }

    /// Waits for the program to end by itself and returns all it said.
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub fn finish(mut self, patience: Duration) -> Result<Finished> {
        let deadline = std::time::Instant::now() + patience;
        let mut stdout = String::new();
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    stdout.push_str(&line);
                    stdout.push('\n');
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.complaint(&format!("did not end within {patience:?}")));
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.wait(poll::PATIENCE)?;
        Ok(Finished {
            status,
            stdout,
            stderr: self.stderr(),
        })
    }

    /// Returns a line of standard output, `None` when none came within `patience` or it is closed.
    pub fn line(&self, patience: Duration) -> Option<String> {
        self.lines.recv_timeout(patience).ok()
    }

    /// Returns what the program has written to standard error.
    pub fn stderr(&self) -> String {
        std::fs::read(&self.log).map_or_else(
            |error| format!("cannot read {}: {error}", self.log.display()),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    fn complaint(&self, what: &str) -> anyhow::Error {
        anyhow!("{} {what}; it said:\n{}", self.name, tail(&self.stderr()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the program is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the end of a text.
fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(SHOWN_BYTES);
    let start = (start..text.len())
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// Reads lines on a thread of its own until the pipe closes.
fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = sync_channel(KEPT_LINES);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Fails when nobody reads or the guard is gone; the program must not block on us.
            drop(sender.try_send(line));
        }
    });
    receiver
}
