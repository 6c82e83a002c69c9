//! The real process, killed in the middle of a burst: what it acknowledged is there afterwards.
//!
//! Then killed again and again under load with QoS 1 and 2, with a subscriber that lags and is away: what was
//! acknowledged arrives, and with QoS 2 once. The negative controls are the same tests over a broker that acknowledges
//! before the log's write.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;

use crate::broker::{LIMIT, until};
use crate::client::{Client, QOS_1, publish};
use crate::exactly_once::{Publisher, Subscriber};

pub(crate) struct Process {
    child: Child,
    pub(crate) addr: SocketAddr,
    ready: serde_json::Value,
}

impl Process {
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_broker"));
        Self::run(command, dir, arguments, Stdio::null())
    }

    /// Starts the broker under a program that becomes it, or runs it as its direct child's child; `said` takes what
    /// it says on standard error.
    pub(crate) fn start_under(
        wrapper: &[&str],
        dir: &Path,
        arguments: &[&str],
        said: std::fs::File,
    ) -> Self {
        let mut command = Command::new(wrapper[0]);
        command
            .args(&wrapper[1..])
            .arg(env!("CARGO_BIN_EXE_broker"));
        Self::run(command, dir, arguments, said.into())
    }

    fn run(mut command: Command, dir: &Path, arguments: &[&str], stderr: Stdio) -> Self {
        let mut child = command
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
            .stderr(stderr)
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

    /// Waits until the process has ended by itself; tells whether it called that a success.
    pub(crate) async fn ended(mut self) -> bool {
        let mut success = None;
        until("the broker ends by itself", || {
            success = self.child.try_wait().unwrap().map(|end| end.success());
            success.is_some()
        })
        .await;
        success.unwrap()
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

/// What a campaign of kills came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Losses {
    /// Acknowledged and not delivered.
    lost: usize,
    /// Delivered more than once with QoS 2.
    doubled: usize,
}

/// Kills the broker again and again under load, and counts in the end.
async fn losses(kills: usize, arguments: &[&str]) -> Losses {
    let dir = tempfile::tempdir().unwrap();
    let (mut publisher, mut subscriber) = (Publisher::default(), Subscriber::default());
    publisher.mixes = true;
    for kill in 0..kills {
        let broker = Process::start(dir.path(), arguments);
        if kill == 0 {
            // The session begins before the first message.
            let (mut client, _) = Client::connect(broker.addr, "s", false).await;
            client.subscribe(&[("t", 2)]).await;
        }
        let taken = Arc::new(AtomicUsize::new(0));
        let publishing = tokio::spawn(publisher.run(broker.addr, None, Arc::clone(&taken)));
        // Every third time nobody listens, and the subscriber falls behind.
        let listens = kill % 3 != 2;
        let mut resting = Some(subscriber);
        let receiving = resting
            .take_if(|_| listens)
            .map(|subscriber| tokio::spawn(subscriber.run(broker.addr, None, true)));
        let wanted = 1 + (kill * 37) % 150;
        let have = || taken.load(Ordering::Relaxed) >= wanted;
        until("messages are taken", have).await;
        broker.kill();
        publisher = publishing.await.unwrap();
        subscriber = match receiving {
            Some(receiving) => receiving.await.unwrap(),
            None => resting.unwrap_or_default(),
        };
    }
    let broker = Process::start(dir.path(), arguments);
    // The last one must come whatever was lost, and all is in order.
    let last = publisher.next_number + 5;
    publisher = publisher.run(broker.addr, Some(last), Arc::default()).await;
    let last = publisher.next_number;
    let receiving = subscriber.run(broker.addr, Some(last), false);
    let receiving = tokio::time::timeout(4 * LIMIT, receiving).await;
    let subscriber = receiving.expect("the last message did not arrive");
    broker.kill();
    assert_eq!(publisher.acknowledged.len() as u64, u64::from(last));
    let mut losses = Losses::default();
    for number in 1..=last {
        let count = subscriber.arrived.get(&number).copied().unwrap_or_default();
        losses.lost += usize::from(count == 0);
        losses.doubled += usize::from(count > 1 && publisher.is_exact(number));
    }
    println!("{kills} kills, {last} messages acknowledged: {losses:?}");
    losses
}

/// How many kills the suite makes; `LASTMILE_KILLS=10000` makes it a campaign.
fn kills() -> usize {
    let text = std::env::var("LASTMILE_KILLS");
    text.map_or(50, |text| text.parse().expect("LASTMILE_KILLS is a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_arrives_through_kills_and_once_with_qos_2() {
    assert_eq!(losses(kills(), &[]).await, Losses::default());
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn under_load_too_acknowledging_before_the_commit_is_noticed() {
    for _ in 0..8 {
        if losses(8, &["--unsafe-ack-before-commit"]).await.lost > 0 {
            return;
        }
    }
    panic!("64 kills lost nothing: the campaign proves nothing");
}
