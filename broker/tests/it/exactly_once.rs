//! QoS 2 both ways: each message is taken once and arrives once, through reconnects, restarts and kills.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::broker::Broker;
use crate::client::{Client, QOS_1, RETAIN, connect, packet, publish, text};
use crate::kill::Process;

pub(crate) const QOS_2: u8 = 0b100;
pub(crate) const DUP: u8 = 0b1000;
const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;

pub(crate) async fn say(client: &mut Client, first: u8, id: u16) {
    client.send(&packet(first, &id.to_be_bytes())).await;
}

/// Publishes with QoS 2 and waits until the broker has taken it.
pub(crate) async fn publish_twice_sure(client: &mut Client, topic: &str, id: u16, payload: &str) {
    client
        .send(&publish(QOS_2, topic, id, payload.as_bytes()))
        .await;
    client.expect(PUBREC, &id.to_be_bytes()).await;
    say(client, PUBREL, id).await;
    client.expect(PUBCOMP, &id.to_be_bytes()).await;
}

/// Expects nothing but PUBREL of messages whose PUBCOMP a kill may have lost, and answers these.
pub(crate) async fn expect_nothing_new(client: &mut Client) {
    client.send(&[0xc0, 0]).await;
    loop {
        let packet = client.receive().await.unwrap();
        match packet.first {
            0xd0 => return,
            first => assert_eq!(first, PUBREL, "{packet:?}"),
        }
        say(client, PUBCOMP, id_of(&packet.body)).await;
    }
}

#[tokio::test]
async fn a_message_sent_again_is_taken_once_until_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for clean in [true, false] {
        let mut client = broker.client(if clean { "c" } else { "p" }, clean).await;
        let before = broker.records().len();
        client.send(&publish(QOS_2, "a", 7, b"one")).await;
        client.expect(PUBREC, &[0, 7]).await;
        client.send(&publish(QOS_2 | DUP, "a", 7, b"one")).await;
        client.expect(PUBREC, &[0, 7]).await;
        assert_eq!(broker.records().len(), before + 1);
        for _ in 0..2 {
            // The second time the id is not known, and that is answered alike.
            say(&mut client, PUBREL, 7).await;
            client.expect(PUBCOMP, &[0, 7]).await;
        }
        publish_twice_sure(&mut client, "a", 7, "two").await;
        assert_eq!(broker.records().len(), before + 2);
        client.disconnect().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn unreleased_ids_survive_kills_and_end_with_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Process::start(dir.path(), &[]);
    let (mut subscriber, _) = Client::connect(broker.addr, "s", false).await;
    subscriber.subscribe(&[("a", 1)]).await;
    let (mut client, _) = Client::connect(broker.addr, "p", false).await;
    client.send(&publish(QOS_2, "a", 7, b"one")).await;
    client.expect(PUBREC, &[0, 7]).await;
    broker.kill();
    // A broker that stops digests all messages: the next has the id from the journal only.
    let broker = Broker::start(dir.path()).await;
    let (mut client, present) = Client::connect(broker.addr(), "p", false).await;
    assert!(present);
    client.send(&publish(QOS_2 | DUP, "a", 7, b"one")).await;
    client.expect(PUBREC, &[0, 7]).await;
    drop(client);
    broker.stop().await;
    let broker = Process::start(dir.path(), &[]);
    let (mut client, _) = Client::connect(broker.addr, "p", false).await;
    client.send(&publish(QOS_2 | DUP, "a", 7, b"one")).await;
    client.expect(PUBREC, &[0, 7]).await;
    broker.kill();
    let broker = Process::start(dir.path(), &[]);
    let (mut client, _) = Client::connect(broker.addr, "p", false).await;
    say(&mut client, PUBREL, 7).await;
    client.expect(PUBCOMP, &[0, 7]).await;
    client.send(&publish(QOS_2, "a", 7, b"two")).await;
    client.expect(PUBREC, &[0, 7]).await;
    broker.kill();
    let broker = Process::start(dir.path(), &[]);
    let (client, _) = Client::connect(broker.addr, "p", true).await;
    client.disconnect().await;
    let (mut client, present) = Client::connect(broker.addr, "p", false).await;
    assert!(!present);
    client.send(&publish(QOS_2, "a", 7, b"three")).await;
    client.expect(PUBREC, &[0, 7]).await;
    let (mut subscriber, _) = Client::connect(broker.addr, "s", false).await;
    assert_eq!(subscriber.messages(3).await, ["one", "two", "three"]);
    subscriber.expect_quiet().await;
    broker.kill();
}

#[tokio::test]
async fn a_subscriber_gets_each_message_once_with_the_id_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Process::start(dir.path(), &[]);
    let (mut subscriber, _) = Client::connect(broker.addr, "s", false).await;
    assert_eq!(subscriber.subscribe(&[("a", 2)]).await, [2]);
    let (mut publisher, _) = Client::connect(broker.addr, "p", true).await;
    for number in 1..=3_u16 {
        publish_twice_sure(&mut publisher, "a", number, &number.to_string()).await;
    }
    let mut sent = Vec::new();
    for number in 1..=3_u16 {
        let message = subscriber.message().await;
        assert_eq!((message.qos, message.dup), (2, false));
        assert_eq!(message.payload, number.to_string().into_bytes());
        sent.push(message);
    }
    // The first is done with, of the second the PUBREL is on its way, of the third nothing came back.
    for message in &sent[..2] {
        say(&mut subscriber, PUBREC, message.id).await;
        subscriber.expect(PUBREL, &message.id.to_be_bytes()).await;
    }
    say(&mut subscriber, PUBCOMP, sent[0].id).await;
    subscriber.expect_quiet().await;
    // The same broker on another connection, and then another broker.
    let (mut again, present) = Client::connect(broker.addr, "s", false).await;
    assert!(present);
    expect_the_rest(&mut again, &sent).await;
    broker.kill();
    let broker = Process::start(dir.path(), &[]);
    let (mut again, _) = Client::connect(broker.addr, "s", false).await;
    expect_the_rest(&mut again, &sent).await;
    say(&mut again, PUBCOMP, sent[1].id).await;
    say(&mut again, PUBREC, sent[2].id).await;
    again.expect(PUBREL, &sent[2].id.to_be_bytes()).await;
    say(&mut again, PUBCOMP, sent[2].id).await;
    again.expect_quiet().await;
    let (mut last, _) = Client::connect(broker.addr, "s", false).await;
    last.expect_quiet().await;
    broker.kill();
}

async fn expect_the_rest(client: &mut Client, sent: &[crate::client::Received]) {
    let mut open = HashSet::new();
    for _ in 0..2 {
        let packet = client.receive().await.unwrap();
        if packet.first == PUBREL {
            assert_eq!(packet.body, sent[1].id.to_be_bytes());
            open.insert(1);
        } else {
            assert_eq!(packet.first, 0x30 | QOS_2 | DUP, "{packet:?}");
            assert_eq!(packet.body[3..5], sent[2].id.to_be_bytes());
            assert_eq!(packet.body[5..], sent[2].payload[..]);
            open.insert(2);
        }
    }
    assert_eq!(open.len(), 2);
}

#[tokio::test]
async fn a_clean_session_gets_qos_2_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut subscriber = broker.client("s", true).await;
    assert_eq!(
        subscriber.subscribe(&[("a", 2), ("$share/g/b", 2)]).await,
        [2, 2]
    );
    let mut publisher = broker.client("p", true).await;
    publish_twice_sure(&mut publisher, "a", 1, "x").await;
    let message = subscriber.message().await;
    assert_eq!(message.qos, 2);
    say(&mut subscriber, PUBREC, message.id).await;
    subscriber.expect(PUBREL, &message.id.to_be_bytes()).await;
    say(&mut subscriber, PUBCOMP, message.id).await;
    subscriber.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test]
async fn retained_messages_survive_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = BTreeMap::new();
    for round in 0..4_u16 {
        let broker = Process::start(dir.path(), &[]);
        let (mut subscriber, _) = Client::connect(broker.addr, "s", true).await;
        subscriber.subscribe(&[("r/#", 1)]).await;
        let mut found = BTreeMap::new();
        for _ in 0..expected.len() {
            let message = subscriber.message().await;
            assert!(message.retain);
            subscriber.acknowledge(message.id).await;
            found.insert(message.topic, message.payload);
        }
        assert_eq!(found, expected);
        subscriber.expect_quiet().await;
        drop(subscriber);
        let (mut publisher, _) = Client::connect(broker.addr, "p", true).await;
        for (topic, clears) in [("r/a", false), ("r/b", round % 2 == 1), ("r/c", round == 2)] {
            let payload = if clears {
                String::new()
            } else {
                format!("{topic} {round}")
            };
            let bytes = publish(0b010 | RETAIN, topic, 5, payload.as_bytes());
            publisher.send(&bytes).await;
            publisher.expect(0x40, &[0, 5]).await;
            if clears {
                expected.remove(topic);
            } else {
                expected.insert(topic.to_owned(), payload.into_bytes());
            }
        }
        broker.kill();
    }
}

/// A socket that may die at any moment.
struct Line {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Line {
    /// Connects with a session that goes on.
    async fn open(addr: SocketAddr, id: &str) -> Option<Self> {
        let stream = TcpStream::connect(addr).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (read, write) = stream.into_split();
        let read = BufReader::new(read);
        let mut line = Self { read, write };
        line.send(&connect(id, 0, 0, &[])).await?;
        let (first, body) = line.receive().await?;
        assert_eq!((first, body[1]), (0x20, 0));
        Some(line)
    }

    async fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.write.write_all(bytes).await.ok()
    }

    async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.read.read_u8().await.ok()?;
        let length = self.read.read_u8().await.ok()?;
        assert!(length < 128, "short packets");
        let mut body = vec![0; usize::from(length)];
        self.read.read_exact(&mut body).await.ok()?;
        Some((first, body))
    }
}

fn id_of(body: &[u8]) -> u16 {
    u16::from_be_bytes([body[0], body[1]])
}

/// A publisher that keeps what MQTT asks it to keep.
#[derive(Default)]
pub(crate) struct Publisher {
    unreceived: VecDeque<(u16, u32)>,
    unreleased: VecDeque<u16>,
    next_id: u16,
    pub(crate) next_number: u32,
    /// Whether every third message goes with QoS 1.
    pub(crate) mixes: bool,
    /// What a PUBACK or PUBREC came for.
    pub(crate) acknowledged: HashSet<u32>,
}

const IN_FLIGHT: usize = 20;

impl Publisher {
    /// Tells whether a message is to arrive once and no more.
    pub(crate) fn is_exact(&self, number: u32) -> bool {
        !self.mixes || !number.is_multiple_of(3)
    }

    fn message(&self, id: u16, number: u32, again: bool) -> Vec<u8> {
        let qos = if self.is_exact(number) { QOS_2 } else { QOS_1 };
        let flags = if again { qos | DUP } else { qos };
        publish(flags, "t", id, number.to_string().as_bytes())
    }

    /// Publishes until the connection dies, or until `last` and all is answered.
    pub(crate) async fn run(
        mut self,
        addr: SocketAddr,
        last: Option<u32>,
        taken: Arc<AtomicUsize>,
    ) -> Self {
        self.serve(addr, last, &taken).await;
        self
    }

    async fn serve(
        &mut self,
        addr: SocketAddr,
        last: Option<u32>,
        taken: &AtomicUsize,
    ) -> Option<()> {
        let mut line = Line::open(addr, "p").await?;
        for (id, number) in self.unreceived.clone() {
            line.send(&self.message(id, number, true)).await?;
        }
        for id in self.unreleased.clone() {
            line.send(&packet(PUBREL, &id.to_be_bytes())).await?;
        }
        loop {
            let goes_on = last.is_none_or(|last| self.next_number < last);
            while goes_on && self.unreceived.len() + self.unreleased.len() < IN_FLIGHT {
                self.next_id = self.next_id % 60 + 1;
                let id = self.next_id;
                let used = self.unreceived.iter().any(|(there, _)| *there == id);
                if used || self.unreleased.contains(&id) {
                    continue;
                }
                self.next_number += 1;
                self.unreceived.push_back((id, self.next_number));
                line.send(&self.message(id, self.next_number, false))
                    .await?;
            }
            if self.unreceived.is_empty() && self.unreleased.is_empty() {
                return Some(());
            }
            let (first, body) = line.receive().await?;
            let id = id_of(&body);
            match first {
                PUBACK | PUBREC => {
                    let place = self.unreceived.iter().position(|(there, _)| *there == id);
                    let (_, number) = self.unreceived.remove(place.unwrap()).unwrap();
                    assert_eq!(first == PUBREC, self.is_exact(number));
                    self.acknowledged.insert(number);
                    taken.fetch_add(1, Ordering::Relaxed);
                    if first == PUBREC {
                        self.unreleased.push_back(id);
                        line.send(&packet(PUBREL, &id.to_be_bytes())).await?;
                    }
                }
                other => {
                    assert_eq!(other, PUBCOMP);
                    self.unreleased.retain(|there| *there != id);
                }
            }
        }
    }
}

/// A subscriber that keeps what MQTT asks it to keep, and counts.
pub(crate) struct Subscriber {
    id: &'static str,
    filter: &'static str,
    held: HashSet<u16>,
    pub(crate) arrived: HashMap<u32, u32>,
}

impl Default for Subscriber {
    fn default() -> Self {
        Self::new("s", "t")
    }
}

impl Subscriber {
    pub(crate) fn new(id: &'static str, filter: &'static str) -> Self {
        Self {
            id,
            filter,
            held: HashSet::new(),
            arrived: HashMap::new(),
        }
    }

    /// Tells whether nothing is open on its side.
    pub(crate) fn has_nothing_open(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes messages until the connection dies, or until the `last` has come: then all others have. One that `lags`
    /// leaves messages open.
    pub(crate) async fn run(mut self, addr: SocketAddr, last: Option<u32>, lags: bool) -> Self {
        self.serve(addr, last, lags).await;
        self
    }

    /// Takes what is there now: until a PINGRESP comes with nothing open.
    pub(crate) async fn rest(mut self, addr: SocketAddr) -> Self {
        if let Some(mut line) = Line::open(addr, self.id).await {
            self.take(&mut line).await;
        }
        self
    }

    async fn take(&mut self, line: &mut Line) -> Option<()> {
        line.send(&[0xc0, 0]).await?;
        loop {
            let (first, body) = line.receive().await?;
            match first {
                0xd0 if self.held.is_empty() => return Some(()),
                0xd0 => line.send(&[0xc0, 0]).await?,
                _ => self.answer(line, first, &body, false).await?,
            }
        }
    }

    async fn serve(&mut self, addr: SocketAddr, last: Option<u32>, lags: bool) -> Option<()> {
        let mut line = Line::open(addr, self.id).await?;
        let mut subscribe = vec![0, 9];
        subscribe.extend_from_slice(&text(self.filter));
        subscribe.push(2);
        line.send(&packet(0x82, &subscribe)).await?;
        let mut seen = 0_u32;
        loop {
            let is_done = |last: u32| self.arrived.contains_key(&last) && self.held.is_empty();
            if last.is_some_and(is_done) {
                return Some(());
            }
            let (first, body) = line.receive().await?;
            seen += 1;
            let slow = if first == PUBREL { 5 } else { 7 };
            let leaves_open = lags && seen.is_multiple_of(slow);
            self.answer(&mut line, first, &body, leaves_open).await?;
        }
    }

    async fn answer(
        &mut self,
        line: &mut Line,
        first: u8,
        body: &[u8],
        leaves_open: bool,
    ) -> Option<()> {
        let (answer, id) = match first {
            0x90 => {
                assert_eq!(body[2], 2);
                return Some(());
            }
            PUBREL => {
                let id = id_of(body);
                self.held.remove(&id);
                (PUBCOMP, id)
            }
            _ => {
                let is_exact = first & !DUP == 0x30 | QOS_2;
                assert!(is_exact || first & !DUP == 0x30 | QOS_1, "{first:#x}");
                let id = id_of(&body[3..]);
                let number = str::from_utf8(&body[5..]).unwrap().parse().unwrap();
                if !is_exact || self.held.insert(id) {
                    *self.arrived.entry(number).or_default() += 1;
                }
                (if is_exact { PUBREC } else { PUBACK }, id)
            }
        };
        if leaves_open {
            return Some(());
        }
        line.send(&packet(answer, &id.to_be_bytes())).await
    }
}
