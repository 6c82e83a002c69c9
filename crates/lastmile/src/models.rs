//! Runs the SQL models after an offload, in a process of their own.
//!
//! The models need an engine that takes longer to build than all the rest together, so this binary does not
//! hold it: when an executable `lake_ingest` stands beside it, that one is run, and when none does, nothing
//! happens. It is looked for each time, because `./start.sh` builds it while the pipeline already runs.
//!
//! Bounds: one run at a time, a time limit on each, its output in `logs/models.log`, begun anew when it
//! exceeds [`MAX_LOG_BYTES`]. A run that fails or is killed is made up for by the next one.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use service::CancellationToken;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

/// Size at which the file of the models' output is begun anew.
const MAX_LOG_BYTES: u64 = 4 << 20;

/// Runs `lake_ingest models`.
#[derive(Debug)]
pub struct Models {
    program: PathBuf,
    data: PathBuf,
    lake: String,
    limit: Duration,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// There is no program to run.
    Absent,
    /// It ended well.
    Done,
    /// It ended badly, took too long or was cut off by the stop.
    Failed,
}

impl Models {
    /// Looks for the program beside the running executable.
    ///
    /// # Errors
    /// When the system does not tell where that is.
    pub fn beside_this_program(data: &Path, lake: &str, limit: Duration) -> io::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("lake_ingest");
        Ok(Self::new(program, data, lake, limit))
    }

    /// Takes the program's path.
    pub fn new(program: PathBuf, data: &Path, lake: &str, limit: Duration) -> Self {
        Self {
            program,
            data: data.to_path_buf(),
            lake: lake.to_owned(),
            limit,
        }
    }

    /// Runs the models once and waits for the end, or until `stop` is cancelled.
    pub async fn run(&self, stop: &CancellationToken) -> Run {
        if !self.program.is_file() {
            return Run::Absent;
        }
        let begun = Instant::now();
        let outcome = self.run_bounded(stop).await;
        let elapsed_ms = begun.elapsed().as_millis();
        let log = self.log_path();
        match outcome {
            Ok(()) => {
                tracing::info!(elapsed_ms, "the lake's models are up to date");
                Run::Done
            }
            Err(reason) => {
                tracing::warn!(elapsed_ms, reason, log = %log.display(), "the lake's models were not run");
                Run::Failed
            }
        }
    }

    async fn run_bounded(&self, stop: &CancellationToken) -> Result<(), String> {
        let log = self.open_log().map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        // A killed run leaves nothing half done behind, so it needs no grace at the stop.
        let mut child = Command::new(&self.program)
            .arg("models")
            .arg("--data")
            .arg(&self.data)
            .args(["--lake", &self.lake])
            // It is ours, with sections that program does not know.
            .env_remove("LASTMILE_CONFIG")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", self.program.display()))?;
        let ended = tokio::select! {
            ended = timeout(self.limit, child.wait()) => ended,
            () = stop.cancelled() => return Err("the stop came first".to_owned()),
        };
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("it ended with {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it took longer than {} s", self.limit.as_secs())),
        }
    }

    fn log_path(&self) -> PathBuf {
        self.data.join("logs/models.log")
    }

    fn open_log(&self) -> io::Result<File> {
        let path = self.log_path();
        std::fs::create_dir_all(self.data.join("logs"))?;
        let large = path.metadata().is_ok_and(|file| file.len() > MAX_LOG_BYTES);
        let mut options = OpenOptions::new();
        options.create(true);
        if large {
            options.write(true).truncate(true).open(path)
        } else {
            options.append(true).open(path)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    /// Makes a program of one shell line.
    fn models(folder: &Path, line: &str, limit: Duration) -> Models {
        let program = folder.join("lake_ingest");
        std::fs::write(&program, format!("#!/bin/sh\n{line}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        Models::new(program, folder, "file:///lake", limit)
    }

    #[tokio::test]
    async fn it_is_run_with_the_data_and_its_output_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let models = models(folder.path(), "echo \"$@\"; echo oops >&2", LONG);
        assert_eq!(models.run(&CancellationToken::new()).await, Run::Done);
        let log = std::fs::read_to_string(folder.path().join("logs/models.log")).unwrap();
        let data = folder.path().display();
        let expected = format!("models --data {data} --lake file:///lake\noops\n");
        assert_eq!(log, expected);
    }

    #[tokio::test]
    async fn nothing_happens_while_there_is_no_program() {
        let folder = tempfile::tempdir().unwrap();
        let absent = Models::new(folder.path().join("lake_ingest"), folder.path(), "x", LONG);
        assert_eq!(absent.run(&CancellationToken::new()).await, Run::Absent);
    }

    #[tokio::test]
    async fn failing_hanging_and_being_stopped_end_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let failing = models(folder.path(), "exit 3", LONG);
        assert_eq!(failing.run(&stop).await, Run::Failed);
        let hanging = models(folder.path(), "exec sleep 1000", Duration::from_millis(20));
        assert_eq!(hanging.run(&stop).await, Run::Failed);
        let stopped = models(folder.path(), "exec sleep 1000", LONG);
        stop.cancel();
        assert_eq!(stopped.run(&stop).await, Run::Failed);
    }
}
