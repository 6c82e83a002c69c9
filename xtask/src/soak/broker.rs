//! `cargo xtask soak sessions|disk|kills|packets`: the broker's own campaigns at length.
//!
//! Each is a test of the suite that is told to go on for longer; what it prints is its result.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use system_tests::binaries::workspace_root;
use system_tests::proc_stat;

use crate::machine::Machine;
use crate::{print, progress};

/// How long.
#[derive(Debug, Args)]
pub(crate) struct Sessions {
    /// Worlds, each drawn from a seed
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// The first seed; with `--seeds 1` it repeats a failed one
    #[arg(long, default_value_t = 0)]
    first: u64,
    #[command(flatten)]
    build: Build,
}

/// How long.
#[derive(Debug, Args)]
pub(crate) struct Disk {
    /// Crashes of the simulated disk, of the log and again of the session state
    #[arg(long, default_value_t = 1_000_000)]
    points: u64,
    #[command(flatten)]
    build: Build,
}

/// How long.
#[derive(Debug, Args)]
pub(crate) struct Kills {
    /// Kills of the broker's process
    #[arg(long, default_value_t = 10_000)]
    cycles: u64,
    #[command(flatten)]
    build: Build,
}

/// How long.
#[derive(Debug, Args)]
pub(crate) struct Packets {
    /// Connections, each with a drawn case of noise or changed packets
    #[arg(long, default_value_t = 10_000_000)]
    cases: u64,
    #[command(flatten)]
    build: Build,
}

#[derive(Debug, Args)]
struct Build {
    /// Build profile
    #[arg(long, default_value = "release")]
    profile: String,
}

/// A test, and how it is told to go on.
#[derive(Debug)]
struct Campaign<'a> {
    package: &'a str,
    target: &'a [&'a str],
    test: &'a str,
    env: Vec<(&'a str, u64)>,
}

/// The result.
#[derive(Debug, Serialize)]
struct Report {
    what: &'static str,
    profile: String,
    machine: Machine,
    load_average: String,
    parts: Vec<Part>,
}

#[derive(Debug, Serialize)]
struct Part {
    package: String,
    test: String,
    asked: Vec<u64>,
    passed: bool,
    elapsed_s: f64,
    /// What the test printed.
    said: Vec<String>,
}

impl Sessions {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let env = vec![
            ("LASTMILE_SIM_SEEDS", self.seeds),
            ("LASTMILE_SIM_FIRST", self.first),
        ];
        let test = "simulation::seeds::no_seed_loses_or_doubles_a_message";
        let campaign = Campaign {
            package: "broker",
            target: &["--lib"],
            test,
            env,
        };
        run("soak sessions", &self.build, &[campaign])
    }
}

impl Disk {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let campaign = |package, test| Campaign {
            package,
            target: &["--lib"],
            test,
            env: vec![("LASTMILE_CRASH_POINTS", self.points)],
        };
        let log = campaign(
            "ingest_log",
            "crash_tests::no_crash_loses_or_invents_a_record",
        );
        let state = campaign(
            "session_state",
            "crash_tests::no_crash_loses_or_doubles_a_message",
        );
        run("soak disk", &self.build, &[log, state])
    }
}

impl Kills {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let campaign = Campaign {
            package: "broker",
            target: &["--test", "it"],
            test: "kill::each_message_arrives_through_kills_and_once_with_qos_2",
            env: vec![("LASTMILE_KILLS", self.cycles)],
        };
        run("soak kills", &self.build, &[campaign])
    }
}

impl Packets {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let campaign = Campaign {
            package: "broker",
            target: &["--lib"],
            test: "simulation::fuzz::tests::no_input_harms_the_broker",
            env: vec![("LASTMILE_FUZZ_CASES", self.cases)],
        };
        run("soak packets", &self.build, &[campaign])
    }
}

fn run(what: &'static str, build: &Build, campaigns: &[Campaign<'_>]) -> Result<ExitCode> {
    let load_average = proc_stat::load_average();
    let mut parts = Vec::new();
    for campaign in campaigns {
        progress(&format!("{campaign:?} ({})", build.profile));
        parts.push(campaign.run(&build.profile)?);
    }
    let passed = parts.iter().all(|part| part.passed);
    print(&Report {
        what,
        profile: build.profile.clone(),
        machine: Machine::read(),
        load_average,
        parts,
    })?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Campaign<'_> {
    fn run(&self, profile: &str) -> Result<Part> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .current_dir(workspace_root())
            .args(["test", "--profile", profile, "-p", self.package])
            .args(self.target);
        let built = command.arg("--no-run").status()?;
        anyhow::ensure!(
            built.success(),
            "the tests of {} do not build",
            self.package
        );
        let mut command = Command::new(command.get_program());
        command
            .current_dir(workspace_root())
            .args(["test", "--profile", profile, "-p", self.package])
            .args(self.target)
            .args(["--", "--exact", self.test, "--nocapture"])
            .envs(
                self.env
                    .iter()
                    .map(|(name, value)| (name, value.to_string())),
            )
            .env("RUST_BACKTRACE", "0")
            .stderr(Stdio::inherit());
        let began = Instant::now();
        let output = command.output().context("cargo test does not run")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let noise = |line: &&str| line.is_empty() || line.starts_with("running ");
        let said: Vec<String> = text
            .lines()
            .filter(|line| !noise(line))
            .map(str::to_owned)
            .collect();
        // A name that matches nothing passes, too.
        let ran = said.iter().any(|line| line.contains("1 passed"));
        Ok(Part {
            package: self.package.to_owned(),
            test: self.test.to_owned(),
            asked: self.env.iter().map(|(_, value)| *value).collect(),
            passed: output.status.success() && ran,
            elapsed_s: began.elapsed().as_secs_f64(),
            said,
        })
    }
}
