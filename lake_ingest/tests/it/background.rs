//! The service in the background: start, status, logs, stop.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::program::{lake_ingest, store};

/// Stops what a test may have left running.
struct Stopped<'a>(&'a Path);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        drop(lake_ingest(self.0).arg("stop").output());
    }
}

fn run(data: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = lake_ingest(data);
    // What it logs by itself is wanted here.
    command.env_remove("RUST_LOG").args(arguments);
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

const START: [&str; 5] = [
    "start",
    "--schedule",
    "* * * * * *",
    "--admin-listen",
    "127.0.0.1:0",
];

fn pid(data: &Path) -> String {
    let text = std::fs::read_to_string(data.join("run/lake_ingest.pid")).unwrap();
    text.lines().next().unwrap().to_owned()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn it_is_started_once_looked_at_and_stopped() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let _stopped = Stopped(data);
    store(data, 0, 40).await;
    let (code, out, _) = run(data, &["stop"]);
    assert!(code == 0 && out.contains("did not run"), "{out}");
    let (code, _, err) = run(data, &["logs"]);
    assert!(code == 1 && err.contains("no log"), "{err}");

    let (code, out, err) = run(data, &START);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&pid(data)) && out.contains("/readyz"), "{out}");
    let (code, _, err) = run(data, &START);
    assert!(code == 1 && err.contains("already runs"), "{code} {err}");

    let is_offloaded = || run(data, &["status"]).1.contains("last run: ok");
    until("a run that went well", is_offloaded).await;
    let (_, out, _) = run(data, &["status"]);
    assert!(
        out.contains(&format!("runs as process {}", pid(data))),
        "{out}"
    );
    let (_, out, _) = run(data, &["status", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    let running = status.pointer("/service/pid").unwrap();
    assert_eq!(running.to_string(), pid(data));
    assert_eq!(status.pointer("/last_run/outcome"), Some(&"ok".into()));

    let mut following = lake_ingest(data);
    following.args(["logs", "-f", "-n", "2"]);
    let mut following = following.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let (code, out, _) = run(data, &["stop"]);
    assert!(code == 0 && out.contains("has stopped"), "{out}");
    assert!(lines.any(|line| line.unwrap().contains("stopped")));
    following.kill().unwrap();
    following.wait().unwrap();
    let (_, out, _) = run(data, &["logs", "-n", "1"]);
    assert_eq!(out.lines().count(), 1, "{out}");
    let (_, out, _) = run(data, &["status"]);
    assert!(out.contains("not started"), "{out}");
}

#[tokio::test]
async fn a_pid_file_left_by_a_killed_one_does_not_matter() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let _stopped = Stopped(data);
    assert_eq!(run(data, &START).0, 0);
    let killed = pid(data);
    let status = Command::new("kill").args(["-KILL", &killed]).status();
    assert!(status.unwrap().success());
    let is_gone = || run(data, &["status"]).1.contains("not started");
    until("the killed one is gone", is_gone).await;
    // The number of a process that lives, and is another's.
    let pid_file = data.join("run/lake_ingest.pid");
    std::fs::write(pid_file, format!("{}\n", std::process::id())).unwrap();
    let (code, out, _) = run(data, &["stop"]);
    assert!(code == 0 && out.contains("did not run"), "{out}");
    let (code, _, err) = run(data, &START);
    assert_eq!(code, 0, "{err}");
    assert_ne!(pid(data), killed);
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let data = tempfile::tempdir().unwrap();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let (code, _, err) = run(data.path(), &["start", "--admin-listen", &address]);
    assert_eq!(code, 1);
    assert!(
        err.contains("ended at once") && err.contains(&address),
        "{err}"
    );
}
