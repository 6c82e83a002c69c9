//! `cargo xtask bench lake`: what the way from the store to the lake costs, and the models after it.
//!
//! A simulated fleet's positions are put into an SQLite store (`fill_store`, an example of `publisher`), offloaded by
//! the real `lake_ingest`, and written once more bare (`lake_bench`, an example of `lake`): the same rows, in memory as
//! Arrow batches, with the same writer settings into files that are synced. Then `lake_ingest` runs the built-in models,
//! and DuckDB and Spark run the same SQL over the same files. All of it once for each scale, so that growth shows, of
//! time as of memory. Everything lies in one temporary folder that is gone at the end.

mod engines;
mod scale;
mod watched;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use system_tests::{binaries, proc_stat, python};

use crate::machine::Machine;
use crate::{print, progress};
use scale::Scale;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Positions of the greatest scale
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Positions of every scale, ascending [default: a tenth of --rows, and --rows]
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    scales: Vec<u64>,
    /// Offloads of each scale, each beside a bare write; medians are reported
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Deliverers that report every ten seconds
    #[arg(long, default_value_t = 500)]
    deliverers: u64,
    /// Build profile of the programs measured; figures count only for release. With `dev` and `LASTMILE_BIN_DIR` those
    /// of the folder, and of `examples` in it
    #[arg(long, default_value = "release")]
    profile: String,
    /// Measure the offload alone
    #[arg(long)]
    skip_models: bool,
    /// Leave out DuckDB and Spark
    #[arg(long)]
    skip_engines: bool,
    /// Leave out Spark
    #[arg(long)]
    skip_spark: bool,
}

impl Options {
    fn scales(&self) -> Vec<u64> {
        if self.scales.is_empty() {
            return vec![self.rows / 10, self.rows];
        }
        self.scales.clone()
    }
}

/// The programs under test.
#[derive(Debug)]
struct Programs {
    lake_ingest: PathBuf,
    lake_bench: PathBuf,
    fill_store: PathBuf,
    /// A Python that has the engines, where there is one.
    python: Option<PathBuf>,
}

/// The whole result.
#[derive(Debug, Serialize)]
struct Report {
    what: &'static str,
    profile: String,
    machine: Machine,
    load_average_before: String,
    deliverers: u64,
    scales: Vec<Scale>,
}

/// Builds, measures, prints.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let scales = options.scales();
    ensure!(
        options.runs > 0 && scales.iter().all(|rows| *rows > 0),
        "nothing to measure"
    );
    progress(&format!("building ({})", options.profile));
    let built = binaries::build_all(
        &["lake_ingest"],
        &[("lake", "lake_bench")],
        &options.profile,
    )?;
    // Another command: what it is built with must not reach the programs measured.
    let filler = binaries::build_all(&[], &[("publisher", "fill_store")], &options.profile)?;
    let engines = !options.skip_models && !options.skip_engines;
    let modules: &[&str] = if options.skip_spark {
        &["duckdb", "h3"]
    } else {
        &["duckdb", "h3", "pyspark"]
    };
    let programs = Programs {
        lake_ingest: built.path("lake_ingest")?,
        lake_bench: built.path("lake_bench")?,
        fill_store: filler.path("fill_store")?,
        python: engines
            .then(|| python::with_modules("DuckDB and Spark", modules))
            .flatten(),
    };
    let load_average_before = proc_stat::load_average();
    let measured = scales
        .into_iter()
        .map(|rows| scale::measure(options, &programs, rows));
    let scales = measured.collect::<Result<Vec<_>>>()?;
    print(&Report {
        what: "bench lake",
        profile: options.profile.clone(),
        machine: Machine::read(),
        load_average_before,
        deliverers: options.deliverers,
        scales,
    })?;
    Ok(ExitCode::SUCCESS)
}
