//! How the all-in-one program begins and ends: graceful stop, second signal, wrong settings, busy port.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;
use serde_json::json;
use system_tests::pipeline::{Counts, Pipeline};
use system_tests::process::Launch;
use system_tests::{poll, ports};
use tempfile::TempDir;

fn positions(count: u64) -> Counts {
    Counts {
        positions: count,
        ..Counts::default()
    }
}

/// Sends positions over HTTP and returns once they are acknowledged.
fn send(pipeline: &Pipeline, numbers: std::ops::Range<u64>) {
    let batch: Vec<_> = numbers
        .map(|seq| {
            json!({"order_id": "stop-1", "deliverer_id": "1", "timestamp": 1_767_323_045 + seq,
                   "lat": 52.0, "lon": 4.0, "seq": seq})
        })
        .collect();
    let answer = pipeline
        .http()
        .post("/api/v1/locations", &json!(batch))
        .unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
}

#[test]
fn a_graceful_stop_exits_0_and_loses_nothing() {
    let mut pipeline = Pipeline::start(&[]).unwrap();
    for round in 0..3 {
        send(&pipeline, round * 500..(round + 1) * 500);
        // The signal follows the acknowledgement at once: what is still on its way must be drained.
        let status = pipeline.process().terminate().unwrap();
        assert_eq!(status.code(), Some(0), "{}", pipeline.process().stderr());
        pipeline.restart().unwrap();
        let stored = positions((round + 1) * 500);
        pipeline.until_counts(stored, poll::PATIENCE).unwrap();
    }
}

#[test]
fn a_second_signal_ends_at_once_and_loses_nothing() {
    let mut pipeline = Pipeline::start(&["--stop-timeout", "10m"]).unwrap();
    send(&pipeline, 0..500);
    // A request whose body never comes keeps the graceful stop waiting.
    let mut hanging = TcpStream::connect(pipeline.http_address().unwrap()).unwrap();
    let head = "POST /api/v1/locations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 1000\r\n\r\n[";
    hanging.write_all(head.as_bytes()).unwrap();
    pipeline.process().signal(Signal::TERM).unwrap();
    poll::until("the stop to begin", poll::PATIENCE, || {
        let stderr = pipeline.process().stderr();
        Ok(stderr.contains("stopping").then_some(()))
    })
    .unwrap();
    // The stop may have ended by itself by now; then there is nobody left to signal.
    if pipeline.process().is_running().unwrap() {
        pipeline.process().signal(Signal::TERM).unwrap();
    }
    let status = pipeline.process().wait(poll::PATIENCE).unwrap();
    assert!(status.code().is_some(), "ended by its own hand: {status}");
    drop(hanging);
    pipeline.restart().unwrap();
    pipeline
        .until_counts(positions(500), poll::PATIENCE)
        .unwrap();
}

#[test]
fn wrong_settings_exit_2_and_are_all_listed() {
    let folder = TempDir::new().unwrap();
    let finished = Launch::new("lastmile", folder.path())
        .unwrap()
        .args(["--data", &folder.path().join("data").to_string_lossy()])
        .args(["--http-max-requests", "0", "--http-timeout", "0ms"])
        .run(poll::PATIENCE)
        .unwrap();
    assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
    for setting in ["http_max_requests", "http_timeout"] {
        assert!(
            finished.stderr.contains(setting),
            "{setting} is not listed: {}",
            finished.stderr
        );
    }
    assert!(
        !folder.path().join("data").exists(),
        "a wrong setting must not touch the disk"
    );
}

#[test]
fn a_busy_port_is_named_and_exits_1() {
    let folder = TempDir::new().unwrap();
    let base = ports::free_base().unwrap();
    for default in [1883, 8080] {
        let port = base + default;
        let _busy = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let finished = Launch::new("lastmile", &folder.path().join(default.to_string()))
            .unwrap()
            .args(["--data", &folder.path().join("data").to_string_lossy()])
            .args(["--port-base", &base.to_string()])
            .run(poll::PATIENCE)
            .unwrap();
        assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
        assert!(
            finished.stderr.contains(&port.to_string()),
            "port {port} is not named: {}",
            finished.stderr
        );
    }
}
