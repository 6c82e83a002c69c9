//! The kill -9 campaign over separate processes and their database: load, SIGKILL of one or two parts at a
//! random moment, start again, and at the end the ledger of acknowledged messages against the database and
//! the lake.
//!
//! Three readers must agree: `publisher verify` asks the API; a Python program of its own reads the
//! database with pymongo, recomputes every last position and places each row into the windows the offload
//! recorded; the same program reads the lake's files with `DuckDB`.
//!
//! Which parts die, in which order they come back and when, comes from [`Plan::seed`]. When the system is
//! scheduled differently the same seed kills at the same moments of the clock, not of the programs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

use crate::kill_loop::Reconciliation;
use crate::publisher::{Burst, Summary};
use crate::services::{Options, Part, Services};
use crate::{poll, publisher, python};

/// Latest moment of a kill after the load began.
const LATEST_KILL: Duration = Duration::from_millis(700);

/// How long a publisher may take to get everything acknowledged, and the subscribers to store it, once all
/// is back.
const PATIENCE: Duration = Duration::from_mins(10);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where every random choice comes from.
    pub seed: u64,
    /// What to start.
    pub options: Options,
    /// What may be killed; all that is ours when empty.
    pub victims: Vec<Part>,
    /// Messages of each cycle.
    pub messages: u64,
    /// Connections of the load.
    pub connections: u32,
    /// Messages per second of the load.
    pub rate: u32,
}

/// A campaign under way.
#[derive(Debug)]
pub struct ServicesLoop {
    plan: Plan,
    random: SmallRng,
    services: Services,
    victims: Vec<Part>,
    ledger: PathBuf,
    tally: Tally,
}

/// What a campaign has come to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tally {
    /// The seed.
    pub seed: u64,
    /// Cycles; in each one part died, or two.
    pub cycles: u32,
    /// Cycles in which two died at once.
    pub pairs: u32,
    /// Cycles whose kill came while the load had messages unacknowledged.
    pub killed_under_load: u32,
    /// Kills by part.
    pub kills: BTreeMap<String, u32>,
    /// Messages acknowledged, as the publisher counted them.
    pub acked: u64,
    /// Longest time from the kill until all was back and subscribed, in milliseconds.
    pub slowest_return_ms: u128,
}

impl ServicesLoop {
    /// Starts everything on fresh data; `None`, with `test` reported as skipped, where there is no database.
    ///
    /// A database that was given is never killed; `test` then reports that part as skipped.
    ///
    /// # Errors
    /// When a service does not become ready.
    pub fn start(test: &str, plan: Plan) -> Result<Option<Self>> {
        let Some(services) = Services::start(test, plan.options.clone())? else {
            return Ok(None);
        };
        let wanted = if plan.victims.is_empty() {
            services.parts()
        } else {
            plan.victims.clone()
        };
        let mut victims = wanted.clone();
        if !services.database().is_ours() {
            victims.retain(|part| *part != Part::Database);
        }
        if victims.len() < wanted.len() {
            crate::skip::report(
                test,
                "the kills of the database, which MONGODB_URI gave and is not ours to kill",
            );
        }
        let ledger = services.folder().join("ledger.ndjson");
        File::create(&ledger)?;
        Ok(Some(Self {
            random: SmallRng::seed_from_u64(plan.seed),
            tally: Tally {
                seed: plan.seed,
                ..Tally::default()
            },
            services,
            victims,
            ledger,
            plan,
        }))
    }

    /// One cycle: load, kill, start again, wait until the load has everything acknowledged.
    ///
    /// # Errors
    /// When a part does not come back or the load is not finished in time; what was killed is named.
    pub fn cycle(&mut self) -> Result<()> {
        let (victims, moment) = self.choose();
        let (cycle, seed) = (self.tally.cycles + 1, self.plan.seed);
        self.run(&victims, moment).with_context(|| {
            format!("cycle {cycle} of seed {seed}: killed {victims:?} {moment:?} into the load")
        })
    }

    /// Draws what dies, one part or two, and when.
    fn choose(&mut self) -> (Vec<Part>, Duration) {
        let mut victims = self.victims.clone();
        victims.shuffle(&mut self.random);
        victims.truncate(1 + usize::from(self.random.random_bool(0.4)));
        (
            victims,
            self.random.random_range(Duration::ZERO..=LATEST_KILL),
        )
    }

    fn run(&mut self, victims: &[Part], moment: Duration) -> Result<()> {
        let part = self.services.folder().join("part.ndjson");
        if part.exists() {
            std::fs::remove_file(&part)?;
        }
        let burst = Burst {
            mqtt: self.services.mqtt_address(),
            messages: self.plan.messages,
            connections: self.plan.connections,
            ledger: Some(part.clone()),
            rate: Some(self.plan.rate),
        };
        let launch = burst.launch(
            &self.plan.options.programs.publisher,
            self.services.folder(),
        );
        let mut load = launch.start()?;
        // The ledger is begun just before the first message.
        poll::until("the load to begin", poll::PATIENCE, || {
            Ok((part.exists() || !load.is_running()?).then_some(()))
        })?;
        poll::pause(moment);
        let under_load = load.is_running()?;
        let killed = Instant::now();
        self.services.kill(victims)?;
        let mut order = victims.to_vec();
        order.shuffle(&mut self.random);
        self.services.start_parts(&order)?;
        let back = killed.elapsed().as_millis();
        let finished = load.finish(PATIENCE)?.success()?;
        let summary = Summary::read(&finished)?;
        ensure!(
            summary.acked == self.plan.messages,
            "only {} of {} messages were acknowledged",
            summary.acked,
            self.plan.messages
        );
        let mut all = File::options().append(true).open(&self.ledger)?;
        std::io::copy(&mut File::open(part)?, &mut all)?;
        all.flush()?;
        let tally = &mut self.tally;
        tally.cycles += 1;
        tally.pairs += u32::from(victims.len() > 1);
        tally.killed_under_load += u32::from(under_load);
        tally.acked += summary.acked;
        tally.slowest_return_ms = tally.slowest_return_ms.max(back);
        for victim in victims {
            *tally.kills.entry(format!("{victim:?}")).or_default() += 1;
        }
        Ok(())
    }

    /// Waits until everything acknowledged is counted by the API, or nothing more comes, and lets the
    /// independent checker compare ledger and database.
    ///
    /// # Errors
    /// When counts never settle, or the checker cannot be run.
    pub fn reconcile(&self) -> Result<Reconciliation> {
        self.services.until_settled(self.tally.acked, PATIENCE)?;
        compare(&self.services, &self.ledger, None)
    }

    /// Offloads the database to the lake and lets the independent checker compare ledger, database, the
    /// recorded windows and the lake's files.
    ///
    /// # Errors
    /// When the offload or the checker cannot be run.
    pub fn reconcile_with_lake(&self) -> Result<Reconciliation> {
        self.services.until_settled(self.tally.acked, PATIENCE)?;
        self.services.until_acknowledged(PATIENCE)?;
        self.services.offload()?;
        compare(&self.services, &self.ledger, Some(&self.services.lake()))
    }

    /// Lets `publisher verify` ask the API for every line of the ledger.
    ///
    /// # Errors
    /// When it finds anything missing or twice, or cannot be run.
    pub fn verify(&self) -> Result<String> {
        verify(
            &self.services,
            &self.plan.options.programs.publisher,
            &self.ledger,
        )
    }

    /// Returns the services.
    pub fn services(&mut self) -> &mut Services {
        &mut self.services
    }

    /// Returns what the campaign has come to.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// Lets `publisher verify` ask the first API for every line of a ledger.
///
/// # Errors
/// When it finds anything missing or twice, or cannot be run.
pub fn verify(services: &Services, program: &Path, ledger: &Path) -> Result<String> {
    let api = format!("http://{}", services.api_address(0));
    let finished = publisher::verify(program, ledger, &api, services.folder())
        .run(PATIENCE)?
        .success()?;
    Ok(finished.stdout)
}

/// Lets the independent checker compare a ledger with the database, and with the lake's files.
///
/// # Errors
/// When it cannot be run or understood; what it finds is no error.
pub fn compare(services: &Services, ledger: &Path, lake: Option<&Path>) -> Result<Reconciliation> {
    let database = services.database();
    let mut launch =
        python::script(database.python(), "check_mongo.py", services.folder()).arg(ledger);
    if let Some(lake) = lake {
        launch = launch.arg("--lake").arg(lake);
    }
    let finished = database.reached_by(launch).run(PATIENCE)?.success()?;
    Ok(serde_json::from_value(finished.json()?)?)
}
