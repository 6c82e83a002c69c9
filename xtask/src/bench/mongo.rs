//! `cargo xtask bench mongo`: how fast messages go through separate broker and subscriber processes into a
//! MongoDB-protocol server, beside what the bare driver's `insert_many` reaches on the same server in the same
//! run with batches of the same size.
//!
//! The driver inserts the same documents (`store_bench`, an example of `store_mongo`) and does nothing else; the
//! pipeline also parses, finds duplicates, keeps last positions and what leads to the rows, and proves its
//! sequences. What lies between the two is measured beside them: the store without broker and subscriber. Which of driver and pipeline goes first alternates from run to run, each into a database of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use system_tests::process::Launch;
use system_tests::publisher::{Burst, Summary};
use system_tests::services::{Options as ServiceOptions, Part, Programs, Services};
use system_tests::{binaries, poll, proc_stat};

use super::measure::{as_f64, finish};
use super::median;
use crate::machine::Machine;
use crate::{print, progress};

/// Orders and deliverers that report at a time, as the load has them: so many last positions a batch moves.
const REPORTING: &str = "50";

/// How long one side of a run may take before it counts as hung.
const PATIENCE: Duration = Duration::from_mins(10);

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Runs of both; medians are reported
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Messages of each burst, and documents the driver inserts
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// Most records of a batch, of the subscriber and of the driver; the broker's window is twice that
    #[arg(long, default_value_t = 1_000)]
    batch: u64,
    /// Subscribers, at most 3
    #[arg(long, default_value_t = 1)]
    subscribers: usize,
    /// Connections of each subscriber; the driver has as many writers as there are connections in all
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Connections of the load
    #[arg(long, default_value_t = 16)]
    load_connections: u32,
    /// Build profile of the programs measured; figures count only for release
    #[arg(long, default_value = "release")]
    profile: String,
}

impl Options {
    fn writers(&self) -> usize {
        self.subscribers * self.connections
    }
}

/// The whole result.
#[derive(Debug, Serialize)]
struct Report {
    what: &'static str,
    profile: String,
    machine: Machine,
    load_average_before: String,
    messages: u64,
    batch: u64,
    writers: usize,
    median: Median,
    runs: Vec<Run>,
}

/// Medians over the runs.
#[derive(Debug, Serialize)]
struct Median {
    driver_inserted_per_s: f64,
    store_alone_per_s: f64,
    pipeline_stored_per_s: f64,
    /// Of the ratios of each run, stored by the pipeline to inserted by the driver.
    ratio: f64,
    acked_per_s: f64,
    mean_batch_records: f64,
    /// Processor time in microseconds per message, by process.
    cpu_us_per_message: BTreeMap<String, f64>,
    /// The process that used most of it.
    busiest: String,
}

/// One run of both.
#[derive(Debug, Serialize)]
struct Run {
    driver_first: bool,
    driver: Driver,
    pipeline: Pipeline,
    ratio: f64,
    load_average: String,
}

/// What `store_bench` reached.
#[derive(Debug, Serialize)]
struct Driver {
    /// The bare driver.
    inserted_per_s: f64,
    /// The store, without broker and subscriber.
    store_alone_per_s: f64,
    /// Each of these with its processor time, as `store_bench` printed it.
    printed: Vec<Value>,
}

/// What the pipeline reached.
#[derive(Debug, Serialize)]
struct Pipeline {
    /// From the start of the client's process until the subscribers have stored all.
    stored_per_s: f64,
    acked_per_s: f64,
    mean_batch_records: f64,
    elapsed_s: f64,
    /// Processor time in seconds, by process.
    cpu_s: BTreeMap<String, f64>,
    /// The same as a share of what was used in all.
    cpu_share: BTreeMap<String, f64>,
    /// Share of the machine's processor time that these processes used.
    machine_share: f64,
}

/// Builds, measures, prints.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    progress(&format!("building the services ({})", options.profile));
    let example = ("store_mongo", "store_bench");
    let built = binaries::build_all(&Programs::NAMES, &[example], &options.profile)?;
    let (programs, driver) = (Programs::of(&built)?, built.path(example.1)?);
    let load_average_before = proc_stat::load_average();
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        let run = run_once(options, &programs, &driver, number % 2 == 1)?;
        progress(&format!(
            "run {number}: driver {:.0}/s, pipeline {:.0}/s, ratio {:.2}",
            run.driver.inserted_per_s, run.pipeline.stored_per_s, run.ratio
        ));
        runs.push(run);
    }
    print(&Report {
        what: "bench mongo",
        profile: options.profile.clone(),
        machine: Machine::read(),
        load_average_before,
        messages: options.messages,
        batch: options.batch,
        writers: options.writers(),
        median: medians(&runs, options.messages),
        runs,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn run_once(
    options: &Options,
    programs: &Programs,
    driver: &Path,
    driver_first: bool,
) -> Result<Run> {
    let mut service_options = ServiceOptions {
        subscribers: options.subscribers,
        connections: options.connections,
        ..ServiceOptions::new(programs.clone())
    };
    // One batch is being written while the next is gathered: the broker must send that much unacknowledged.
    let window = (2 * options.batch).clamp(1_000, 30_000);
    service_options.broker_args = vec!["--mqtt-window".to_owned(), window.to_string()];
    let batch = options.batch.to_string();
    service_options.subscriber_args = ["--batch-records", &batch, "--log", "warn"]
        .map(str::to_owned)
        .to_vec();
    let mut services = Services::start("bench mongo", service_options)?
        .context("the benchmark needs a MongoDB-protocol server and pymongo")?;
    let load_average = proc_stat::load_average();
    let (inserted, pipeline) = if driver_first {
        let inserted = drive(options, driver, &mut services)?;
        (inserted, pipe(options, programs, &mut services)?)
    } else {
        let pipeline = pipe(options, programs, &mut services)?;
        (drive(options, driver, &mut services)?, pipeline)
    };
    services.stop()?;
    Ok(Run {
        driver_first,
        ratio: pipeline.stored_per_s / inserted.inserted_per_s,
        driver: inserted,
        pipeline,
        load_average,
    })
}

/// Lets the bare driver insert.
fn drive(options: &Options, driver: &Path, services: &mut Services) -> Result<Driver> {
    let server = services.process(Part::Database)?.id().to_string();
    let finished = Launch::of("store_bench", driver, services.folder())
        .arg(services.database().uri())
        .arg(options.messages.to_string())
        .arg(options.batch.to_string())
        .arg(REPORTING)
        .arg(options.writers().to_string())
        .args(["1", &server])
        .run(PATIENCE)?
        .success()?;
    let lines = finished.stdout.lines().map(serde_json::from_str);
    let mut printed = lines.collect::<Result<Vec<Value>, _>>()?;
    printed.retain(|line| line["how"].is_string());
    let rate = |how: &str| {
        let line = printed.iter().find(|line| line["how"] == how);
        let rate = line.and_then(|line| line["per_second"].as_f64());
        rate.with_context(|| format!("store_bench did not measure {how}: {}", finished.stdout))
    };
    Ok(Driver {
        inserted_per_s: rate("Bare")?,
        store_alone_per_s: rate("Store")?,
        printed,
    })
}

/// Sends a burst through broker and subscribers.
fn pipe(options: &Options, programs: &Programs, services: &mut Services) -> Result<Pipeline> {
    let parts = services.parts();
    let before = parts
        .iter()
        .map(|part| cpu_s(services, *part))
        .collect::<Result<Vec<f64>>>()?;
    let burst = Burst {
        mqtt: services.mqtt_address(),
        messages: options.messages,
        connections: options.load_connections,
        ledger: None,
        rate: None,
    };
    let started = Instant::now();
    let client = burst
        .launch(&programs.publisher, services.folder())
        .start()?;
    let (finished, client_cpu_s) = finish(client, PATIENCE)?;
    let summary = Summary::read(&finished)?;
    ensure!(summary.acked == options.messages, "{summary:?}");
    // The subscribers say it: for the API the server might have to read all of it again and again.
    poll::gently("all messages to be stored", PATIENCE, || {
        let stored = of_subscribers(services, options.subscribers, "subscriber_stored_total")?;
        Ok((stored >= as_f64(options.messages)).then_some(()))
    })?;
    let elapsed_s = started.elapsed().as_secs_f64();
    let counts = services.counts()?;
    ensure!(counts.positions == options.messages, "{counts:?}");
    let mut cpu = BTreeMap::from([("publisher".to_owned(), client_cpu_s)]);
    for (part, before) in parts.into_iter().zip(before) {
        cpu.insert(format!("{part:?}"), cpu_s(services, part)? - before);
    }
    let all: f64 = cpu.values().sum();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = cpu.iter().map(|(name, used)| (name.clone(), used / all));
    Ok(Pipeline {
        stored_per_s: as_f64(options.messages) / elapsed_s,
        acked_per_s: as_f64(options.messages) / summary.elapsed_s,
        mean_batch_records: mean_batch(services, options.subscribers)?,
        elapsed_s,
        cpu_share: share.collect(),
        machine_share: all / (elapsed_s * as_f64(cores as u64)),
        cpu_s: cpu,
    })
}

fn cpu_s(services: &mut Services, part: Part) -> Result<f64> {
    Ok(proc_stat::read(services.process(part)?.id())?.cpu_s)
}

fn mean_batch(services: &Services, subscribers: usize) -> Result<f64> {
    let sum = |name| of_subscribers(services, subscribers, name);
    Ok(sum("subscriber_batch_records_sum")? / sum("subscriber_batch_records_count")?)
}

/// Adds up a metric of all subscribers.
fn of_subscribers(services: &Services, subscribers: usize, name: &str) -> Result<f64> {
    (0..subscribers)
        .map(|number| services.metric(Part::Subscriber(number), name))
        .sum()
}

fn medians(runs: &[Run], messages: u64) -> Median {
    let of = |value: &dyn Fn(&Run) -> f64| median(runs.iter().map(value));
    let names = runs.iter().flat_map(|run| run.pipeline.cpu_s.keys());
    let cpu: BTreeMap<String, f64> = names
        .map(|name| {
            let used = of(&|run| run.pipeline.cpu_s[name]);
            (name.clone(), used * 1e6 / as_f64(messages))
        })
        .collect();
    let busiest = cpu.iter().max_by(|a, b| a.1.total_cmp(b.1));
    Median {
        driver_inserted_per_s: of(&|run| run.driver.inserted_per_s),
        store_alone_per_s: of(&|run| run.driver.store_alone_per_s),
        pipeline_stored_per_s: of(&|run| run.pipeline.stored_per_s),
        ratio: of(&|run| run.ratio),
        acked_per_s: of(&|run| run.pipeline.acked_per_s),
        mean_batch_records: of(&|run| run.pipeline.mean_batch_records),
        busiest: busiest.map(|(name, _)| name.clone()).unwrap_or_default(),
        cpu_us_per_message: cpu,
    }
}
