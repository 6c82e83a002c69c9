//! The real process, killed in the middle of a burst: what it acknowledged is there afterwards.
//!
//! The negative control is the same test over a broker that acknowledges before the log's write.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::io::AsyncWriteExt;

use crate::client::{Client, QOS_1, publish};

pub(crate) struct Process {
    child: Child,
    pub(crate) addr: SocketAddr,
    ready: serde_json::Value,
}

impl Process {
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_broker"))
            .arg("--data")
            .arg(dir)
            .args([
                "--mqtt-listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map(Result::unwrap).find_map(|line| {
            let json = line.strip_prefix("READY ")?.to_owned();
            serde_json::from_str::<serde_json::Value>(&json).ok()
        });
        let ready = ready.expect("the broker gets ready");
        let addr = ready["mqtt"].as_str().unwrap().parse().unwrap();
        Self { child, addr, ready }
    }

    /// Returns where a listener is.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        self.ready[name].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Publishes a burst, kills the broker after `acks` PUBACKs, and returns how many acknowledged messages are gone.
async fn lost_in_a_kill(dir: &Path, arguments: &[&str], round: u32, acks: usize) -> usize {
    let broker = Process::start(dir, arguments);
    if round == 0 {
        let (mut subscriber, _) = Client::connect(broker.addr, "s", false).await;
        subscriber.subscribe(&[("burst", 1)]).await;
    }
    let (publisher, _) = Client::connect(broker.addr, "p", true).await;
    let (read, mut write) = publisher.into_stream().into_split();
    let writing = tokio::spawn(async move {
        for number in 1..=60_000_u16 {
            let payload = format!("{round} {number}");
            let bytes = publish(QOS_1, "burst", number, payload.as_bytes());
            if write.write_all(&bytes).await.is_err() {
                break;
            }
        }
        write
    });
    let mut read = BufferedAcks::new(read);
    let mut acknowledged = HashSet::new();
    while acknowledged.len() < acks {
        acknowledged.insert(read.next().await.expect("the broker lives"));
    }
    broker.kill();
    drop(writing.await.unwrap());
    while let Some(id) = read.next().await {
        acknowledged.insert(id);
    }

    let broker = Process::start(dir, arguments);
    let (mut subscriber, present) = Client::connect(broker.addr, "s", false).await;
    assert!(present, "the session survives");
    let (prefix, end) = (format!("{round} "), format!("end of {round}"));
    Client::connect(broker.addr, "p", true)
        .await
        .0
        .publish("burst", &end)
        .await;
    loop {
        let message = subscriber.message().await;
        subscriber.acknowledge(message.id).await;
        let text = String::from_utf8(message.payload).unwrap();
        if text == end {
            break;
        }
        if let Some(number) = text.strip_prefix(&prefix) {
            acknowledged.remove(&number.parse::<u16>().unwrap());
        }
    }
    subscriber.disconnect().await;
    broker.kill();
    acknowledged.len()
}

/// Reads PUBACKs until the connection ends.
pub(crate) struct BufferedAcks(tokio::io::BufReader<tokio::net::tcp::OwnedReadHalf>);

impl BufferedAcks {
    pub(crate) fn new(read: tokio::net::tcp::OwnedReadHalf) -> Self {
        Self(tokio::io::BufReader::new(read))
    }

    pub(crate) async fn next(&mut self) -> Option<u16> {
        let mut ack = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut self.0, &mut ack)
            .await
            .ok()?;
        assert_eq!(ack[..2], [0x40, 2]);
        Some(u16::from_be_bytes([ack[2], ack[3]]))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kills() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let acks = 1 + 1700 * round as usize;
        assert_eq!(
            lost_in_a_kill(dir.path(), &[], round, acks).await,
            0,
            "round {round}"
        );
    }
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn acknowledging_before_the_commit_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..40 {
        let acks = 1 + 700 * (round as usize % 8);
        let arguments = ["--unsafe-ack-before-commit"];
        if lost_in_a_kill(dir.path(), &arguments, round, acks).await > 0 {
            return;
        }
    }
    panic!("forty kills lost nothing: the kill test proves nothing");
}
