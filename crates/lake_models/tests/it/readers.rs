//! The lake as programs of other makers read it, and the driven metres as another language computes them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::python::{INSTALL, python, skip, workspace};
use crate::world::World;

const TEST: &str = "lake_models::readers";

/// Returns the door2door sample, or reports the test as skipped.
pub(crate) fn sample(test: &str) -> Option<PathBuf> {
    let given = std::env::var_os("LASTMILE_DOOR2DOOR").map(PathBuf::from);
    let path =
        given.unwrap_or_else(|| workspace().join("../shared/data/door2door-events.jsonl.gz"));
    if path.exists() {
        return Some(path);
    }
    skip(test, "needs the door2door sample; set LASTMILE_DOOR2DOOR");
    None
}

#[tokio::test]
async fn other_readers_count_the_same_and_compute_the_same_metres() {
    let python = python(TEST, "duckdb, pyarrow", INSTALL);
    let (Some(python), Some(sample)) = (python, sample(TEST)) else {
        return;
    };
    let world = World::new();
    world.take_sample(&sample).await;
    world.refresh().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers.py");
    let sample = std::fs::canonicalize(sample).unwrap();
    let compare = |radius: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(&script).args([&world.lake_folder(), &sample]);
        command.args(radius).output().unwrap()
    };
    let output = compare(&[]);
    let told = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{complaint}");
    println!("{told}");
    // Negative control: 8.8 metres off the radius is noticed.
    assert!(!compare(&["6371000"]).status.success());
}

/// Lets every other reader there is count and sum up every partition of every table, and compare; returns what they found.
pub(crate) fn read_everywhere(world: &World) -> String {
    let Some(python) = python(TEST, "duckdb, pyarrow", INSTALL) else {
        return String::new();
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers.py");
    let read = || {
        let mut command = Command::new(&python);
        command.arg(&script).arg(world.lake_folder());
        command.output().unwrap()
    };
    let output = read();
    let told = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{complaint}");
    // Negative control: a file that the log knows and the folder lacks is noticed.
    let (path, content) = world
        .files("final/vehicle_day")
        .into_iter()
        .find(|(path, _)| path.ends_with(".parquet"))
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(!read().status.success());
    std::fs::write(path, content).unwrap();
    told.into_owned()
}
