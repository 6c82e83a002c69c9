//! `cargo xtask soak`: the kill -9 campaigns at length, over the all-in-one program, over the services, or over the
//! broker alone; and the campaigns that simulate.

mod broker;
mod services;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use system_tests::kill_loop::{KillLoop, Plan, Reconciliation, Tally};
use system_tests::{binaries, proc_stat, python};

use crate::machine::Machine;
use crate::{print, progress};

/// How long and how hard.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: Option<What>,
    /// Kills
    #[arg(long, default_value_t = 10_000)]
    cycles: u32,
    /// Seed of every random choice; drawn and printed when absent
    #[arg(long)]
    seed: Option<u64>,
    /// Messages of each cycle
    #[arg(long, default_value_t = 2_000)]
    messages: u64,
    /// Messages per second of the load
    #[arg(long, default_value_t = 4_000)]
    rate: u32,
    /// Connections of the load
    #[arg(long, default_value_t = 8)]
    connections: u32,
    /// Kills between two reconciliations; each begins with fresh data, so that ledgers stay small
    #[arg(long, default_value_t = 100)]
    reconcile_every: u32,
    /// Build profile of the programs
    #[arg(long, default_value = "release")]
    profile: String,
    /// Further argument of the all-in-one program, for example the switch that breaks the ack law in
    /// development builds: the campaign must then fail
    #[arg(long, allow_hyphen_values = true)]
    server_arg: Vec<String>,
}

/// Another campaign than the one over the all-in-one program.
#[derive(Debug, Subcommand)]
enum What {
    /// Kill broker, subscriber, API and database, one or two at a time, as separate processes over a
    /// MongoDB-protocol server, and reconcile with the lake, too
    Services(services::Options),
    /// Simulate sessions and logs of the broker in worlds drawn from seeds
    Sessions(broker::Sessions),
    /// Crash the simulated disk under the ingest log and the session state
    Disk(broker::Disk),
    /// Kill the broker's process under load with QoS 1 and 2
    Kills(broker::Kills),
    /// Send noise and changed packets to a broker in memory
    Packets(broker::Packets),
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

/// Kills between two reconciliations.
#[derive(Debug, Serialize)]
struct Round {
    #[serde(flatten)]
    tally: Tally,
    by_store: Reconciliation,
    /// What `publisher verify` said against the API, or why it failed.
    by_api: String,
}

/// Runs the campaign; the exit code is 1 when anything was lost or counted twice.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    match &options.what {
        Some(What::Services(options)) => return services::run(options),
        Some(What::Sessions(options)) => return options.run(),
        Some(What::Disk(options)) => return options.run(),
        Some(What::Kills(options)) => return options.run(),
        Some(What::Packets(options)) => return options.run(),
        None => {}
    }
    let python = python::plain("soak").context("the independent checker needs python3")?;
    progress(&format!(
        "building lastmile and publisher ({})",
        options.profile
    ));
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut plan = Plan {
        seed,
        lastmile: binaries::build("lastmile", &options.profile)?,
        publisher: binaries::build("publisher", &options.profile)?,
        server_args: options.server_arg.clone(),
        messages: options.messages,
        connections: options.connections,
        rate: options.rate,
        python,
    };
    let mut rounds: Vec<Round> = Vec::new();
    let mut failed = false;
    let mut left = options.cycles;
    while left > 0 {
        let kills = left.min(options.reconcile_every.max(1));
        left -= kills;
        let mut campaign = KillLoop::start(plan.clone())?;
        for _ in 0..kills {
            campaign.cycle()?;
        }
        let by_store = campaign.reconcile()?;
        let verified = campaign.verify();
        failed |= !by_store.is_right() || verified.is_err();
        let by_api = verified.unwrap_or_else(|error| format!("{error:#}"));
        let tally = campaign.tally();
        progress(&format!(
            "{} of {} kills: {} acknowledged, {} lost, {} counted twice, recovery p99 {} ms (seed {})",
            options.cycles - left,
            options.cycles,
            tally.acked,
            by_store.lost,
            by_store.counted_twice,
            tally.recovery_p99_ms,
            plan.seed,
        ));
        rounds.push(Round {
            tally,
            by_store,
            by_api,
        });
        plan.seed = plan.seed.wrapping_add(1);
    }
    print(&Report {
        what: "soak",
        profile: options.profile.clone(),
        machine: Machine::read(),
        load_average: proc_stat::load_average(),
        seed,
        cycles: rounds.iter().map(|round| round.tally.cycles).sum(),
        acked: rounds.iter().map(|round| round.tally.acked).sum(),
        lost: rounds.iter().map(|round| round.by_store.lost).sum(),
        counted_twice: rounds
            .iter()
            .map(|round| round.by_store.counted_twice)
            .sum(),
        rounds,
    })?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
