//! `cargo xtask soak services`: kill -9 of any of the separate processes and of their database, at length.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use system_tests::kill_loop::Reconciliation;
use system_tests::proc_stat;
use system_tests::services::{Options as ServiceOptions, Programs, Replicas};
use system_tests::services_loop::{Plan, ServicesLoop, Tally};

use crate::machine::Machine;
use crate::{print, progress};

/// Cycles between two lines of progress.
const SAY_EVERY: u32 = 10;

/// How long and how hard.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Cycles; in each one part is killed, or two at once
    #[arg(long, default_value_t = 1_000)]
    cycles: u32,
    /// Seed of every random choice; drawn and printed when absent
    #[arg(long)]
    seed: Option<u64>,
    /// Messages of each cycle
    #[arg(long, default_value_t = 2_000)]
    messages: u64,
    /// Messages per second of the load
    #[arg(long, default_value_t = 2_500)]
    rate: u32,
    /// Connections of the load
    #[arg(long, default_value_t = 8)]
    connections: u32,
    /// Subscribers, at most 3
    #[arg(long, default_value_t = 2)]
    subscribers: usize,
    /// Connections of each subscriber
    #[arg(long, default_value_t = 2)]
    subscriber_connections: usize,
    /// Let subscribers take their numbers by lease instead of giving each its own: one that is started
    /// again is then another one until the lease of the dead one ends
    #[arg(long)]
    leased: bool,
    /// APIs, at most 3
    #[arg(long, default_value_t = 2)]
    apis: usize,
    /// Cycles between two reconciliations with database and lake; each begins with fresh data
    #[arg(long, default_value_t = 50)]
    reconcile_every: u32,
    /// Build profile of broker, subscriber, api and publisher; with `dev` and `LASTMILE_BIN_DIR` those of
    /// that folder
    #[arg(long, default_value = "release")]
    profile: String,
    /// Further argument of the broker, for example the switch that breaks the ack law in development
    /// builds: the campaign must then fail
    #[arg(long, allow_hyphen_values = true)]
    broker_arg: Vec<String>,
    /// Further argument of each subscriber
    #[arg(long, allow_hyphen_values = true)]
    subscriber_arg: Vec<String>,
}

/// The whole result.
#[derive(Debug, Serialize)]
struct Report {
    what: &'static str,
    profile: String,
    machine: Machine,
    load_average: String,
    seed: u64,
    cycles: u32,
    acked: u64,
    lost: u64,
    counted_twice: u64,
    rounds: Vec<Round>,
}

/// Cycles between two reconciliations.
#[derive(Debug, Serialize)]
struct Round {
    #[serde(flatten)]
    tally: Tally,
    by_database_and_lake: Reconciliation,
    /// What `publisher verify` said against the API, or why it failed.
    by_api: String,
    is_right: bool,
}

/// Runs the campaign; the exit code is 1 when anything was lost or counted twice.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    progress(&format!("building the services ({})", options.profile));
    let seed = options.seed.unwrap_or_else(rand::random);
    progress(&format!("seed {seed}"));
    let mut plan = plan(options, seed)?;
    let mut rounds = Vec::new();
    let mut left = options.cycles;
    while left > 0 {
        let cycles = left.min(options.reconcile_every.max(1));
        let before = options.cycles - left;
        left -= cycles;
        let round = round(&plan, cycles, before)
            .with_context(|| format!("round of seed {} (campaign {seed})", plan.seed))?;
        progress(&format!(
            "{} of {} cycles: {} acknowledged, {} lost, {} counted twice, {}; kills {:?} (seed {})",
            options.cycles - left,
            options.cycles,
            round.tally.acked,
            round.by_database_and_lake.lost,
            round.by_database_and_lake.counted_twice,
            if round.is_right { "right" } else { "WRONG" },
            round.tally.kills,
            plan.seed,
        ));
        rounds.push(round);
        plan.seed = plan.seed.wrapping_add(1);
    }
    let sum = |of: fn(&Round) -> u64| rounds.iter().map(of).sum();
    let right = rounds.iter().all(|round| round.is_right);
    print(&Report {
        what: "soak services",
        profile: options.profile.clone(),
        machine: Machine::read(),
        load_average: proc_stat::load_average(),
        seed,
        cycles: rounds.iter().map(|round| round.tally.cycles).sum(),
        acked: sum(|round| round.tally.acked),
        lost: sum(|round| round.by_database_and_lake.lost),
        counted_twice: sum(|round| round.by_database_and_lake.counted_twice),
        rounds,
    })?;
    Ok(if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn plan(options: &Options, seed: u64) -> Result<Plan> {
    Ok(Plan {
        seed,
        options: ServiceOptions {
            subscribers: options.subscribers,
            replicas: if options.leased {
                Replicas::Leased
            } else {
                Replicas::Numbered
            },
            connections: options.subscriber_connections,
            apis: options.apis,
            broker_args: options.broker_arg.clone(),
            subscriber_args: options.subscriber_arg.clone(),
            ..ServiceOptions::new(Programs::built(&options.profile)?)
        },
        victims: Vec::new(),
        messages: options.messages,
        connections: options.connections,
        rate: options.rate,
    })
}

/// Some cycles on fresh data, and what they came to.
fn round(plan: &Plan, cycles: u32, before: u32) -> Result<Round> {
    let mut campaign = ServicesLoop::start("soak services", plan.clone())?
        .context("the campaign needs a MongoDB-protocol server and pymongo")?;
    for cycle in 1..=cycles {
        campaign.cycle()?;
        if cycle % SAY_EVERY == 0 {
            let cycles = before + cycle;
            progress(&format!("{cycles} cycles (seed {})", plan.seed));
        }
    }
    let found = campaign.reconcile_with_lake()?;
    let verified = campaign.verify();
    let tally = campaign.tally().clone();
    Ok(Round {
        is_right: found.is_right() && found.acked == tally.acked && verified.is_ok(),
        by_api: verified.unwrap_or_else(|error| format!("{error:#}")),
        by_database_and_lake: found,
        tally,
    })
}
