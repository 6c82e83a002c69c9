//! Ready, serving, stopping, and every way to end.

use rustix::process::Signal;
use serde_json::Value;

use crate::probe::{Running, output, probe, text};

const IN_ORDER: &str = "intake stopped\ndrain stopped\nserve stopped\n";

#[test]
fn sigterm_stops_stage_by_stage_and_exits_0() {
    let probe = Running::start(&[]);
    probe.signal(Signal::TERM);
    let end = probe.end();
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    assert_eq!(end.stdout, IN_ORDER);
}

#[test]
fn sigint_does_the_same() {
    let probe = Running::start(&[]);
    probe.signal(Signal::INT);
    let end = probe.end();
    assert_eq!((end.code, end.stdout.as_str()), (Some(0), IN_ORDER));
}

#[test]
fn a_component_that_ends_or_fails_stops_the_process_with_1() {
    for misbehaviour in ["end", "fail"] {
        let end = Running::start(&["--misbehave", misbehaviour]).end();
        assert_eq!(end.code, Some(1), "{misbehaviour}: {}", end.stderr);
        // What is left is still stopped in order.
        assert_eq!(end.stdout, "drain stopped\nserve stopped\n");
        assert!(end.stderr.contains("component intake"), "{}", end.stderr);
    }
}

#[test]
fn any_panic_aborts() {
    for misbehaviour in ["panic", "panic-thread"] {
        let end = output(&mut probe(&["--misbehave", misbehaviour]));
        let end_signal = std::os::unix::process::ExitStatusExt::signal(&end.status);
        assert_eq!(end_signal, Some(Signal::ABORT.as_raw()), "{misbehaviour}");
        assert!(text(&end.stderr).contains("told to panic"));
        assert!(!text(&end.stdout).contains("stopped"));
    }
}

#[test]
fn what_does_not_stop_is_named_when_the_time_is_over() {
    let probe = Running::start(&["--misbehave", "hang", "--stop-timeout", "50ms"]);
    probe.signal(Signal::TERM);
    let end = probe.end();
    assert_eq!(end.code, Some(1));
    assert!(end.stderr.contains("drain"), "{}", end.stderr);
    assert!(end.stdout.starts_with("intake stopped\n"));
    assert!(!end.stdout.contains("drain stopped"));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut probe = Running::start(&["--misbehave", "hang", "--stop-timeout", "1h"]);
    probe.signal(Signal::TERM);
    probe.wait_for_line("intake stopped");
    probe.signal(Signal::TERM);
    let end = probe.end();
    assert_eq!((end.code, end.signal), (Some(1), None));
    assert!(end.stderr.contains("second signal"), "{}", end.stderr);
}

#[test]
fn work_that_is_done_exits_0_and_a_failed_start_1() {
    let done = output(&mut probe(&["--misbehave", "once"]));
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let failed = output(&mut probe(&["--misbehave", "fail-to-start"]));
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stderr).contains("the probe has no battery"));
}

#[test]
fn a_busy_port_fails_the_start_and_is_named() {
    let first = Running::start(&[]);
    let second = output(&mut probe(&["--probe-listen", &first.address]));
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains(&first.address));
}

#[test]
fn logs_are_json_lines_when_nobody_watches() {
    let probe = Running::start(&["--password", "hunter2"]);
    probe.signal(Signal::TERM);
    let end = probe.end();
    let lines: Vec<Value> = end
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let start = &lines[0];
    assert_eq!(start["message"], "starting");
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    assert!(
        start["config"]
            .as_str()
            .unwrap()
            .contains("\"password\":\"***\"")
    );
    assert!(!end.stderr.contains("hunter2"));
}

#[tokio::test]
async fn health_readiness_and_metrics_are_served() {
    let probe = Running::start(&[]);
    let get = async |path: &str| {
        let url = format!("http://{}{path}", probe.address);
        let answer = reqwest::get(url).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(
        get("/healthz").await,
        (200, r#"{"status":"ok"}"#.to_owned())
    );
    let (status, ready) = get("/readyz").await;
    assert_eq!(status, 200, "{ready}");
    assert!(ready.contains(r#""intake":"ready""#), "{ready}");
    let (status, metrics) = get("/metrics").await;
    assert_eq!(status, 200);
    for name in ["lastmile_build_info{", "process_resident_memory_bytes "] {
        assert!(metrics.contains(name), "{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
}
