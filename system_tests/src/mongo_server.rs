//! The database of the tests: a MongoDB-protocol server of our own, or the one `MONGODB_URI` names.
//!
//! Ours is the program that `tools/install.sh` puts into `.venv/secantusdb`, on a folder and a port of its
//! own, which it keeps when it is killed and started again. It is told to sync on every commit; without
//! that it loses what it acknowledged, also with `w: majority, j: true`, when it is killed.
//!
//! A server that was given is only used: it is neither killed nor frozen (tests that want that are skipped
//! by name), and each test has a database there that it drops at its end.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::process::{Launch, Process};
use crate::{binaries, python, skip};

/// What our server says once it can be reached.
const LISTENING: &str = "listening on";

/// Names the server of somebody else.
const URI: &str = "MONGODB_URI";

/// A database on a running server.
#[derive(Debug)]
pub struct MongoServer {
    uri: String,
    database: String,
    python: PathBuf,
    logs: TempDir,
    /// Absent when the server was given.
    own: Option<Own>,
}

/// A server of ours.
#[derive(Debug)]
struct Own {
    program: PathBuf,
    storage: TempDir,
    port: u16,
    process: Process,
}

impl MongoServer {
    /// Returns an empty database, on a server of its own at `port` unless one was given; `None`, with
    /// `test` reported as skipped, on a machine that has neither.
    ///
    /// # Errors
    /// When our server does not start.
    pub fn for_test(test: &str, port: u16) -> Result<Option<Self>> {
        let Some(python) = python::with_modules(test, &["pymongo"]) else {
            return Ok(None);
        };
        let logs = TempDir::with_prefix("lastmile-mongo-logs-")?;
        if let Ok(uri) = std::env::var(URI) {
            return Ok(Some(Self {
                uri,
                database: format!("lastmile_test_{:016x}", rand::random::<u64>()),
                python,
                logs,
                own: None,
            }));
        }
        let program =
            binaries::workspace_root().join(".venv/secantusdb/secantusdb.scripts/secantusd-rs");
        if !program.is_file() {
            skip::report(
                test,
                "needs a MongoDB-protocol server; run tools/install.sh, or set MONGODB_URI",
            );
            return Ok(None);
        }
        let storage = TempDir::with_prefix("lastmile-mongo-")?;
        let process = start(&program, storage.path(), port, logs.path())?;
        Ok(Some(Self {
            uri: format!("mongodb://127.0.0.1:{port}"),
            database: "lastmile".to_owned(),
            python,
            logs,
            own: Some(Own {
                program,
                storage,
                port,
                process,
            }),
        }))
    }

    /// Tells whether the server is ours to kill and to freeze.
    pub fn is_ours(&self) -> bool {
        self.own.is_some()
    }

    /// Returns the address, for a program's `MONGODB_URI`. It may hold a password.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Returns the name of the database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Returns a Python interpreter that has pymongo.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// Tells a program which database to use, by the customary variables.
    #[must_use]
    pub fn reached_by(&self, launch: Launch) -> Launch {
        launch
            .env(URI, &self.uri)
            .env("LASTMILE_MONGODB_DATABASE", &self.database)
    }

    /// Kills the server (SIGKILL).
    ///
    /// # Errors
    /// When it is not ours.
    pub fn kill(&mut self) -> Result<()> {
        self.own()?.process.kill()
    }

    /// Starts the killed server again on its folder and port, and returns once it can be reached.
    ///
    /// # Errors
    /// When it is not ours or does not start.
    pub fn start_again(&mut self) -> Result<()> {
        let logs = self.logs.path().to_path_buf();
        let own = self.own()?;
        own.process = start(&own.program, own.storage.path(), own.port, &logs)?;
        Ok(())
    }

    /// Returns our server's process.
    ///
    /// # Errors
    /// When it is not ours.
    pub fn process(&mut self) -> Result<&mut Process> {
        Ok(&mut self.own()?.process)
    }

    fn own(&mut self) -> Result<&mut Own> {
        self.own
            .as_mut()
            .context("the database was given by MONGODB_URI; it is not ours to touch")
    }

    fn drop_database(&self) -> Result<()> {
        let finished = self
            .reached_by(python::script(
                &self.python,
                "drop_database.py",
                self.logs.path(),
            ))
            .run(crate::poll::PATIENCE)?;
        ensure!(finished.status.success(), "{}", finished.stderr);
        Ok(())
    }
}

impl Drop for MongoServer {
    fn drop(&mut self) {
        // Ours goes with its folder.
        if self.own.is_none()
            && let Err(error) = self.drop_database()
        {
            skip::say(&format!(
                "the database {} was not dropped: {error:#}\n",
                self.database
            ));
        }
    }
}

/// Starts our server and waits until it listens. The log is limited so that a restart after a kill reads
/// little, the cache so that several tests fit into a small machine.
fn start(program: &Path, storage: &Path, port: u16, logs: &Path) -> Result<Process> {
    let mut process = Launch::of("mongo", program, logs)
        .args(["--port", &port.to_string(), "--sync-on-commit"])
        .args(["--log-file-max", "64MB", "--cache-size", "256M"])
        .arg("--storage-path")
        .arg(storage)
        .start()?;
    process.until_line(LISTENING)?;
    Ok(process)
}
