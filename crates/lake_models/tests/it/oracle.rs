//! Every model against a program that computes it in another way, from the messages alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lake_models::builtin;
use tempfile::NamedTempFile;

use crate::python::{INSTALL, python};
use crate::readers::{read_everywhere, sample};
use crate::world::World;

const TEST: &str = "lake_models::oracle";

/// When the invented fleet's messages are taken to have come.
const RECEIVED: &str = "2026-01-05T00:00:00Z";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

fn check(python: &Path, world: &World, messages: &Path, received: &str, more: &[&str]) -> Output {
    let mut command = Command::new(python);
    command.arg(script("oracle.py"));
    command.args([world.lake_folder().as_path(), messages]);
    command.arg(received).args(more).output().unwrap()
}

/// Returns what the program said.
fn agrees(output: &Output) -> String {
    let (told, complaint) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{told}\n{complaint}");
    told.into_owned()
}

/// Negative controls: what the program does wrong is noticed, and in this table.
fn notices(python: &Path, world: &World, messages: &Path, received: &str, wrong: &[[&str; 2]]) {
    for [wrong, table] in wrong {
        let output = check(python, world, messages, received, &["--wrong", wrong]);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{wrong} went unnoticed");
        assert!(complaint.starts_with(table), "{wrong}: {complaint}");
    }
}

/// The messages of a file of them, by topic, `parts` parts one after another.
fn parts(messages: &str, parts: usize) -> Vec<BTreeMap<String, Vec<String>>> {
    let lines: Vec<_> = messages.lines().collect();
    let parts = lines.chunks(lines.len().div_ceil(parts)).map(|lines| {
        let mut by_topic = BTreeMap::<_, Vec<_>>::new();
        for line in lines {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            let topic = message["topic"].as_str().unwrap().to_owned();
            let payloads = by_topic.entry(topic).or_default();
            payloads.push(message["payload"].to_string());
        }
        by_topic
    });
    parts.collect()
}

/// A lake of an invented fleet, made in three runs, and the messages it was made from.
pub(crate) async fn invented(python: &Path) -> (World, NamedTempFile) {
    let mut command = Command::new(python);
    let output = command.arg(script("fleet.py")).output().unwrap();
    let messages = String::from_utf8(output.stdout).unwrap();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &messages).unwrap();
    let world = World::new();
    // Nothing is in order, so each part touches every date: what is computed anew must be enough.
    for part in parts(&messages, 3) {
        for (topic, payloads) in part {
            world.take(&topic, &payloads.join("\n"), RECEIVED).await;
        }
        world.refresh().await;
    }
    (world, file)
}

#[tokio::test]
async fn models_of_an_invented_fleet_that_reports_late_and_twice() {
    let Some(python) = python(TEST, "pyarrow, h3", INSTALL) else {
        return;
    };
    let (world, file) = invented(&python).await;
    let told = agrees(&check(&python, &world, file.path(), RECEIVED, &[]));
    println!("{told}");
    let wrong = [
        ["radius", "final/vehicle_position_data"],
        ["join", "final/vehicle_operation_metadata"],
        ["breaks", "final/vehicle_break"],
        ["order", "final/vehicle_position_data"],
    ];
    notices(&python, &world, file.path(), RECEIVED, &wrong);
    println!("{}", read_everywhere(&world));
    // The same from nothing.
    for model in builtin() {
        std::fs::remove_dir_all(world.lake_folder().join(model.folder())).unwrap();
    }
    world.refresh().await;
    agrees(&check(&python, &world, file.path(), RECEIVED, &[]));
}

#[tokio::test]
async fn models_of_the_door2door_sample() {
    let python = python(TEST, "pyarrow, h3", INSTALL);
    let (Some(python), Some(sample)) = (python, sample(TEST)) else {
        return;
    };
    let world = World::new();
    world.take_sample(&sample).await;
    world.refresh().await;
    let received = "2019-06-02T00:00:00Z";
    let told = agrees(&check(&python, &world, &sample, received, &[]));
    println!("{told}");
    let wrong = [
        ["radius", "final/vehicle_position_data"],
        ["join", "final/vehicle_operation_metadata"],
    ];
    notices(&python, &world, &sample, received, &wrong);
}
