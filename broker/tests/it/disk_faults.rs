//! The real process on a disk that fails: strace answers its calls with EIO and ENOSPC.
//!
//! After a failed sync nothing is acknowledged any more, and the process says why and ends; what it acknowledged before
//! is there when it is started again. While there is no space nothing is acknowledged, and then all is.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use tokio::io::AsyncWriteExt;

use crate::client::{Client, QOS_1, publish};
use crate::kill::{BufferedAcks, Process};

const STRACE: [&str; 5] = ["strace", "-D", "-f", "-o", "/dev/null"];

/// Tells whether calls can be made to fail here, or reports `test` as skipped.
pub(crate) fn can_inject(test: &str) -> bool {
    let tried = Command::new(STRACE[0])
        .args(&STRACE[1..])
        .args(["-e", "inject=fdatasync:error=EIO", "true"])
        .output();
    let can = tried.is_ok_and(|output| output.status.success() && output.stderr.is_empty());
    if !can {
        println!(
            "SKIPPED {test}: needs strace and the right to trace; run tools/install.sh as root"
        );
    }
    can
}

/// Starts the broker with some of its calls failing.
fn start(dir: &Path, trace: &str, inject: &str) -> Process {
    let said = File::create(dir.join("said")).unwrap();
    let inject = format!("inject={inject}");
    let wrapper = [&STRACE[..], &["-e", trace, "-e", &inject]].concat();
    Process::start_under(&wrapper, dir, &[], said)
}

pub(crate) async fn subscribe(broker: &Process) {
    let (mut subscriber, _) = Client::connect(broker.addr, "s", false).await;
    assert_eq!(subscriber.subscribe(&[("t", 1)]).await, [1]);
    subscriber.disconnect().await;
}

/// Publishes one by one until the connection ends, or all is acknowledged; returns what was.
pub(crate) async fn publish_up_to(broker: &Process, last: u16) -> HashSet<u16> {
    let (publisher, _) = Client::connect(broker.addr, "p", true).await;
    let (read, mut write) = publisher.into_stream().into_split();
    let mut read = BufferedAcks::new(read);
    let mut acknowledged = HashSet::new();
    for number in 1..=last {
        let bytes = publish(QOS_1, "t", number, number.to_string().as_bytes());
        let sent = write.write_all(&bytes).await;
        let (Ok(()), Some(id)) = (sent, read.next().await) else {
            break;
        };
        acknowledged.insert(id);
    }
    acknowledged
}

/// Starts the broker on the same data and a sound disk, and wants all that was acknowledged from it.
pub(crate) async fn expect_all(dir: &Path, mut acknowledged: HashSet<u16>) {
    let broker = Process::start(dir, &[]);
    let (mut subscriber, present) = Client::connect(broker.addr, "s", false).await;
    assert!(present, "the session survives");
    Client::connect(broker.addr, "p", true)
        .await
        .0
        .publish("t", "0")
        .await;
    loop {
        let message = subscriber.message().await;
        subscriber.acknowledge(message.id).await;
        let number: u16 = str::from_utf8(&message.payload).unwrap().parse().unwrap();
        if number == 0 {
            break;
        }
        acknowledged.remove(&number);
    }
    assert_eq!(acknowledged, HashSet::new(), "acknowledged and gone");
    broker.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_sync_nothing_is_acknowledged_and_the_process_ends() {
    if !can_inject("after_a_failed_sync_nothing_is_acknowledged_and_the_process_ends") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Counted for each thread by itself: the log's writer gets far enough.
    let broker = start(
        dir.path(),
        "trace=fdatasync",
        "fdatasync:error=EIO:when=30+",
    );
    subscribe(&broker).await;
    let acknowledged = publish_up_to(&broker, 10_000).await;
    assert!(
        (1..1_000).contains(&acknowledged.len()),
        "{} were acknowledged",
        acknowledged.len()
    );
    assert!(!broker.ended().await, "this is no success");
    let said = std::fs::read_to_string(dir.path().join("said")).unwrap();
    let said_why = said.contains("the ingest log failed") && said.contains("Input/output error");
    assert!(said_why && !said.contains("panicked"), "{said}");
    expect_all(dir.path(), acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_space_nothing_is_acknowledged_until_there_is_some() {
    if !can_inject("without_space_nothing_is_acknowledged_until_there_is_some") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = "trace=pwrite64";
    let broker = start(dir.path(), trace, "pwrite64:error=ENOSPC:when=30..32");
    subscribe(&broker).await;
    let acknowledged = publish_up_to(&broker, 200).await;
    assert_eq!(acknowledged.len(), 200, "the broker goes on by itself");
    broker.kill();
    let said = std::fs::read_to_string(dir.path().join("said")).unwrap();
    let told = said.contains("waits for space") && said.contains("has space again");
    assert!(told && !said.contains("panicked"), "{said}");
    expect_all(dir.path(), acknowledged).await;
}
