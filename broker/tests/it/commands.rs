//! `broker sessions`, `log` and `check`, on a broker that runs, one that stopped, and damaged files.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use crate::broker::{Broker, until};
use crate::client::Client;
use crate::kill::Process;

/// Runs a command; returns whether it succeeded, and what it printed.
fn command(data: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command.args(arguments).arg("--data").arg(data);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_holds_is_told_while_it_runs_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut away = broker.client("away\u{1b}[31m", false).await;
    away.subscribe(&[("a/#", 1), ("$share/g/b", 1)]).await;
    let mut client = broker.client("c", true).await;
    for _ in 0..5 {
        client.publish("a/b", "x").await;
    }
    broker.log().cursors().sync().await.unwrap();
    let data = dir.path().to_owned();
    let all = move || {
        for (arguments, expected) in [
            (
                &["sessions"][..],
                &[
                    "session/away\\u{1b}[31m: a/#",
                    "share/g/b: away",
                    "2 consumers",
                    " 5 yes",
                ][..],
            ),
            (
                &["sessions", "--json"],
                &["\"lag\":5", "\"name\":\"share/g/b\""],
            ),
            (&["log"], &["1 segments, 5 records", "kept from 0 on for"]),
            (&["log", "--json"], &["\"next\":5"]),
            (&["check"], &["whole: 1 segments, 5 records, 2 cursors"]),
        ] {
            let (success, text) = command(&data, arguments);
            assert!(success, "{text}");
            for expected in expected {
                assert!(text.contains(expected), "{arguments:?} {expected}: {text}");
            }
            assert!(!text.contains('\u{1b}'), "{text}");
        }
    };
    let check = all.clone();
    tokio::task::spawn_blocking(check).await.unwrap();
    broker.stop().await;
    tokio::task::spawn_blocking(all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_the_files_again_and_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let acl = dir.path().join("acl");
    fs::write(&acl, "lastmile-acl 1\n[all]\nallow readwrite #\n").unwrap();
    let broker = Process::start(dir.path(), &["--mqtt-acl-file", acl.to_str().unwrap()]);
    let (mut client, _) = Client::connect(broker.addr, "c", true).await;
    let id = rustix::process::Pid::from_raw(i32::try_from(broker.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
    let reloads = || {
        let mut stream = std::net::TcpStream::connect(broker.address("admin")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.contains("broker_reloads_total{taken=\"Yes\"} 1")
    };
    until("the files were read again", reloads).await;
    client.publish("a", "b").await;
    broker.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_with_an_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let (success, text) = command(dir.path(), &["check"]);
    assert!(!success && !dir.path().join("log").exists(), "{text}");
    let broker = Broker::start(dir.path()).await;
    let mut client = broker.client("c", true).await;
    for _ in 0..50 {
        client.publish("a/b", "some payload").await;
    }
    broker.stop().await;
    let (success, text) = command(dir.path(), &["check"]);
    assert!(success, "{text}");
    let log = dir.path().join("log");
    let files = fs::read_dir(&log)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let segment = files
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "seg"));
    let segment = segment.unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[150] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let (success, text) = command(dir.path(), &["check"]);
    assert!(!success && text.contains("is damaged at byte"), "{text}");
}
