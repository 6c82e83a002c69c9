//! A real day of fleet events through the whole pipeline into the lake, checked by other engines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use system_tests::pipeline::{Counts, Pipeline};
use system_tests::process::{Finished, Launch};
use system_tests::publisher::Summary;
use system_tests::{binaries, poll, publisher, python, skip};

/// What the sample holds: every update has a place, 202 events are no updates.
pub(crate) const EVENTS: u64 = 35_351;
pub(crate) const UPDATES: u64 = 35_149;

/// The development build needs a while for the lake's models.
const PATIENCE: Duration = Duration::from_mins(5);

pub(crate) fn sample(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("LASTMILE_DOOR2DOOR").map_or_else(
        || binaries::workspace_root().join("../shared/data/door2door-events.jsonl.gz"),
        PathBuf::from,
    );
    if path.is_file() {
        return Some(path);
    }
    skip::report(test, "needs the door2door sample; set LASTMILE_DOOR2DOOR");
    None
}

fn replay(pipeline: &Pipeline, sample: &Path) {
    let finished = publisher::replay(
        &binaries::path("publisher").unwrap(),
        sample,
        &pipeline.mqtt_address().unwrap(),
        pipeline.folder(),
    )
    .run(PATIENCE)
    .unwrap()
    .success()
    .unwrap();
    assert_eq!(Summary::read(&finished).unwrap().acked, EVENTS);
}

/// Reads a counter from `/metrics`, labels added up.
fn counter(pipeline: &Pipeline, name: &str) -> f64 {
    let metrics = pipeline.http().get("/metrics").unwrap().body;
    let rows = metrics.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with([' ', '{']))
    });
    rows.map(|row| row.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

fn ingest_lake(pipeline: &Pipeline) {
    Launch::new("lake_ingest", pipeline.folder())
        .unwrap()
        .args(["--data", &pipeline.data().to_string_lossy(), "--once"])
        .run(PATIENCE)
        .unwrap()
        .success()
        .unwrap();
}

#[test]
fn the_sample_arrives_whole_in_store_and_lake() {
    let test = "door2door::the_sample_arrives_whole_in_store_and_lake";
    let Some(sample) = sample(test) else { return };
    let pipeline = Pipeline::start(&[]).unwrap();
    let whole = Counts {
        positions: UPDATES,
        fleet_events: EVENTS,
        rejected: 0,
    };
    replay(&pipeline, &sample);
    pipeline.until_counts(whole, PATIENCE).unwrap();
    let others = ["register", "deregister", "create", "delete"].map(|event| {
        let path = format!("/api/v1/fleet/events?event={event}&limit=10000");
        let page = pipeline.http().json(&path).unwrap();
        page["data"].as_array().unwrap().len()
    });
    assert_eq!(others.iter().sum::<usize>(), 202);

    // Once more: every event is known, so nothing changes and each is counted as a duplicate.
    replay(&pipeline, &sample);
    poll::until(
        "every event of the second replay to be a duplicate",
        PATIENCE,
        || {
            let duplicates = counter(&pipeline, "subscriber_duplicate_total");
            Ok((duplicates >= 35_351.0).then_some(()))
        },
    )
    .unwrap();
    assert_eq!(pipeline.counts().unwrap(), whole);

    let Some(python) = python::with_modules(test, &["duckdb", "pyarrow", "deltalake"]) else {
        return;
    };
    ingest_lake(&pipeline);
    check_lake(&pipeline, &python, &sample);
    // A second run finds nothing new and must not add a row.
    ingest_lake(&pipeline);
    check_lake(&pipeline, &python, &sample);

    // Negative control: the same check notices that a file went missing.
    let raw = pipeline.data().join("lake/raw/deliverer_location");
    std::fs::remove_file(a_parquet_file(&raw).unwrap()).unwrap();
    let finished = run_check(&pipeline, &python, &sample);
    assert!(!finished.status.success(), "{}", finished.stdout);
}

fn a_parquet_file(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| !path.ends_with("_delta_log"))
        .find_map(|path| {
            if path.is_dir() {
                a_parquet_file(&path)
            } else {
                (path.extension()? == "parquet").then_some(path)
            }
        })
}

fn run_check(pipeline: &Pipeline, python: &Path, sample: &Path) -> Finished {
    python::script(python, "check_lake.py", pipeline.folder())
        .arg(pipeline.data().join("lake"))
        .arg(sample)
        .run(PATIENCE)
        .unwrap()
}

fn check_lake(pipeline: &Pipeline, python: &Path, sample: &Path) {
    let finished = run_check(pipeline, python, sample);
    assert!(
        finished.status.success(),
        "{} {}",
        finished.stdout,
        finished.stderr
    );
}
