//! Who is far behind takes turns with those who are not: what goes to it while others have something to do is bounded.

use std::sync::Arc;
use std::time::Duration;

use ingest_log::sim::{Random, SimDisk};
use ingest_log::{RecordBatch, RecordHead};
use service::{Clock, ManualClock};

use super::link::Link;
use super::node::{Node, Which};
use super::wire::{self, Message, NEVER, Packet};
use crate::Settings;
use crate::protocol::Version;
use crate::sabotage::{Step, without};

/// Records that were missed, of [`RECORD_BYTES`] each: more than what still counts as near, several times over.
const BACKLOG: usize = 40_000;
const RECORD_BYTES: usize = 40;
/// Records behind the end from which on nobody is held back any more.
const NEAR: usize = 10_000;
/// Records of one turn at most: those of a chunk of 16 KiB.
const TURN: usize = (16 << 10) / RECORD_BYTES;
/// Bytes a connection takes each way: the whole backlog, so that nothing but its turns holds a consumer back.
const PIPE_BYTES: usize = BACKLOG * RECORD_BYTES * 2;

struct World {
    node: Node,
    random: Random,
}

impl World {
    fn connect(&mut self, name: &str) -> Link {
        let mut link = Link::new(self.node.accept(PIPE_BYTES));
        link.say(&wire::connect(Version::V311, name, NEVER));
        link
    }

    /// Lets the broker do what it can without rest, and the disk what is due; returns what comes to `link`.
    fn hear(&mut self, link: &mut Link) -> Result<Vec<Packet>, String> {
        link.push(usize::MAX);
        self.node.run(&mut self.random)?;
        for which in [Which::Journal, Which::Log] {
            self.node.commit(which);
            self.node.keep(which);
        }
        self.node.run(&mut self.random)?;
        while link.pull(PIPE_BYTES) > 0 {}
        let mut packets = Vec::new();
        while let Some(packet) = wire::take(Version::V311, &mut link.incoming)? {
            packets.push(packet);
        }
        Ok(packets)
    }

    /// As [`World::hear`], until something comes.
    async fn wait(&mut self, link: &mut Link) -> Result<Vec<Packet>, String> {
        for _ in 0..1000 {
            let packets = self.hear(link)?;
            if !packets.is_empty() {
                return Ok(packets);
            }
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        Err("nothing comes".to_owned())
    }

    fn append_backlog(&mut self) -> Result<(), String> {
        let head = RecordHead {
            qos: 0,
            retain: false,
            received_us: 0,
            topic: "bulk",
            client_id: "",
            properties: &[],
        };
        for _ in 0..BACKLOG / 100 {
            let mut batch = RecordBatch::new();
            for _ in 0..100 {
                let pushed = batch.push(&head, &[b'x'; RECORD_BYTES]);
                pushed.map_err(|error| error.to_string())?;
            }
            self.node.append(batch, &mut self.random)?;
        }
        Ok(())
    }
}

fn messages(packets: &[Packet]) -> usize {
    let is_message = |packet: &&Packet| matches!(packet, Packet::Publish(_));
    packets.iter().filter(is_message).count()
}

/// Returns how many live messages came while the backlog went, and how much of that went at once at most.
async fn catch_up() -> Result<(u16, usize), String> {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::default();
    let node = Node::open(&SimDisk::new(1), &clock, &Settings::default())?;
    let random = Random::new(1);
    let mut world = World { node, random };
    let mut late = world.connect("late");
    world.wait(&mut late).await?;
    late.say(&wire::subscribe(Version::V311, "bulk", 0));
    world.wait(&mut late).await?;
    late.say(&wire::DISCONNECT);
    world.hear(&mut late)?;
    drop(late);
    world.append_backlog()?;
    let mut live = world.connect("live");
    world.wait(&mut live).await?;
    live.say(&wire::subscribe(Version::V311, "live", 1));
    world.wait(&mut live).await?;
    let mut late = world.connect("late");
    let (mut came, mut went, mut most) = (0_u16, 0, 0);
    while went < BACKLOG {
        if came == u16::MAX {
            return Err(format!("only {went} records came"));
        }
        let message = Message {
            qos: 1,
            id: came % 1000 + 1,
            topic: "live".to_owned(),
            payload: b"now".to_vec(),
            ..Message::default()
        };
        // Its own acknowledgement, and itself.
        live.say(&wire::publish(Version::V311, &message));
        late.push(usize::MAX);
        let mut heard = Vec::new();
        while messages(&heard) == 0 {
            heard.extend(world.wait(&mut live).await?);
        }
        for packet in &heard {
            if let Packet::Publish(message) = packet {
                live.say(&wire::ack(wire::PUBACK, message.id));
            }
        }
        came += 1;
        // Who let others go first is woken here.
        tokio::task::yield_now().await;
        let at_once = messages(&world.hear(&mut late)?);
        if went < BACKLOG - NEAR {
            most = most.max(at_once);
        }
        went += at_once;
    }
    Ok((came, most))
}

fn run(omitted: Option<Step>) -> Result<(u16, usize), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    without(omitted, || {
        runtime.block_on(tokio::task::coop::unconstrained(catch_up()))
    })
}

#[test]
fn live_messages_do_not_wait_for_who_catches_up() {
    let (came, most) = run(None).unwrap();
    println!("{came} live messages came; {most} records at most went between two");
    assert!(most <= TURN, "{most} went at once");
    assert!(usize::from(came) >= (BACKLOG - NEAR) / TURN, "only {came}");
}

#[test]
fn without_turns_they_would_wait() {
    let (came, most) = run(Some(Step::ReplayTurn)).unwrap();
    println!("{came} live messages came; {most} records at most went between two");
    assert!(most > BACKLOG / 2, "{most} went at once");
}
