//! The lake as programs of other makers read it, and the driven metres as another language computes them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use formats::{Decoded, Message, decode};
use model::UtcMicros;

use crate::world::World;

const TEST: &str = "lake_models::readers";

fn skip(reason: &str) {
    use std::io::Write;
    // Past the test harness's capture, so that it is seen whether the test passes or not.
    drop(writeln!(std::io::stderr(), "SKIPPED {TEST}: {reason}"));
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns a Python that has the readers, or reports the test as skipped.
fn python() -> Option<PathBuf> {
    let of_workspace = workspace().join(".venv/bin/python");
    let python = match std::env::var_os("LASTMILE_PYTHON") {
        Some(given) => given.into(),
        None if of_workspace.exists() => of_workspace,
        None => "python3".into(),
    };
    let probe = Command::new(&python)
        .args(["-c", "import duckdb, pyarrow"])
        .output();
    if probe.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skip("needs Python with duckdb and pyarrow; run tools/install.sh");
    None
}

/// Returns the door2door sample, or reports the test as skipped.
fn sample() -> Option<PathBuf> {
    let given = std::env::var_os("LASTMILE_DOOR2DOOR").map(PathBuf::from);
    let path =
        given.unwrap_or_else(|| workspace().join("../shared/data/door2door-events.jsonl.gz"));
    if path.exists() {
        return Some(path);
    }
    skip("needs the door2door sample; set LASTMILE_DOOR2DOOR");
    None
}

#[tokio::test]
async fn other_readers_count_the_same_and_compute_the_same_metres() {
    let (Some(python), Some(sample)) = (python(), sample()) else {
        return;
    };
    let world = World::new();
    let mut events = String::new();
    let file = std::fs::File::open(&sample).unwrap();
    flate2::read::MultiGzDecoder::new(file)
        .read_to_string(&mut events)
        .unwrap();
    let lines: Vec<_> = events.lines().collect();
    for lines in lines.chunks(5_000) {
        let mut decoded = Decoded::default();
        decode(
            Message {
                topic: "fleet/org-id/events",
                payload: lines.join("\n").as_bytes(),
                received_time: UtcMicros::parse("2019-06-02T00:00:00Z").unwrap(),
                log_seq: None,
            },
            &mut decoded,
        );
        assert!(decoded.rejects.is_empty(), "{:?}", decoded.rejects.first());
        world.append(decoded.records).await;
    }
    world.refresh().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers.py");
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
