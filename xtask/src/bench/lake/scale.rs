//! One scale: so many rows filled in, offloaded, written bare, modelled.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;
use system_tests::process::Launch;

use super::engines::{self, Engine};
use super::watched::{self, Used};
use super::{Options, Programs};
use crate::bench::measure::as_f64;
use crate::bench::median;
use crate::progress;

/// What one scale showed.
#[derive(Debug, Serialize)]
pub(super) struct Scale {
    rows: u64,
    store_bytes: u64,
    filled_s: f64,
    median: Median,
    runs: Vec<Run>,
    /// Comparing all dates of store and lake, row by row.
    reconcile: Used,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Models>,
    /// Putting the models' files together, where a table has several small ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    compact: Option<Used>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    engines: Vec<Engine>,
}

/// Medians over the runs.
#[derive(Debug, Serialize)]
struct Median {
    /// Rows of a second of processor time, from Arrow batches to the bytes of Parquet files.
    encode_rows_per_cpu_s: f64,
    bytes_per_row: f64,
    offload_rows_per_s: f64,
    offload_rows_per_cpu_s: f64,
    bare_rows_per_s: f64,
    /// Wall time of the whole offload, as often as the bare write's.
    offload_to_bare: f64,
    offload_peak_memory_mib: f64,
    offload_peak_own_mib: f64,
    offload_peak_mapped_mib: f64,
}

/// One offload and one bare write.
#[derive(Debug, Serialize)]
struct Run {
    bytes: u64,
    files: u64,
    /// The process `lake_ingest offload`, from its start to its end.
    offload: Used,
    /// The offload itself, as the program reports it: without its start.
    offload_s: f64,
    bare: Bare,
}

/// The bare write.
#[derive(Debug, Serialize)]
struct Bare {
    wall_s: f64,
    cpu_s: f64,
    encode_cpu_s: f64,
    bytes: u64,
    /// Bytes of a row that each column takes in the lake's files.
    bytes_per_row_by_column: BTreeMap<String, f64>,
}

/// The built-in models, run for the first time.
#[derive(Debug, Serialize)]
struct Models {
    used: Used,
    /// Seconds of those the other engines run as well.
    compared_s: f64,
    bytes: u64,
    /// Seconds and rows, in the order run.
    each: Vec<(String, f64, u64)>,
}

/// Measures one scale in a folder of its own.
pub(super) fn measure(options: &Options, programs: &Programs, rows: u64) -> Result<Scale> {
    let folder = tempfile::TempDir::with_prefix("lastmile-bench-lake-")?;
    let folder = folder.path();
    let store = folder.join("filled.sqlite");
    let fill = Launch::of("fill_store", &programs.fill_store, folder)
        .arg(&store)
        .args([rows, options.deliverers].map(|number| number.to_string()));
    let (filled, _) = watched::run_json(fill)?;
    ensure!(filled["rows"] == rows, "filled: {filled}");
    let filled_s = filled["seconds"].as_f64().unwrap_or_default();
    progress(&format!("{rows} rows stored in {filled_s:.0} s"));
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        let run = offload(programs, folder, &store, rows)?;
        progress(&format!(
            "{rows} rows, run {number}: offload {:.2} s, bare {:.2} s, {:.0} MiB, {:.0} of them its own",
            run.offload.wall_s,
            run.bare.wall_s,
            run.offload.peak_memory_mib,
            run.offload.peak_own_mib
        ));
        runs.push(run);
    }
    let reconcile = reconcile(programs, folder)?;
    progress(&format!(
        "{rows} rows compared in {:.1} s",
        reconcile.wall_s
    ));
    let (mut models, mut compact, mut of_engines) = (None, None, Vec::new());
    if !options.skip_models {
        let ran = run_models(programs, folder)?;
        progress(&format!("{rows} rows, models: {:.1} s", ran.used.wall_s));
        models = Some(ran);
        let compacting = ingest(programs, folder).arg("compact");
        compact = Some(watched::run(compacting)?.1);
        if let Some(python) = &programs.python {
            of_engines = engines::run(options, programs, python, folder)?;
        }
    }
    Ok(Scale {
        rows,
        store_bytes: std::fs::metadata(&store)?.len(),
        filled_s,
        median: medians(&runs, rows),
        runs,
        reconcile,
        models,
        compact,
        engines: of_engines,
    })
}

/// Prepares `lake_ingest` over the store and the lake of this scale.
pub(super) fn ingest(programs: &Programs, folder: &Path) -> Launch {
    Launch::of("lake_ingest", &programs.lake_ingest, folder)
        .arg("--data")
        .arg(folder.join("data"))
        .args(["--summary", "json"])
}

/// Offloads a fresh copy of the store into a fresh lake, and writes that lake's rows again, bare.
fn offload(programs: &Programs, folder: &Path, store: &Path, rows: u64) -> Result<Run> {
    let data = folder.join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    std::fs::create_dir(&data)?;
    let copy = data.join("store.sqlite");
    std::fs::copy(store, &copy)?;
    // Else the first file the offload syncs waits for the copy to reach the disk as well.
    File::open(copy)?.sync_all()?;
    let (said, used) = watched::run_json(ingest(programs, folder).arg("offload"))?;
    let offload = &said["offload"];
    let table = offload["tables"].as_array().into_iter().flatten();
    let table = table
        .into_iter()
        .find(|table| table["table"] == "deliverer_location")
        .with_context(|| format!("nothing offloaded: {said}"))?;
    let number = |name: &str| table[name].as_u64().unwrap_or_default();
    ensure!(
        number("rows") == rows && offload["complete"] == true,
        "{said}"
    );
    let output = folder.join("bare");
    std::fs::create_dir_all(&output)?;
    let bare = Launch::of("lake_bench", &programs.lake_bench, folder)
        .arg("bare")
        .arg(data.join("lake"))
        .arg(&output);
    let (bare, _) = watched::run_json(bare)?;
    ensure!(bare["rows"] == rows, "written bare: {bare}");
    let seconds = |name: &str| bare[name].as_f64().unwrap_or_default();
    let columns = bare["bytes_by_column"].as_object().into_iter().flatten();
    let columns = columns.map(|(name, bytes)| {
        let bytes = bytes.as_u64().unwrap_or_default();
        (name.clone(), as_f64(bytes) / as_f64(rows))
    });
    Ok(Run {
        bytes: number("bytes"),
        files: number("files"),
        offload_s: offload["seconds"].as_f64().unwrap_or_default(),
        offload: used,
        bare: Bare {
            wall_s: seconds("wall_s"),
            cpu_s: seconds("cpu_s"),
            encode_cpu_s: seconds("encode_cpu_s"),
            bytes: bare["bytes"].as_u64().unwrap_or_default(),
            bytes_per_row_by_column: columns.collect(),
        },
    })
}

/// Compares every date, with no model to run.
fn reconcile(programs: &Programs, folder: &Path) -> Result<Used> {
    let none = folder.join("no-models");
    for layer in ["treated", "final"] {
        std::fs::create_dir_all(none.join(layer))?;
    }
    let comparing = ingest(programs, folder)
        .args(["--from", "2026-01-01", "--to", "2026-12-31", "--models"])
        .arg(none);
    let (said, used) = watched::run_json(comparing)?;
    ensure!(said["dates"].is_array(), "no dates compared: {said}");
    Ok(used)
}

fn run_models(programs: &Programs, folder: &Path) -> Result<Models> {
    let (said, used) = watched::run_json(ingest(programs, folder).arg("models"))?;
    let ran = said["models"].as_array().context("no models ran")?;
    let of = |model: &Value| {
        let name = model["model"].as_str().unwrap_or_default().to_owned();
        let seconds = model["seconds"].as_f64().unwrap_or_default();
        (name, seconds, model["rows"].as_u64().unwrap_or_default())
    };
    let bytes = ran.iter().filter_map(|model| model["bytes"].as_u64());
    let each: Vec<_> = ran.iter().map(of).collect();
    let compared = each
        .iter()
        .filter(|(name, ..)| engines::COMPARED.contains(&name.as_str()));
    Ok(Models {
        used,
        compared_s: compared.map(|(_, seconds, _)| seconds).sum(),
        bytes: bytes.sum(),
        each,
    })
}

fn medians(runs: &[Run], rows: u64) -> Median {
    let of = |value: &dyn Fn(&Run) -> f64| median(runs.iter().map(value));
    let rows = as_f64(rows);
    Median {
        encode_rows_per_cpu_s: of(&|run| rows / run.bare.encode_cpu_s),
        bytes_per_row: of(&|run| as_f64(run.bytes) / rows),
        offload_rows_per_s: of(&|run| rows / run.offload.wall_s),
        offload_rows_per_cpu_s: of(&|run| rows / run.offload.cpu_s),
        bare_rows_per_s: of(&|run| rows / run.bare.wall_s),
        offload_to_bare: of(&|run| run.offload.wall_s / run.bare.wall_s),
        offload_peak_memory_mib: of(&|run| run.offload.peak_memory_mib),
        offload_peak_own_mib: of(&|run| run.offload.peak_own_mib),
        offload_peak_mapped_mib: of(&|run| run.offload.peak_mapped_mib),
    }
}
