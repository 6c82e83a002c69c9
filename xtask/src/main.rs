//! Tasks of developers that are no tests: the checks of CI, the benchmark, the long campaign.
//!
//! Results go to standard output as one JSON document, progress to standard error.

mod bench;
mod ci;
mod docs;
mod machine;
mod soak;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde::Serialize;

/// Developers' tasks of lastmile.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run what continuous integration runs (`./test.sh`), or only the named steps of it
    Ci {
        /// Steps: tools fmt clippy doc build test shell readme
        steps: Vec<String>,
    },
    /// Measure; prints JSON
    Bench {
        #[command(subcommand)]
        what: BenchTask,
    },
    /// Kill the pipeline (SIGKILL) again and again under load and reconcile what was acknowledged with
    /// what is stored; prints JSON and fails when anything is lost or counted twice
    Soak(soak::Options),
    /// Write what is generated in the documentation: the tables of settings in docs/operations.md
    Docs(docs::Options),
}

#[derive(Debug, Subcommand)]
enum BenchTask {
    /// MQTT QoS 1 into the all-in-one program, beside mosquitto in the same run
    Ingest(bench::ingest::Options),
    /// MQTT QoS 1 through separate broker and subscriber processes into a MongoDB-protocol server, beside
    /// the bare driver on the same server
    Mongo(bench::mongo::Options),
    /// The broker alone: acknowledged and delivered messages, latency at half load, idle connections, beside
    /// mosquitto in the same run
    Mqtt(bench::mqtt::Options),
    /// What a GET of a last location takes, at rest and while positions come in, and how soon it answers a new one
    Reads(bench::reads::Options),
    /// The offload of simulated positions to the lake, beside the bare write of the same Parquet, and the models, beside
    /// DuckDB and Spark on the same files
    Lake(bench::lake::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Ci { steps } => ci::run(&steps),
        Task::Bench {
            what: BenchTask::Ingest(options),
        } => bench::ingest::run(&options),
        Task::Bench {
            what: BenchTask::Mongo(options),
        } => bench::mongo::run(&options),
        Task::Bench {
            what: BenchTask::Mqtt(options),
        } => bench::mqtt::run(&options),
        Task::Bench {
            what: BenchTask::Reads(options),
        } => bench::reads::run(&options),
        Task::Bench {
            what: BenchTask::Lake(options),
        } => bench::lake::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Docs(options) => docs::run(&options),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            progress(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Says on standard error what is going on.
fn progress(text: &str) {
    // Nobody can be told when standard error is closed.
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Prints a result as JSON.
fn print<T: Serialize>(result: &T) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, result)?;
    writeln!(stdout)?;
    Ok(())
}
