//! The embedded router of the real process hangs: the process says so and ends, and a restart has all it acknowledged.
//!
//! strace holds up the router's thread, and no other, at its system calls. The control holds it up for no time at all.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::broker::until;
use crate::client::Client;
use crate::disk_faults::{can_inject, expect_all, publish_up_to, subscribe};
use crate::kill::Process;

/// Rounds of the watchdog after which a silent router counts as dead, and two more; each makes two calls.
const ROUNDS: usize = 12;

/// strace on one thread of a process.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        // It ends by itself when the process does.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Returns the router's thread.
fn router_of(process: u32) -> String {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap());
    let router = tasks.find(|task| {
        let name = fs::read_to_string(task.path().join("comm"));
        name.is_ok_and(|name| name.starts_with("router-"))
    });
    let router = router.expect("the router has a thread of that name");
    router.file_name().into_string().unwrap()
}

/// Holds up each wait and wake of a thread for so many microseconds, and notes them; `None` where nobody may.
fn hold(thread: &str, micros: u64, notes: &Path) -> Option<Held> {
    let inject = format!("inject=futex:delay_enter={micros}");
    let mut child = Command::new("strace")
        .args(["-p", thread, "-e", "trace=futex", "-e", &inject, "-o"])
        .arg(notes)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stderr.take().unwrap());
    let attached = said.lines().map_while(Result::ok);
    let attached = attached.into_iter().any(|line| line.contains("attached"));
    attached.then_some(Held(child))
}

fn start(dir: &Path) -> Process {
    let said = File::create(dir.join("said")).unwrap();
    Process::start_under(&["env"], dir, &[], said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_hangs_ends_the_process_and_nothing_is_lost() {
    let name = "a_router_that_hangs_ends_the_process_and_nothing_is_lost";
    if !can_inject(name) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path());
    subscribe(&broker).await;
    let minute = 60_000_000;
    let notes = dir.path().join("calls");
    let Some(held) = hold(&router_of(broker.id()), minute, &notes) else {
        println!("SKIPPED {name}: needs the right to trace a running process");
        return broker.kill();
    };
    // The durable way does not go through the router, and goes on until the process ends.
    let acknowledged = publish_up_to(&broker, u16::MAX).await;
    assert!(!acknowledged.is_empty());
    assert!(!broker.ended().await, "this is no success");
    drop(held);
    let said = fs::read_to_string(dir.path().join("said")).unwrap();
    let said_why = said.contains("the embedded router did not answer for 10 rounds");
    assert!(said_why && !said.contains("panicked"), "{said}");
    expect_all(dir.path(), acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_is_only_watched_ends_nothing() {
    let name = "a_router_that_is_only_watched_ends_nothing";
    if !can_inject(name) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path());
    subscribe(&broker).await;
    let notes = dir.path().join("calls");
    let Some(held) = hold(&router_of(broker.id()), 1, &notes) else {
        println!("SKIPPED {name}: needs the right to trace a running process");
        return broker.kill();
    };
    let acknowledged = publish_up_to(&broker, 100).await;
    assert_eq!(acknowledged.len(), 100);
    // Without anything else to do the router wakes for the watchdog.
    let calls = || fs::read_to_string(&notes).map_or(0, |calls| calls.lines().count());
    let before = calls();
    until("the watchdog has asked often", || {
        calls() >= before + 2 * ROUNDS
    })
    .await;
    let (mut live, _) = Client::connect(broker.addr, "live", true).await;
    live.subscribe(&[("live", 1)]).await;
    let (mut publisher, _) = Client::connect(broker.addr, "p", true).await;
    publisher.publish("live", "x").await;
    assert_eq!(live.messages(1).await, ["x"], "the router lives");
    drop(held);
    let said = fs::read_to_string(dir.path().join("said")).unwrap();
    assert!(!said.contains("embedded router"), "{said}");
    broker.kill();
}
