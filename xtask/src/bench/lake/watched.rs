//! A program run to its end, and what it used.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use system_tests::process::{Finished, Launch};
use system_tests::{poll, proc_stat};

use crate::bench::measure::as_f64;

/// How long a program may take before it counts as hung.
const PATIENCE: Duration = Duration::from_hours(1);

/// What a program used.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Used {
    pub(super) wall_s: f64,
    /// Processor time of the process itself, without those it started.
    pub(super) cpu_s: f64,
    /// Peak resident memory of the process itself, in MiB.
    pub(super) peak_memory_mib: f64,
    /// Peak of what is its own of that, looked at every 20 ms, in MiB.
    pub(super) peak_own_mib: f64,
    /// Peak of the pages of files it maps, looked at as often: its program, and what it reads that way.
    pub(super) peak_mapped_mib: f64,
    /// Load averages when it began.
    pub(super) load_average: String,
}

/// Runs a program; returns what it said and what it used.
pub(super) fn run(launch: Launch) -> Result<(Finished, Used)> {
    let load_average = proc_stat::load_average();
    let begun = Instant::now();
    let process = launch.start()?;
    let pid = process.id();
    let (mut peak, mut own, mut mapped) = (0, 0, 0);
    // Times are final once it has ended and is not reaped yet; the peak has to be read before that.
    let (cpu_s, wall_s) = poll::until("the end of the program", PATIENCE, || {
        peak = proc_stat::peak_memory_bytes(pid).unwrap_or(peak);
        own = own.max(proc_stat::own_bytes(pid).unwrap_or_default());
        mapped = mapped.max(proc_stat::mapped_bytes(pid).unwrap_or_default());
        let stat = proc_stat::read(pid)?;
        Ok(stat
            .is_zombie
            .then(|| (stat.cpu_s, begun.elapsed().as_secs_f64())))
    })?;
    let finished = process.finish(poll::PATIENCE)?.success()?;
    let used = Used {
        wall_s,
        cpu_s,
        peak_memory_mib: mib(peak),
        peak_own_mib: mib(own),
        peak_mapped_mib: mib(mapped),
        load_average,
    };
    Ok((finished, used))
}

/// The same of a program that prints JSON.
pub(super) fn run_json(launch: Launch) -> Result<(Value, Used)> {
    let (finished, used) = run(launch)?;
    Ok((finished.json()?, used))
}

fn mib(bytes: u64) -> f64 {
    as_f64(bytes) / 1_048_576.0
}
