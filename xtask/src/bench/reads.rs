//! `cargo xtask bench reads`: what a `GET` of a last location takes, at rest and while positions come in at half of
//! the rate that was reached; and how long after publishing a position is what such a `GET` answers.
//!
//! Whole processes from outside: the all-in-one program with its defaults, the publisher, and clients in this process,
//! all on the same cores.

mod client;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use system_tests::pipeline::Pipeline;
use system_tests::process::Process;
use system_tests::publisher::{Burst, Identity, Summary};
use system_tests::{binaries, poll, proc_stat};

use self::client::{Reader, Watcher};
use super::measure::as_f64;
use super::median;
use crate::machine::Machine;
use crate::{print, progress};

/// How long a burst may take before it counts as hung.
const PATIENCE: Duration = Duration::from_mins(10);
/// Connections of the publisher.
const CONNECTIONS: u32 = 64;
/// Orders that are asked for.
const ORDERS: usize = 1_000;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Runs of everything; medians are reported
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Messages stored before the first read
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Reads per second, over all readers
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Connections that read
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    readers: u32,
    /// Seconds of reading, at rest and again while positions come in
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Positions whose way to a `GET` is timed
    #[arg(long, default_value_t = 500)]
    probes: u32,
    /// Build profile of the programs measured; figures count only for release. With `dev` and `LASTMILE_BIN_DIR` those
    /// of the folder
    #[arg(long, default_value = "release")]
    profile: String,
}

/// The whole result.
#[derive(Debug, Serialize)]
struct Report {
    what: &'static str,
    profile: String,
    machine: Machine,
    load_average_before: String,
    reads_per_s: u32,
    readers: u32,
    medians: Run,
    runs: Vec<Run>,
}

/// What one run showed.
#[derive(Debug, Clone, Serialize)]
struct Run {
    /// Messages per second until they were stored, as fast as could be.
    stored_per_s: f64,
    /// Messages per second published while reads were timed: half of that.
    half_load_per_s: f64,
    get_at_rest: Quantiles,
    get_at_half_load: Quantiles,
    /// From before publishing to the end of the first answer that has it.
    publish_to_get_at_rest: Quantiles,
    publish_to_get_at_half_load: Quantiles,
    load_average: String,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Quantiles {
    count: usize,
    p50_ms: f64,
    p99_ms: f64,
    #[serde(rename = "p99.9_ms")]
    p99_9_ms: f64,
}

impl Quantiles {
    /// Reads them off latencies in microseconds.
    fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        let at = |of_1000: usize| {
            let place = (micros.len() * of_1000 / 1_000).min(micros.len().saturating_sub(1));
            f64::from(micros.get(place).copied().unwrap_or_default()) / 1e3
        };
        Self {
            count: micros.len(),
            p50_ms: at(500),
            p99_ms: at(990),
            p99_9_ms: at(999),
        }
    }
}

/// Builds, measures, prints.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    ensure!(
        options.profile == "dev" || !cfg!(debug_assertions),
        "the client would not be optimised: run it as `cargo run --release -p xtask -- bench reads`"
    );
    progress(&format!(
        "building lastmile and publisher ({})",
        options.profile
    ));
    let program = |name: &str| binaries::build(name, &options.profile);
    let (lastmile, publisher) = (program("lastmile")?, program("publisher")?);
    let load_average_before = proc_stat::load_average();
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        let found = measure(options, &lastmile, &publisher)?;
        progress(&format!("run {number}/{}: {found:?}", options.runs));
        runs.push(found);
    }
    print(&Report {
        what: "reads",
        profile: options.profile.clone(),
        machine: Machine::read(),
        load_average_before,
        reads_per_s: options.rate,
        readers: options.readers,
        medians: medians(&runs),
        runs,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// One run with data of its own.
fn measure(options: &Options, lastmile: &Path, publisher: &Path) -> Result<Run> {
    let load_average = proc_stat::load_average();
    let pipeline = Pipeline::start_program(lastmile, &["--log", "warn"])?;
    let ledger = pipeline.folder().join("ledger");
    let started = Instant::now();
    let fill = publish(&pipeline, publisher, options.messages, None, Some(&ledger))?;
    finish(fill, options.messages)?;
    until_stored(&pipeline, options.messages)?;
    let stored_per_s = as_f64(options.messages) / started.elapsed().as_secs_f64();
    let orders: Vec<String> = Identity::last_of_orders(&ledger, ORDERS)?
        .into_iter()
        .map(|identity| identity.order_id)
        .collect();
    ensure!(!orders.is_empty(), "the burst carried no orders");

    let mut watcher = Watcher::connect(&pipeline.mqtt_address()?, &pipeline.http_address()?)?;
    let get_at_rest = Quantiles::of(read(options, &pipeline, &orders)?);
    let publish_to_get_at_rest = Quantiles::of(watcher.watch(options.probes)?);

    // Long enough for the probes, too: the load ends when both are done.
    let half = half_of(stored_per_s);
    let background = |seconds: u32| {
        let messages = u64::from(half) * u64::from(seconds);
        let before = pipeline.counts()?.positions;
        let process = publish(&pipeline, publisher, messages, Some(half), None)?;
        // Reading begins when the load has.
        poll::until("the load to begin", poll::PATIENCE, || {
            Ok((pipeline.counts()?.positions > before).then_some(()))
        })?;
        Ok::<_, anyhow::Error>((process, messages))
    };
    let (process, messages) = background(options.seconds + 1)?;
    let get_at_half_load = Quantiles::of(read(options, &pipeline, &orders)?);
    finish(process, messages)?;
    let (process, messages) = background(options.seconds)?;
    let publish_to_get_at_half_load = Quantiles::of(watcher.watch(options.probes)?);
    finish(process, messages)?;
    Ok(Run {
        stored_per_s,
        half_load_per_s: f64::from(half),
        get_at_rest,
        get_at_half_load,
        publish_to_get_at_rest,
        publish_to_get_at_half_load,
        load_average,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is a positive number of messages"
)]
fn half_of(rate: f64) -> u32 {
    (rate / 2.0).max(1.0) as u32
}

/// Starts the publisher.
fn publish(
    pipeline: &Pipeline,
    publisher: &Path,
    messages: u64,
    rate: Option<u32>,
    ledger: Option<&PathBuf>,
) -> Result<Process> {
    let burst = Burst {
        mqtt: pipeline.mqtt_address()?,
        messages,
        connections: CONNECTIONS,
        ledger: ledger.cloned(),
        rate,
    };
    burst.launch(publisher, pipeline.folder()).start()
}

/// Waits for a publisher's end.
fn finish(publisher: Process, messages: u64) -> Result<()> {
    let summary = Summary::read(&publisher.finish(PATIENCE)?.success()?)?;
    ensure!(
        summary.acked == messages,
        "only {} of {messages} messages were acknowledged",
        summary.acked
    );
    Ok(())
}

fn until_stored(pipeline: &Pipeline, messages: u64) -> Result<()> {
    poll::until("all messages to be stored", PATIENCE, || {
        Ok((pipeline.counts()?.positions == messages).then_some(()))
    })
}

/// Reads last locations at the rate that is asked for; returns latencies in microseconds.
fn read(options: &Options, pipeline: &Pipeline, orders: &[String]) -> Result<Vec<u32>> {
    let http = pipeline.http_address()?;
    let every = Duration::from_secs(1) * options.readers / options.rate.max(1);
    let reads = (options.rate * options.seconds).div_ceil(options.readers);
    std::thread::scope(|threads| {
        let readers: Vec<_> = (0..options.readers)
            .map(|number| {
                let http = http.as_str();
                threads.spawn(move || {
                    let start = Instant::now() + every * number / options.readers;
                    let skip = orders.len() * number as usize / options.readers as usize;
                    let orders = orders.iter().cycle().skip(skip);
                    Reader::connect(http)?.read(orders.take(reads as usize), start, every)
                })
            })
            .collect();
        let mut all = Vec::new();
        for reader in readers {
            let found = reader.join().ok().context("a reader panicked")??;
            all.extend(found);
        }
        Ok(all)
    })
}

fn medians(runs: &[Run]) -> Run {
    let of = |value: fn(&Run) -> f64| median(runs.iter().map(value));
    let quantiles = |value: fn(&Run) -> Quantiles| Quantiles {
        count: runs.iter().map(|run| value(run).count).sum(),
        p50_ms: median(runs.iter().map(|run| value(run).p50_ms)),
        p99_ms: median(runs.iter().map(|run| value(run).p99_ms)),
        p99_9_ms: median(runs.iter().map(|run| value(run).p99_9_ms)),
    };
    Run {
        stored_per_s: of(|run| run.stored_per_s),
        half_load_per_s: of(|run| run.half_load_per_s),
        get_at_rest: quantiles(|run| run.get_at_rest),
        get_at_half_load: quantiles(|run| run.get_at_half_load),
        publish_to_get_at_rest: quantiles(|run| run.publish_to_get_at_rest),
        publish_to_get_at_half_load: quantiles(|run| run.publish_to_get_at_half_load),
        load_average: proc_stat::load_average(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_read_off_in_order() {
        let found = Quantiles::of((1..=1_000).rev().collect());
        let milli = |value: f64| (value * 1e3).round();
        assert_eq!(found.count, 1_000);
        assert!((milli(found.p50_ms) - 501.0).abs() < 0.5, "{found:?}");
        assert!((milli(found.p99_ms) - 991.0).abs() < 0.5, "{found:?}");
        assert!((milli(found.p99_9_ms) - 1_000.0).abs() < 0.5, "{found:?}");
        assert_eq!(Quantiles::of(Vec::new()).count, 0);
    }
}
