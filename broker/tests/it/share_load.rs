//! Shared subscriptions under load: members come, go and die at random, the broker is killed, and a ledger of
//! what was acknowledged to the publisher says what must have arrived.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::broker::{Broker, LIMIT, until};
use crate::client::{Client, QOS_1, packet, publish, text};
use crate::kill::{BufferedAcks, Process};

const FILTER: &str = "$share/g/load/#";
const TOPIC: &str = "load/t";

/// What the members acknowledged, as numbers, and how often anything was received.
#[derive(Default)]
struct Ledger {
    acknowledged: Mutex<HashSet<u32>>,
    received: AtomicU64,
}

impl Ledger {
    fn enter(&self, messages: &[(u16, u32)]) {
        let mut acknowledged = self.acknowledged.lock().unwrap();
        acknowledged.extend(messages.iter().map(|(_, number)| number));
        let received = messages.len() as u64;
        self.received.fetch_add(received, Ordering::Relaxed);
    }
}

/// What comes at once is not all for the member that was there first.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_for_all_members() {
    const COUNT: u16 = 60;
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut publisher = broker.client("p", true).await;
    for qos in 0..2 {
        let mut members = Vec::new();
        for id in ["a", "b", "c"] {
            let mut member = broker.client(id, true).await;
            member.subscribe(&[("$share/g/burst", qos)]).await;
            members.push((member, 0));
        }
        let burst = (1..=COUNT).flat_map(|id| publish(QOS_1, "burst", id, b"x"));
        publisher.send(&burst.collect::<Vec<_>>()).await;
        for id in 1..=COUNT {
            publisher.expect(0x40, &id.to_be_bytes()).await;
        }
        let limit = Instant::now() + LIMIT;
        while members.iter().map(|(_, count)| count).sum::<u16>() < COUNT {
            assert!(Instant::now() < limit, "not all came");
            for (member, count) in &mut members {
                member.send(&[0xc0, 0]).await;
                while member.receive().await.unwrap().first != 0xd0 {
                    *count += 1;
                }
            }
        }
        let counts: Vec<_> = members.iter().map(|(_, count)| *count).collect();
        assert!(counts.iter().all(|count| *count >= COUNT / 4), "{counts:?}");
    }
    broker.stop().await;
}

/// Reads messages in bulk and acknowledges them in bulk.
struct Member {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Member {
    async fn join(addr: SocketAddr, id: &str, clean: bool) -> Self {
        let (mut client, present) = Client::connect(addr, id, clean).await;
        if !present {
            // Messages may come before this returns only if it was a member before.
            client.subscribe(&[(FILTER, 1)]).await;
        }
        Self {
            stream: client.into_stream(),
            bytes: Vec::new(),
        }
    }

    /// Reads once; returns packet ids and numbers. `None` when the broker closed the connection.
    async fn read(&mut self) -> Option<Vec<(u16, u32)>> {
        let read = self.stream.read_buf(&mut self.bytes).await;
        if !matches!(read, Ok(1..)) {
            return None;
        }
        let (mut messages, mut at) = (Vec::new(), 0);
        while let Some((first, body, size)) = split(&self.bytes[at..]) {
            at += size;
            if first & 0xf0 == 0x30 {
                let topic_len = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let rest = &body[2 + topic_len..];
                let number = u32::from_be_bytes(rest[2..6].try_into().unwrap());
                messages.push((u16::from_be_bytes([rest[0], rest[1]]), number));
            }
        }
        self.bytes.drain(..at);
        Some(messages)
    }

    /// Acknowledges messages and enters them in the ledger, in that order of cause: what the broker does not
    /// get to know comes again.
    async fn acknowledge(&mut self, messages: &[(u16, u32)], ledger: &Ledger) -> bool {
        let mut acks = Vec::with_capacity(4 * messages.len());
        for (id, _) in messages {
            let [high, low] = id.to_be_bytes();
            acks.extend_from_slice(&[0x40, 2, high, low]);
        }
        ledger.enter(messages);
        self.stream.write_all(&acks).await.is_ok()
    }
}

fn split(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 127) << (7 * (at - 1));
        at += 1;
        if byte & 128 == 0 {
            break;
        }
    }
    let body = bytes.get(at..at + length)?;
    Some((bytes[0], body, at + length))
}

fn message(number: u32, id: u16) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(180, b'.');
    publish(QOS_1, TOPIC, id, &payload)
}

/// Publishes numbers as fast as the acknowledgements of `window` come back; returns how many were acknowledged.
async fn publish_all(addr: SocketAddr, count: u32, window: u32) {
    let publisher = Client::connect(addr, "publisher", true).await.0;
    let (read, mut write) = publisher.into_stream().into_split();
    let mut acks = BufferedAcks::new(read);
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < count {
        let mut bytes = Vec::new();
        while sent < count && sent - acknowledged < window {
            let id = u16::try_from(sent % 60_000).unwrap() + 1;
            bytes.extend(message(sent, id));
            sent += 1;
        }
        write.write_all(&bytes).await.unwrap();
        let least = (sent - acknowledged).div_ceil(2);
        for _ in 0..least {
            acks.next().await.unwrap();
            acknowledged += 1;
        }
    }
}

/// A small generator, so that a seed tells the whole story of a member.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Joins, takes some, and leaves somehow, again and again, until it is told to stop.
async fn unsteady(
    addr: SocketAddr,
    id: String,
    clean: bool,
    seed: u64,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
) {
    let mut random = Random(seed * 2 + 1);
    while !stop.load(Ordering::Relaxed) {
        let mut member = Member::join(addr, &id, clean).await;
        let mut budget = random.below(3000);
        let mut held = Vec::new();
        loop {
            let read = timeout(Duration::from_millis(20), member.read()).await;
            match read {
                Ok(Some(messages)) => held.extend(messages),
                Ok(None) => break,
                Err(_) => budget = budget.saturating_sub(100),
            }
            // Acknowledges some of what it has, not always the oldest first.
            let from = random.below(held.len() as u64 + 1);
            let some: Vec<_> = held.drain(usize::try_from(from).unwrap()..).collect();
            if !member.acknowledge(&some, &ledger).await {
                break;
            }
            budget = budget.saturating_sub(some.len() as u64);
            if budget == 0 {
                break;
            }
        }
        // With a farewell, or cut; at times it leaves the group for good.
        let farewell = match random.below(4) {
            0 => vec![0xe0, 0],
            1 if clean => {
                let body = [&[0, 8][..], &text(FILTER)].concat();
                packet(0xa2, &body)
            }
            _ => Vec::new(),
        };
        if member.stream.write_all(&farewell).await.is_err() {
            continue;
        }
        drop(member);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_members_come_and_go() {
    const COUNT: u32 = 30_000;
    for seed in 1..=3 {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(dir.path()).await;
        let ledger = Arc::new(Ledger::default());
        let stop = Arc::new(AtomicBool::new(false));
        // A persistent member that never leaves for good keeps the group.
        let steady = Member::join(broker.addr(), "unsteady 0", false).await;
        drop(steady);
        let members = (0..6_u64).map(|number| {
            let id = format!("unsteady {number}");
            let (ledger, stop) = (Arc::clone(&ledger), Arc::clone(&stop));
            let seed = seed * 100 + number;
            tokio::spawn(unsteady(broker.addr(), id, number > 2, seed, ledger, stop))
        });
        let members: Vec<_> = members.collect();
        publish_all(broker.addr(), COUNT, 500).await;
        let done = || ledger.acknowledged.lock().unwrap().len() == COUNT as usize;
        until(&format!("all of seed {seed} has arrived"), done).await;
        let end = broker.log().next_durable();
        assert_eq!(end, u64::from(COUNT));
        let place = || broker.log().cursors().get("share/g/load/#").unwrap().next;
        until(&format!("the place of seed {seed} is at the end"), || {
            place() == end
        })
        .await;
        stop.store(true, Ordering::Relaxed);
        for member in members {
            member.await.unwrap();
        }
        println!(
            "seed {seed}: {COUNT} published, {} received, {} sent again by the broker",
            ledger.received.load(Ordering::Relaxed),
            broker.metric("broker_share_redelivered_messages_total"),
        );
        broker.stop().await;
    }
}

/// Takes and acknowledges everything until the connection ends, all is done, or nothing comes any more.
async fn take_all(mut member: Member, ledger: &Ledger, done: impl Fn() -> bool) {
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < LIMIT / 2 {
        match timeout(Duration::from_millis(20), member.read()).await {
            Ok(Some(messages)) => {
                quiet_since = Instant::now();
                if !member.acknowledge(&messages, ledger).await {
                    return;
                }
            }
            // Asked only now: it may cost a look at the whole ledger.
            Err(_) if done() => return,
            Err(_) => {}
            Ok(None) => return,
        }
    }
}

/// Publishes a burst to a group of two, kills the broker after so many acknowledgements, starts it again, and
/// returns how many messages were acknowledged to the publisher and reached no member.
async fn lost_in_a_kill(dir: &Path, arguments: &[&str], round: u32, acks: usize) -> usize {
    let broker = Process::start(dir, arguments);
    let ledger = Arc::new(Ledger::default());
    let mut taking = Vec::new();
    for id in ["one", "two"] {
        let member = Member::join(broker.addr, id, false).await;
        let ledger = Arc::clone(&ledger);
        taking.push(tokio::spawn(async move {
            take_all(member, &ledger, || false).await;
        }));
    }
    let publisher = Client::connect(broker.addr, "p", true).await.0;
    let (read, mut write) = publisher.into_stream().into_split();
    let first = round * 100_000;
    let writing = tokio::spawn(async move {
        for number in 0..60_000_u16 {
            let bytes = message(first + u32::from(number), number + 1);
            if write.write_all(&bytes).await.is_err() {
                break;
            }
        }
    });
    let mut read: BufferedAcks = BufferedAcks::new(read);
    let mut published = HashSet::new();
    while published.len() < acks {
        let id = read.next().await.expect("the broker lives");
        published.insert(first + u32::from(id) - 1);
    }
    broker.kill();
    writing.await.unwrap();
    while let Some(id) = read.next().await {
        published.insert(first + u32::from(id) - 1);
    }
    for task in taking {
        task.await.unwrap();
    }

    let broker = Process::start(dir, arguments);
    let missing = |ledger: &Ledger| {
        let acknowledged = ledger.acknowledged.lock().unwrap();
        published.difference(&acknowledged).count()
    };
    let mut members = Vec::new();
    for id in ["one", "two"] {
        let (client, present) = Client::connect(broker.addr, id, false).await;
        assert!(present, "the session survives");
        members.push(Member {
            stream: client.into_stream(),
            bytes: Vec::new(),
        });
    }
    let all = || missing(&ledger) == 0;
    let two = members.pop().unwrap();
    let one = members.pop().unwrap();
    tokio::join!(take_all(one, &ledger, all), take_all(two, &ledger, all));
    broker.kill();
    missing(&ledger)
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_the_broker_lose_nothing_of_a_group() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let acks = 1 + 1700 * round as usize;
        let lost = lost_in_a_kill(dir.path(), &[], round, acks).await;
        assert_eq!(lost, 0, "round {round}");
    }
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_loses_acknowledged_messages_is_noticed() {
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

/// `cargo test --release -p broker --test it rate -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn rate_through_a_group() {
    const COUNT: u32 = 500_000;
    for count in [1, 4] {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(dir.path()).await;
        let ledger = Arc::new(Ledger::default());
        let mut members = Vec::new();
        for number in 0..count {
            members.push(Member::join(broker.addr(), &format!("m{number}"), false).await);
        }
        // All at once from the log, so that the group is what is measured.
        for member in members.drain(..) {
            drop(member);
        }
        publish_all(broker.addr(), COUNT, 20_000).await;
        let begun = Instant::now();
        let tasks: Vec<_> = (0..count)
            .map(|number| {
                let (addr, ledger) = (broker.addr(), Arc::clone(&ledger));
                tokio::spawn(async move {
                    let member = Member::join(addr, &format!("m{number}"), false).await;
                    let done = || ledger.received.load(Ordering::Relaxed) >= u64::from(COUNT);
                    take_all(member, &ledger, done).await;
                })
            })
            .collect();
        let done = || ledger.received.load(Ordering::Relaxed) >= u64::from(COUNT);
        until("all has arrived", done).await;
        let rate = f64::from(COUNT) / begun.elapsed().as_secs_f64();
        println!("{count} members: {rate:.0} messages/s from the log to PUBACK");
        for task in tasks {
            task.await.unwrap();
        }
        broker.stop().await;
    }
}
