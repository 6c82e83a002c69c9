//! The kill -9 campaign: load, SIGKILL at a random moment, start again on the same data and ports, and at
//! the end the client's ledger of acknowledged messages against what the store holds.
//!
//! Two checkers must agree: `publisher verify` asks the API; a Python program of its own reads the `SQLite`
//! file. With [`Plan::server_args`] a build that breaks the ack law on purpose can be put through the
//! same loop: then the checkers must find a loss, which shows that the loop can.
//!
//! Every random choice comes from [`Plan::seed`]. When the system under test is scheduled differently
//! the same seed kills at the same moments of the clock, not of the program.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::pipeline::Pipeline;
use crate::publisher::{Burst, Summary};
use crate::{poll, python};

/// Latest moment of a kill after the load began.
const LATEST_KILL: Duration = Duration::from_millis(500);

/// How long a publisher may take to get everything acknowledged once the server is back.
const BURST_PATIENCE: Duration = Duration::from_mins(3);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where every random choice comes from.
    pub seed: u64,
    /// The all-in-one program.
    pub lastmile: PathBuf,
    /// The load.
    pub publisher: PathBuf,
    /// Further arguments of the all-in-one program.
    pub server_args: Vec<String>,
    /// Messages of each cycle.
    pub messages: u64,
    /// Connections of the load.
    pub connections: u32,
    /// Messages per second of the load.
    pub rate: u32,
    /// A Python interpreter for the independent checker.
    pub python: PathBuf,
}

/// What the independent checker found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// Different messages in the ledger.
    pub acked: u64,
    /// Rows in the store.
    pub stored: u64,
    /// Rows as the store itself counts them.
    pub counted: u64,
    /// Acknowledged messages that the store does not have.
    pub lost: u64,
    /// Rows beyond the first of one message.
    pub counted_twice: u64,
    /// Rows of no acknowledged message.
    pub never_acked: u64,
    /// Orders and deliverers whose last position is not the greatest of those stored.
    pub wrong_last: u64,
    /// What the file's own check complains about.
    pub damage: Vec<String>,
    /// Some of the lost ones.
    pub examples: Vec<String>,
}

impl Reconciliation {
    /// Tells whether everything acknowledged is stored, once, and the store agrees with itself.
    pub fn is_right(&self) -> bool {
        self.lost == 0
            && self.counted_twice == 0
            && self.counted == self.stored
            && self.wrong_last == 0
            && self.damage.is_empty()
    }
}

/// A campaign under way.
#[derive(Debug)]
pub struct KillLoop {
    plan: Plan,
    random: SmallRng,
    pipeline: Pipeline,
    ledger: PathBuf,
    cycles: u32,
    acked: u64,
    killed_under_load: u32,
    recoveries: Vec<Duration>,
}

/// What a campaign has come to.
#[derive(Debug, Clone, Serialize)]
pub struct Tally {
    /// The seed.
    pub seed: u64,
    /// Kills.
    pub cycles: u32,
    /// Kills while the load had messages unacknowledged.
    pub killed_under_load: u32,
    /// Messages acknowledged, as the publisher counted them.
    pub acked: u64,
    /// Milliseconds from the start of a killed program to its ready line, median.
    pub recovery_p50_ms: u128,
    /// 99 of 100.
    pub recovery_p99_ms: u128,
    /// The slowest.
    pub recovery_max_ms: u128,
}

impl KillLoop {
    /// Starts the program on data of its own.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(plan: Plan) -> Result<Self> {
        let args: Vec<&str> = plan.server_args.iter().map(String::as_str).collect();
        let pipeline = Pipeline::start_program(&plan.lastmile, &args)?;
        let ledger = pipeline.folder().join("ledger.ndjson");
        File::create(&ledger)?;
        Ok(Self {
            random: SmallRng::seed_from_u64(plan.seed),
            pipeline,
            ledger,
            cycles: 0,
            acked: 0,
            killed_under_load: 0,
            recoveries: Vec::new(),
            plan,
        })
    }

    /// One cycle: load, kill, start again, wait until the load has everything acknowledged.
    ///
    /// # Errors
    /// When the program does not come back or the load is not finished in time.
    pub fn cycle(&mut self) -> Result<()> {
        let part = self.pipeline.folder().join("part.ndjson");
        if part.exists() {
            std::fs::remove_file(&part)?;
        }
        let burst = Burst {
            mqtt: self.pipeline.mqtt_address()?,
            messages: self.plan.messages,
            connections: self.plan.connections,
            ledger: Some(part.clone()),
            rate: Some(self.plan.rate),
        };
        let launch = burst.launch(&self.plan.publisher, self.pipeline.folder());
        let mut publisher = launch.start()?;
        // The ledger is begun just before the first message.
        poll::until("the load to begin", poll::PATIENCE, || {
            Ok((part.exists() || !publisher.is_running()?).then_some(()))
        })?;
        let moment = self.random.random_range(Duration::ZERO..=LATEST_KILL);
        poll::pause(moment);
        let under_load = publisher.is_running()?;
        let recovery = self.pipeline.kill_and_restart().with_context(|| {
            format!("after kill {} of seed {}", self.cycles + 1, self.plan.seed)
        })?;
        let finished = publisher.finish(BURST_PATIENCE)?.success()?;
        let summary = Summary::read(&finished)?;
        ensure!(
            summary.acked == self.plan.messages,
            "only {} of {} messages were acknowledged",
            summary.acked,
            self.plan.messages
        );
        self.keep(&part)?;
        self.cycles += 1;
        self.acked += summary.acked;
        self.killed_under_load += u32::from(under_load);
        self.recoveries.push(recovery);
        Ok(())
    }

    /// Adds a cycle's ledger to the campaign's.
    fn keep(&self, part: &Path) -> Result<()> {
        let mut all = File::options().append(true).open(&self.ledger)?;
        std::io::copy(&mut File::open(part)?, &mut all)?;
        all.flush()?;
        Ok(())
    }

    /// Stops the program gracefully, so that everything it took is in the store, and lets the
    /// independent checker compare ledger and store; then starts it again.
    ///
    /// # Errors
    /// When the program does not stop, or the checker cannot be run.
    pub fn reconcile(&mut self) -> Result<Reconciliation> {
        let status = self.pipeline.process().terminate()?;
        ensure!(status.success(), "the graceful stop ended with {status}");
        let store = self.pipeline.data().join("store.sqlite");
        let folder = self.pipeline.folder();
        let found = compare(&self.plan.python, &self.ledger, &store, folder)?;
        self.pipeline.restart()?;
        Ok(found)
    }

    /// Lets `publisher verify` ask the API for every line of the ledger.
    ///
    /// # Errors
    /// When it finds anything missing, or cannot be run.
    pub fn verify(&self) -> Result<String> {
        let api = format!("http://{}", self.pipeline.http_address()?);
        let finished = crate::publisher::verify(
            &self.plan.publisher,
            &self.ledger,
            &api,
            self.pipeline.folder(),
        )
        .run(BURST_PATIENCE)?
        .success()?;
        Ok(finished.stdout)
    }

    /// Returns what the status page counts as positions.
    ///
    /// # Errors
    /// When the API does not answer.
    pub fn counted_positions(&self) -> Result<u64> {
        Ok(self.pipeline.counts()?.positions)
    }

    /// Returns what the campaign has come to.
    pub fn tally(&self) -> Tally {
        let mut recoveries = self.recoveries.clone();
        recoveries.sort();
        let at = |hundredths: usize| {
            let index =
                (recoveries.len() * hundredths / 100).min(recoveries.len().saturating_sub(1));
            recoveries.get(index).map_or(0, Duration::as_millis)
        };
        Tally {
            seed: self.plan.seed,
            cycles: self.cycles,
            killed_under_load: self.killed_under_load,
            acked: self.acked,
            recovery_p50_ms: at(50),
            recovery_p99_ms: at(99),
            recovery_max_ms: at(100),
        }
    }
}

/// Lets the independent checker compare a ledger with the store's file.
///
/// # Errors
/// When it cannot be run or understood; what it finds is no error.
pub fn compare(
    python: &Path,
    ledger: &Path,
    store: &Path,
    log_folder: &Path,
) -> Result<Reconciliation> {
    let finished = python::script(python, "check_ledger.py", log_folder)
        .args([ledger, store])
        .run(BURST_PATIENCE)?
        .success()?;
    Ok(serde_json::from_value(finished.json()?)?)
}
