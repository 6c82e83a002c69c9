//! The program itself: its settings, its wait for the store, its start without a broker, its stop.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use store::{Batch, Writer};
use store_sqlite::{Options, SqliteStore};

use crate::harness::{DEADLINE, client, item, problem};

pub(crate) fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_api"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("LASTMILE_") || ["PORT", "RUST_LOG", "MONGODB_URI"].contains(&&*name) {
            command.env_remove(&*name);
        }
    }
    command.arg("--data").arg(data).args(arguments);
    command
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    command(data, arguments).output().unwrap()
}

#[test]
fn help_tells_what_it_does_and_every_default() {
    let help = run(Path::new("."), &["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("Serves the HTTP API"));
    for flag in [
        "--http-listen",
        "--http-max-body",
        "--http-cors",
        "--broker",
        "--max-future-skew",
    ] {
        let (_, rest) = text.split_once(flag).unwrap();
        assert!(rest.contains("[default: "), "{flag}");
    }
}

#[test]
fn wrong_settings_are_all_listed_and_passwords_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = [
        "--check-config",
        "--http-max-requests",
        "0",
        "--broker",
        "http://h:hunter2@x",
    ];
    let output = run(folder.path(), &wrong);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("http_max_requests") && text.contains("broker.broker"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");

    let right = [
        "--print-config",
        "--broker",
        "mqtt://ann:hunter2@broker.example",
    ];
    let output = run(folder.path(), &right);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("mqtt://ann@broker.example:1883"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");

    // A file's sections are the parts.
    let file = folder.path().join("api.toml");
    std::fs::write(
        &file,
        "[http]\nhttp_listen = \"127.0.0.1:7\"\n[store]\nmax_future_skew = \"1m\"\n",
    )
    .unwrap();
    let output = run(
        folder.path(),
        &["--print-config", "--config", file.to_str().unwrap()],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("127.0.0.1:7") && text.contains("1m"),
        "{text}"
    );
}

/// A running program; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn it_waits_for_the_store_serves_it_and_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut starting = command(
        folder.path(),
        &[
            "--http-listen",
            "127.0.0.1:0",
            "--broker",
            "127.0.0.1:1",
            "--log-format",
            "json",
        ],
    );
    let child = starting
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut program = Running(child);
    let mut log = BufReader::new(program.0.stderr.take().unwrap()).lines();
    let waiting = log.find(|line| line.as_ref().unwrap().contains("waiting for the store"));
    assert!(waiting.is_some());
    let path = folder.path().join("store.sqlite");
    assert!(!path.exists(), "it made a store of its own");

    let store = SqliteStore::open(&path, &Options::default()).unwrap();
    let received = model::UtcMicros::default();
    let position = model::native::parse(&item("43", 7), None, received).unwrap();
    let batch = Batch {
        records: vec![model::Record::Position(position)],
        ..Batch::default()
    };
    store.append(batch).await.unwrap();

    let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
    let ready = lines.next().unwrap().unwrap();
    let ready: Value = serde_json::from_str(ready.strip_prefix("READY ").unwrap()).unwrap();
    let base = format!("http://{}", ready["http"].as_str().unwrap());
    let client = client();
    let get = |path: &str| client.get(format!("{base}{path}")).send();
    assert_eq!(get("/readyz").await.unwrap().status(), 200);
    let last = get("/api/v1/orders/43/location").await.unwrap();
    assert_eq!(last.json::<Value>().await.unwrap()["seq"], 7);

    // Reads need no broker; messages do.
    let post = client
        .post(format!("{base}/api/v1/locations"))
        .body(item("43", 8));
    problem(post.send().await.unwrap(), 503, "ingest_unavailable").await;

    let pid = i32::try_from(program.0.id()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || {
        // Its pipes end with it; a full one would keep it from ending.
        log.for_each(drop);
        program.0.wait().unwrap()
    });
    let status = tokio::time::timeout(DEADLINE, ended)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}
