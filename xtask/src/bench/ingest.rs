//! `cargo xtask bench ingest`: how fast messages are acknowledged, stored and readable, and at what cost,
//! beside mosquitto with the same client in the same run.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use system_tests::{binaries, proc_stat};

use super::measure::{Measurement, measure};
use super::median;
use super::subject::Kind;
use crate::machine::Machine;
use crate::{print, progress};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Connections, one measurement each
    #[arg(long, value_delimiter = ',', default_values_t = [8, 64, 512])]
    connections: Vec<u32>,
    /// Runs of everything; medians are reported
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Messages of each burst into lastmile
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Messages of each burst into mosquitto, which is slower
    #[arg(long, default_value_t = 200_000)]
    peer_messages: u64,
    /// Leave mosquitto out
    #[arg(long)]
    without_peer: bool,
    /// Build profile of the programs measured; figures count only for release
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
    runs: u32,
    medians: Vec<Median>,
    measurements: Vec<Measurement>,
}

/// Medians of the runs of one subject at one number of connections.
#[derive(Debug, Serialize)]
struct Median {
    subject: Kind,
    connections: u32,
    acked_per_s: f64,
    stored_and_readable_per_s: Option<f64>,
    ack_p50_ms: f64,
    ack_p99_ms: f64,
    ack_p999_ms: f64,
    server_cpu_us_per_message: f64,
    client_cpu_us_per_message: f64,
    server_peak_memory_mib: f64,
    /// Our acknowledged messages per second divided by this subject's, at the same connections.
    lastmile_acked_ratio: Option<f64>,
    /// This subject's processor time per message divided by ours.
    lastmile_cpu_ratio: Option<f64>,
}

/// Builds, measures, prints.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let kinds: &[Kind] = if options.without_peer {
        &Kind::ALL[..1]
    } else {
        &Kind::ALL
    };
    progress(&format!(
        "building lastmile and publisher ({})",
        options.profile
    ));
    let lastmile = binaries::build("lastmile", &options.profile)?;
    let publisher = binaries::build("publisher", &options.profile)?;
    let load_average_before = proc_stat::load_average();
    let mut measurements = Vec::new();
    // Subjects take turns, so that a machine that slows down slows all of them.
    for run in 1..=options.runs {
        for &connections in &options.connections {
            for &kind in kinds {
                let messages = match kind {
                    Kind::Lastmile => options.messages,
                    _ => options.peer_messages,
                };
                let found = measure(kind, &lastmile, &publisher, connections, messages)?;
                progress(&format!(
                    "run {run}/{}: {kind:?}, {connections} connections: {:.0} acked/s, {} stored/s, \
                     p99 {:.1} ms, server {:.2} us/message, load {}",
                    options.runs,
                    found.acked_per_s,
                    found
                        .stored_and_readable_per_s
                        .map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}")),
                    found.ack_p99_ms,
                    found.server_cpu_us_per_message,
                    found.load_average,
                ));
                measurements.push(found);
            }
        }
    }
    print(&Report {
        what: "ingest",
        profile: options.profile.clone(),
        machine: Machine::read(),
        load_average_before,
        runs: options.runs,
        medians: medians(&measurements),
        measurements,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn medians(measurements: &[Measurement]) -> Vec<Median> {
    let mut groups: BTreeMap<(u32, Kind), Vec<&Measurement>> = BTreeMap::new();
    for measurement in measurements {
        let group = groups.entry((measurement.connections, measurement.subject));
        group.or_default().push(measurement);
    }
    let mut all: Vec<Median> = groups
        .into_iter()
        .map(|((connections, subject), group)| {
            let of = |value: fn(&Measurement) -> f64| median(group.iter().map(|&one| value(one)));
            let stored = group.iter().filter_map(|one| one.stored_and_readable_per_s);
            Median {
                subject,
                connections,
                acked_per_s: of(|one| one.acked_per_s),
                stored_and_readable_per_s: (stored.clone().count() > 0).then(|| median(stored)),
                ack_p50_ms: of(|one| one.ack_p50_ms),
                ack_p99_ms: of(|one| one.ack_p99_ms),
                ack_p999_ms: of(|one| one.ack_p999_ms),
                server_cpu_us_per_message: of(|one| one.server_cpu_us_per_message),
                client_cpu_us_per_message: of(|one| one.client_cpu_us_per_message),
                server_peak_memory_mib: of(|one| one.server_peak_memory_mib),
                lastmile_acked_ratio: None,
                lastmile_cpu_ratio: None,
            }
        })
        .collect();
    let ours: BTreeMap<u32, (f64, f64)> = all
        .iter()
        .filter(|median| median.subject == Kind::Lastmile)
        .map(|median| {
            let figures = (median.acked_per_s, median.server_cpu_us_per_message);
            (median.connections, figures)
        })
        .collect();
    for median in all
        .iter_mut()
        .filter(|median| median.subject != Kind::Lastmile)
    {
        if let Some((acked_per_s, cpu)) = ours.get(&median.connections) {
            median.lastmile_acked_ratio = Some(acked_per_s / median.acked_per_s);
            median.lastmile_cpu_ratio = Some(median.server_cpu_us_per_message / cpu);
        }
    }
    all
}
