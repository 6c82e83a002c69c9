//! Anything may come over a connection: the broker neither panics, spins nor grows, and the others do not notice.
//!
//! A case is one connection to a broker that lives on, over a simulated disk. Bounds that are held against it: after
//! the connection is gone there are as many tasks as before; what the broker says on it is MQTT and at most
//! [`OUTPUT_BYTES`]; what the log takes is at most what so many bytes can publish. Polls without a rest are bounded by
//! the executor.

use std::num::NonZeroU16;
use std::sync::Arc;

use ingest_log::sim::{Random, SimDisk};
use service::{Clock, ManualClock};

use super::link::Link;
use super::node::{Node, Which};
use super::wire;
use crate::Settings;
use crate::protocol::Version;
use crate::protocol::frame::{Split, split};

/// Most bytes the broker may say to one connection that sends a case: its output buffer and two packets.
const OUTPUT_BYTES: usize = 3 * (256 << 10);
/// Cases of one broker: what they leave in its log is then given up.
const CASES: u32 = 500;
/// PINGREQ, and the answer.
const PING: [u8; 2] = [0xc0, 0];
const PONG: [u8; 2] = [0xd0, 0];

/// A broker that cases are tried on.
pub struct Harness {
    random: Random,
    runtime: tokio::runtime::Runtime,
    node: Option<(Node, Link)>,
    cases: u32,
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness")
            .field("cases", &self.cases)
            .finish_non_exhaustive()
    }
}

impl Default for Harness {
    fn default() -> Self {
        Self::new()
    }
}

impl Harness {
    /// Makes one.
    ///
    /// # Panics
    /// When the system gives no runtime.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing");
        Self {
            random: Random::new(1),
            runtime,
            node: None,
            cases: 0,
        }
    }

    /// Sends a case; its first byte says what comes before it, and in what pieces it goes.
    ///
    /// # Errors
    /// What the broker did that it must not do.
    pub fn one(&mut self, case: &[u8]) -> Result<(), String> {
        if self.cases.is_multiple_of(CASES) {
            self.node = None;
        }
        self.cases += 1;
        let Self {
            random,
            runtime,
            node,
            ..
        } = self;
        let act = async {
            let (mut up, mut well) = match node.take() {
                Some(up) => up,
                None => start(random)?,
            };
            attack(&mut up, random, case).await?;
            check_well(&mut up, &mut well, random)?;
            *node = Some((up, well));
            Ok(())
        };
        runtime.block_on(tokio::task::coop::unconstrained(act))
    }
}

/// Starts a broker, and a client that is not to notice anything.
fn start(random: &mut Random) -> Result<(Node, Link), String> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let mut node = Node::open(&SimDisk::new(1), &clock, &Settings::default())?;
    let mut well = Link::new(node.accept(4_096));
    well.say(&wire::connect(Version::V311, "well", 0));
    well.push(usize::MAX);
    node.run(random)?;
    well.pull(4_096);
    well.incoming.clear();
    Ok((node, well))
}

async fn attack(node: &mut Node, random: &mut Random, case: &[u8]) -> Result<(), String> {
    let before = (node.tasks(), node.log_bytes());
    let (how, bytes) = case.split_first().unwrap_or((&0, &[]));
    let mut link = Link::new(node.accept(64 << (how % 8)));
    let version = match how >> 3 & 3 {
        1 => Some(Version::V311),
        2 => Some(Version::V5),
        _ => None,
    };
    if let Some(version) = version {
        // A few names, so that sessions are taken up and taken over.
        let expiry = if how & 0x40 == 0 { 0 } else { wire::NEVER };
        link.say(&wire::connect(version, &format!("ill{}", how >> 7), expiry));
    }
    link.say(bytes);
    let piece = 1 + usize::from(*how) * 3;
    let (mut heard, mut rests) = (0, 0);
    // Bytes come in pieces; the disk is as quick as ever.
    while rests < 3 {
        let moved = link.push(piece).len();
        node.run(random)?;
        for which in [Which::Log, Which::Journal] {
            node.commit(which);
            node.keep(which);
        }
        node.run(random)?;
        let came = link.pull(64 << 10);
        heard += came;
        rests = if moved + came == 0 { rests + 1 } else { 0 };
        check_words(&mut link.incoming)?;
        if heard > OUTPUT_BYTES {
            return Err(format!("{heard} bytes were said to one connection"));
        }
    }
    drop(link);
    // Farewells take a second each.
    for _ in 0..5 {
        node.turn(random).await?;
    }
    for _ in 0..40 {
        if node.tasks() <= before.0 {
            break;
        }
        node.turn(random).await?;
    }
    if node.tasks() > before.0 {
        return Err("a connection does not end".to_owned());
    }
    let grown = node.log_bytes() - before.1;
    // Each message takes two bytes at least, and names a topic that came in the case.
    let most = (case.len() as u64 / 2 + 2) * (case.len() as u64 + 256);
    if grown > most {
        return Err(format!(
            "the log grew by {grown} bytes, the bound is {most}"
        ));
    }
    node.failure().map_or(Ok(()), Err)
}

/// What the broker says is made of packets.
fn check_words(incoming: &mut Vec<u8>) -> Result<(), String> {
    let mut at = 0;
    loop {
        match split(&incoming[at..], 1 << 20) {
            Ok(Split::Frame(frame)) => at += frame.size,
            Ok(Split::Incomplete(_)) => break,
            Err(violation) => return Err(format!("the broker sent nonsense: {violation:?}")),
        }
    }
    incoming.drain(..at);
    Ok(())
}

fn check_well(node: &mut Node, well: &mut Link, random: &mut Random) -> Result<(), String> {
    well.say(&PING);
    well.push(usize::MAX);
    node.run(random)?;
    well.pull(4_096);
    let answer = std::mem::take(&mut well.incoming);
    if answer == PONG {
        return Ok(());
    }
    Err(format!("another client was told {answer:?}"))
}

/// Packets that are right, in all versions, to begin with.
pub fn samples() -> Vec<Vec<u8>> {
    let raw = |first: u8, body: &[&[u8]]| wire::packet(first, &body.concat());
    let id: &[u8] = &NonZeroU16::MIN.get().to_be_bytes();
    let mut samples = vec![
        wire::connect(Version::V311, "fuzz", 0),
        wire::connect(Version::V5, "fuzz", 60),
        // With will, user name and password.
        raw(0x10, &[b"\0\x04MQTT\x04\xce\0\x3c\0\x04fuzz\0\x01w\0\x01x\0\x01u\0\x01p"]),
        raw(0x10, &[b"\0\x04MQTT\x05\xce\0\x3c\x05\x11\0\0\0\x09\0\x04fuzz\x05\x18\0\0\0\x01\0\x01w\0\x01x\0\x01u\0\x01p"]),
        // QoS 0, 1, 2 and retained.
        raw(0x30, &[b"\0\x03a/b", b"payload"]),
        raw(0x33, &[b"\0\x03a/b", id, b"payload"]),
        raw(0x34, &[b"\0\x03a/b", id, b""]),
        // User property, expiry, alias made and used, correlation data.
        raw(0x32, &[b"\0\x03a/b", id, b"\x0c\x26\0\x01k\0\x01v\x02\0\0\0\x05", b"payload"]),
        raw(0x30, &[b"\0\x03a/b", b"\x03\x23\0\x01", b"x"]),
        raw(0x30, &[b"\0\0", b"\x03\x23\0\x01", b"x"]),
        raw(0x34, &[b"\0\x01a", id, b"\x09\x08\0\x01r\x09\0\x02cd\x01\x01", b"x"]),
        // SUBSCRIBE and UNSUBSCRIBE.
        raw(0x82, &[id, b"\0\x05a/+/#\x02"]),
        raw(0x82, &[id, b"\0\x0a$share/g/a\x01\0\x01#\0"]),
        raw(0x82, &[id, b"\x02\x0b\x07\0\x03a/#\x2d"]),
        raw(0xa2, &[id, b"\0\x05a/+/#"]),
        raw(0xa2, &[id, b"\0\0\x05a/+/#"]),
        // Answers, PINGREQ, DISCONNECT, AUTH.
        raw(0xe0, &[b"\x04\x05\x11\0\0\0\x09"]),
        raw(0xf0, &[b"\x18\0"]),
        PING.to_vec(),
        vec![0xe0, 0],
    ];
    for first in [0x40, 0x50, 0x62, 0x70] {
        samples.push(raw(first, &[id]));
        samples.push(raw(first, &[id, b"\x10\0"]));
    }
    samples
}

#[cfg(test)]
mod tests;
