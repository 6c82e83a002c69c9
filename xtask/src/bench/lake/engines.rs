//! The same models on other engines, over the same files of raw.
//!
//! Both get the job `lake_ingest models --engine spark` writes: the models' SQL as it is. Spark runs it by
//! `deploy/spark/models.py`, as users have it run; DuckDB by a script beside this file, which gives it the functions of
//! Spark's SQL it lacks and leaves the declared checks out.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use system_tests::binaries::workspace_root;
use system_tests::process::Launch;

use super::scale::ingest;
use super::watched;
use super::{Options, Programs};
use crate::progress;

/// The models every engine runs: those over positions alone, of which there are rows here. DuckDB cannot parse those over
/// fleet events, for a column is named `at`.
pub(super) const COMPARED: [&str; 6] = [
    "treated.deliverer_location",
    "final.deliverer_location_aggregated",
    "final.delivery_trip",
    "final.vehicle_position_data",
    "final.speed_by_hour_and_cell",
    "final.travel_time_between_zones",
];

/// What an engine took.
#[derive(Debug, Serialize)]
pub(super) struct Engine {
    name: &'static str,
    /// From the start of its process to its end.
    wall_s: f64,
    /// Peak resident memory in MiB; absent where it is not one process.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_mib: Option<f64>,
    /// Lines it printed, one for each model.
    models: Vec<String>,
}

/// Runs the models on DuckDB and Spark.
pub(super) fn run(
    options: &Options,
    programs: &Programs,
    python: &Path,
    folder: &Path,
) -> Result<Vec<Engine>> {
    let job = folder.join("job");
    let write = ingest(programs, folder)
        .args(["models", "--engine", "spark", "--job"])
        .arg(&job);
    watched::run(write)?;
    let mut engines = Vec::new();
    let here = workspace_root().join("xtask/src/bench/lake");
    let duckdb = Launch::of("duckdb", python, folder)
        .arg("-u")
        .arg(here.join("duckdb_models.py"))
        .arg(&job)
        .arg(folder.join("data/lake"))
        .arg(folder.join("duckdb"))
        .args(COMPARED);
    let (finished, used) = watched::run(duckdb)?;
    progress(&format!("DuckDB: {:.1} s", used.wall_s));
    engines.push(Engine {
        name: "DuckDB, checks left out",
        wall_s: used.wall_s,
        peak_memory_mib: Some(used.peak_memory_mib),
        models: lines(&finished.stdout),
    });
    if !options.skip_spark {
        let local = folder.join("spark-local");
        let submitted = format!(
            "--master local[2] --driver-memory 4g --conf spark.local.dir={0} --conf spark.sql.warehouse.dir={0}/warehouse \
             --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=8 pyspark-shell",
            local.display()
        );
        let spark = Launch::of("spark", python, folder)
            .env("PYSPARK_PYTHON", python)
            .env("PYSPARK_SUBMIT_ARGS", submitted)
            .env("TZ", "UTC")
            .arg(here.join("spark_models.py"))
            .arg(&job)
            .arg(format!("file://{}", folder.join("spark").display()))
            .args(COMPARED);
        let begun = Instant::now();
        let (finished, _) = watched::run(spark)?;
        let wall_s = begun.elapsed().as_secs_f64();
        progress(&format!("Spark: {wall_s:.1} s"));
        engines.push(Engine {
            name: "Spark",
            wall_s,
            peak_memory_mib: None,
            models: lines(&finished.stdout),
        });
    }
    Ok(engines)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}
