//! From POST to GET, through kill and stop, into the lake.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::tempdir;

use crate::process::{Running, lastmile, output, text, until};

const NO_LAKE: [&str; 2] = ["--lake-schedule", "off"];

/// A body of `count` positions of one order; `from` makes the times differ between bodies.
fn positions(from: usize, count: usize) -> String {
    let items: Vec<_> = (from..from + count)
        .map(|second| {
            format!(
                r#"{{"order_id":"43","deliverer_id":"1","event_time":{},"lat":52.5,"lon":13.4}}"#,
                1_700_000_000 + second
            )
        })
        .collect();
    format!("[{}]", items.join(","))
}

#[tokio::test]
async fn what_was_answered_202_survives_kill_and_stop_and_is_stored_once() {
    let data = tempdir().unwrap();
    let first = Running::start(data.path(), &NO_LAKE);
    let (status, body) = first.post(positions(0, 200)).await;
    assert_eq!(status, 202, "{body}");
    // Killed the moment after the answer: the store may not have seen anything yet.
    first.kill();

    let second = Running::start(data.path(), &NO_LAKE);
    second.until_stored(200).await;
    // The same once more, as a client does that never saw the answer.
    let (status, _) = second.post(positions(0, 200)).await;
    assert_eq!(status, 202);
    let (status, _) = second.post(positions(200, 100)).await;
    assert_eq!(status, 202);
    assert_eq!(second.stop(), Some(0));

    let third = Running::start(data.path(), &NO_LAKE);
    // The stop has drained the log into the store, so there is nothing to wait for.
    assert_eq!(third.stored().await, 300);
    let (status, body) = third.get("/api/v1/orders/43/location").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("2023-11-14T22:18:19.000Z"), "{body}");
    assert_eq!(third.stop(), Some(0));
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused_and_the_first_goes_on() {
    let data = tempdir().unwrap();
    let first = Running::start(data.path(), &NO_LAKE);
    let second = output(&mut lastmile(data.path(), &NO_LAKE));
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert!(said.contains("is in use by process"), "{said}");
    assert!(said.contains(&first.id().to_string()), "{said}");
    assert!(!text(&second.stdout).contains("READY"));
    assert_eq!(first.get("/readyz").await.0, 200);
    assert_eq!(first.stop(), Some(0));
    // Its lock went with it.
    let third = Running::start(data.path(), &NO_LAKE);
    assert_eq!(third.stop(), Some(0));
}

#[tokio::test]
async fn positions_reach_the_lake_on_schedule() {
    let data = tempdir().unwrap();
    let program = Running::start(data.path(), &["--lake-schedule", "* * * * * *"]);
    let (status, body) = program.post(positions(0, 10)).await;
    assert_eq!(status, 202, "{body}");
    let raw = data.path().join("lake/raw/deliverer_location");
    until("a Parquet file", || find_parquet(&raw)).await;
    let begun = std::time::Instant::now();
    loop {
        let (_, metrics) = program.get("/metrics").await;
        if metrics.contains("lake_offloaded_rows_total 10\n") {
            break;
        }
        assert!(begun.elapsed().as_secs() < 60, "{metrics}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(program.stop(), Some(0));
}

fn find_parquet(folder: &Path) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find_parquet(&path) {
                return Some(found);
            }
        } else if path
            .extension()
            .is_some_and(|extension| extension == "parquet")
        {
            return Some(path);
        }
    }
    None
}
