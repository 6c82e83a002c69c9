//! The service in the background: started, stopped and looked at by its data folder.
//!
//! Owns `run/lake_ingest.pid` and `logs/lake_ingest.log` below the data folder.
//!
//! Invariant: whether it runs is told by a lock on the pid file, which the system takes away when the process ends,
//! however it ends. So a pid file that was left behind means nothing, and the number in it is never believed of
//! another process that has it now. The file is never removed, since two processes could lock two files of one name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use service::{BoxError, Context};

use crate::logs;

/// How often something is looked at that is waited for.
const MOMENT: Duration = Duration::from_millis(50);
/// How long a start may take: binding an address, nothing that waits for others.
const START_TIME: Duration = Duration::from_secs(30);
/// A log longer than this is moved aside by the next start.
const MAX_LOG_BYTES: u64 = 16 << 20;

/// The service of a data folder.
#[derive(Debug)]
pub(crate) struct Background {
    data: PathBuf,
}

/// What the pid file of a running service says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Running {
    /// The process; 0 in the moment before it is written.
    pub(crate) pid: u32,
    /// Where health and metrics are served, once they are.
    pub(crate) admin: Option<String>,
}

/// Holds the pid file's lock while it lives.
#[derive(Debug)]
pub(crate) struct Held(File);

impl Background {
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.data.join("run/lake_ingest.pid")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.data.join("logs/lake_ingest.log")
    }

    /// Looks whether it runs.
    pub(crate) fn running(&self) -> io::Result<Option<Running>> {
        let file = match File::open(self.pid_file()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => {
                let text = io::read_to_string(&file)?;
                let mut lines = text.lines();
                let pid = lines.next().and_then(|line| line.parse().ok());
                Ok(Some(Running {
                    pid: pid.unwrap_or_default(),
                    admin: lines.next().map(str::to_owned),
                }))
            }
        }
    }

    /// Takes the lock, for the service itself.
    pub(crate) async fn hold(&self) -> Result<Held, BoxError> {
        fs::create_dir_all(self.data.join("run"))?;
        let path = self.pid_file();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        let deadline = Instant::now() + Duration::from_secs(2);
        // Who only looks whether it runs has the lock for a moment, too.
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(error.into()),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err("another one runs with this data folder".into());
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(MOMENT).await,
            }
        }
        let mut held = Held(file);
        held.write(&format!("{}\n", std::process::id()))?;
        Ok(held)
    }

    /// Starts the service, and returns when it is ready.
    pub(crate) async fn start(&self, context: &Context) -> Result<Running, BoxError> {
        if let Some(running) = self.running()? {
            let pid = running.pid;
            return Err(format!("it already runs, as process {pid}; stop it first").into());
        }
        fs::create_dir_all(self.data.join("logs"))?;
        let log = self.log_file();
        let is_long = fs::metadata(&log).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES);
        if is_long {
            fs::rename(&log, log.with_extension("log.1"))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let begun = log.metadata()?.len();
        let mut child = Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .arg("--here")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // What a terminal sends to its foreground, such as Ctrl-C, is not for it.
            .process_group(0)
            .spawn()?;
        self.ready(&mut child, context)
            .await
            .map_err(|what| self.why_not(what, begun))
    }

    async fn ready(&self, child: &mut Child, context: &Context) -> Result<Running, String> {
        let deadline = Instant::now() + START_TIME;
        loop {
            let running = self.running().map_err(|error| error.to_string())?;
            if let Some(running) = running.filter(|running| running.pid == child.id())
                && running.admin.is_some()
            {
                return Ok(running);
            }
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                return Err(format!("it ended at once, with {status}"));
            }
            if Instant::now() >= deadline || context.tasks.is_stopping() {
                return Err(match child.kill() {
                    Ok(()) => "it was not ready in time and was ended".to_owned(),
                    Err(error) => {
                        format!("it was not ready in time and could not be ended: {error}")
                    }
                });
            }
            tokio::time::sleep(MOMENT).await;
        }
    }

    /// Adds what the service said to why it does not run.
    fn why_not(&self, what: String, begun: u64) -> BoxError {
        let said = File::open(self.log_file()).and_then(|mut log| {
            log.seek(SeekFrom::Start(begun))?;
            let mut said = String::new();
            log.take(64 << 10).read_to_string(&mut said)?;
            Ok(said)
        });
        match said {
            Ok(said) if !said.trim().is_empty() => format!("{what}. It said:\n{}", said.trim()),
            _ => what,
        }
        .into()
    }

    /// Asks the service to end and waits for it; `None` when it did not run.
    pub(crate) async fn stop(&self, patience: Duration) -> Result<Option<u32>, BoxError> {
        let deadline = Instant::now() + patience;
        let mut asked = None;
        while let Some(running) = self.running()? {
            if asked.is_none()
                && let Some(pid) = i32::try_from(running.pid).ok().and_then(Pid::from_raw)
            {
                kill_process(pid, Signal::TERM)?;
                asked = Some(running.pid);
            }
            if Instant::now() >= deadline {
                let pid = running.pid;
                return Err(format!("process {pid} did not end within {patience:?}").into());
            }
            tokio::time::sleep(MOMENT).await;
        }
        Ok(asked)
    }

    /// Prints the log's last lines, and goes on when `follow` is set until a stop is asked for.
    pub(crate) async fn logs(
        &self,
        lines: usize,
        follow: bool,
        context: &Context,
    ) -> Result<(), BoxError> {
        logs::print(&self.log_file(), lines, follow, context).await
    }
}

impl Held {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        self.0.write_all(text.as_bytes())
    }

    /// Says that the service is ready.
    pub(crate) fn is_ready(&mut self, admin: SocketAddr) -> io::Result<()> {
        self.write(&format!("{}\n{admin}\n", std::process::id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_lock_means_that_it_runs() {
        let data = tempfile::tempdir().unwrap();
        let background = Background::new(data.path());
        assert_eq!(background.running().unwrap(), None);
        let mut held = background.hold().await.unwrap();
        held.is_ready(SocketAddr::from(([127, 0, 0, 1], 9104)))
            .unwrap();
        let running = background.running().unwrap().unwrap();
        assert_eq!(running.pid, std::process::id());
        assert_eq!(running.admin.as_deref(), Some("127.0.0.1:9104"));
        let error = background.hold().await.unwrap_err();
        assert!(error.to_string().contains("another one"), "{error}");
        drop(held);
        // The file is still there, and names a process that lives: this one.
        assert!(background.pid_file().exists());
        assert_eq!(background.running().unwrap(), None);
        assert_eq!(background.stop(Duration::ZERO).await.unwrap(), None);
        background.hold().await.unwrap();
    }
}
