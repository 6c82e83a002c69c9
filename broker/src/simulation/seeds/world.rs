//! Everything of one seed: the disk, the broker on it, clients and network, and what goes wrong with them.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use ingest_log::sim::{Crash, Random, SimDisk};
use service::{Clock, HumanDuration, ManualClock};

use super::client::{Client, Consumer, PUBLISHERS, Publisher, Role};
use super::judge;
use super::{Sabotage, Tally};
use crate::Settings;
use crate::protocol::Version;
use crate::simulation::link::Link;
use crate::simulation::node::{Node, Which};
use crate::simulation::wire::{self, NEVER, Packet};

/// Rounds in which all must come to its end once nothing goes wrong any more.
const MOST_ROUNDS: usize = 4_000;
/// Rounds after that, in which nothing may come twice.
const MORE_ROUNDS: usize = 20;

pub(super) struct World {
    pub(super) random: Random,
    pub(super) disk: SimDisk,
    pub(super) node: Option<Node>,
    pub(super) clients: Vec<Client>,
    /// Connections their clients have given up and the broker has not: what is on its way still comes.
    pub(super) ghosts: Vec<(usize, Link)>,
    pub(super) settings: Settings,
    pub(super) clock: Arc<ManualClock>,
    pub(super) now_ms: u64,
    pub(super) started_ms: u64,
    /// Bytes that a connection takes each way.
    pub(super) pipe_bytes: usize,
    pub(super) trace: DefaultHasher,
    /// Whether what happens is printed.
    pub(super) says: bool,
    pub(super) tally: Tally,
}

impl World {
    pub(super) fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut random = Random::new(seed);
        let disk = SimDisk::new(random.bits());
        disk.ignore_syncs(sabotage == Sabotage::IgnoreSyncs);
        let settings = Settings {
            mqtt_window: Some(1 + random.below(8)),
            mqtt_stall_timeout: Some(HumanDuration::from_secs(5)),
            unsafe_ack_before_commit: Some(sabotage == Sabotage::AckBeforeCommit),
            ..Settings::default()
        };
        Self {
            disk,
            node: None,
            clients: clients(&mut random),
            ghosts: Vec::new(),
            settings,
            clock: Arc::default(),
            now_ms: 1,
            started_ms: 0,
            pipe_bytes: 48 << random.below(6),
            trace: DefaultHasher::new(),
            says: std::env::var_os("LASTMILE_SIM_TRACE").is_some(),
            tally: Tally::default(),
            random,
        }
    }

    pub(super) fn note(&mut self, what: impl Hash) {
        what.hash(&mut self.trace);
    }

    /// Returns the hash of all that happened.
    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    pub(super) fn publishers(&self) -> impl Iterator<Item = &Publisher> {
        self.clients.iter().filter_map(Client::publisher)
    }

    /// Returns the highest number of each publisher.
    fn last(&self) -> [u64; PUBLISHERS] {
        let mut last = [0; PUBLISHERS];
        for publisher in self.publishers() {
            last[publisher.index] = publisher.last;
        }
        last
    }

    /// Lets things happen, and go wrong.
    pub(super) async fn live(&mut self, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            self.step().await?;
            self.run()?;
            self.look()?;
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), String> {
        let draw = self.random.below(2_000);
        let who = self.random.below(self.clients.len());
        self.note((draw, who));
        if self.says {
            println!("{} ms: draw {draw} for {who}", self.now_ms);
        }
        if self.node.is_none() {
            if self.random.coin() {
                return self.open();
            }
            self.advance(1 + draw as u64 % 400).await?;
            return Ok(());
        }
        match draw {
            0..140 => self.connect(self.next(who, |client| client.link.is_none())),
            140..480 => self.publish(),
            480..860 => self.push(self.next(who, |client| client.link.is_some())),
            860..1_240 => self.pull_at_its_pace(who)?,
            1_240..1_440 => self.clients[who].answer(),
            1_440..1_450 => self.part(self.next(who, |client| client.link.is_some())),
            1_450..1_470 => self.stir_ghost(),
            1_470..1_630 => self.commit(Which::Log),
            1_630..1_790 => self.commit(Which::Journal),
            1_790..1_880 => self.keep(),
            1_880..1_960 => self.advance(1 + self.now_ms % 30).await?,
            1_960..1_966 => self.advance(500 + self.now_ms % 4_000).await?,
            1_966..1_970 => self.break_disk(),
            1_970..1_975 => self.crash(),
            1_975..1_977 => self.stop().await?,
            1_977..1_981 => judge::visit(self).await?,
            _ => self.swap_pipe(),
        }
        Ok(())
    }

    /// Returns the first client from `who` on, in the circle, that is as wanted, or `who`.
    fn next(&self, who: usize, wanted: impl Fn(&Client) -> bool) -> usize {
        let count = self.clients.len();
        let mut circle = (who..who + count).map(|at| at % count);
        circle.find(|at| wanted(&self.clients[*at])).unwrap_or(who)
    }

    fn pull_at_its_pace(&mut self, who: usize) -> Result<(), String> {
        let who = self.next(who, |client| client.link.is_some());
        if self.random.below(self.clients[who].pace) > 0 {
            return Ok(());
        }
        self.pull(who)
    }

    /// Polls the broker until it rests.
    fn run(&mut self) -> Result<(), String> {
        match &mut self.node {
            Some(node) => node.run(&mut self.random),
            None => Ok(()),
        }
    }

    /// Ends the broker's life where the machine is off, or the process would have ended by itself.
    fn look(&mut self) -> Result<(), String> {
        let Some(node) = &self.node else {
            return Ok(());
        };
        let end = node.end();
        if self.disk.is_off() {
            self.crash();
        } else if let Some(reason) = node.failure() {
            if self.tally.disk_failures == 0 {
                return Err(format!("the broker failed by itself: {reason}"));
            }
            // Some last words may still be on their way.
            if self.random.below(3) == 0 {
                self.crash();
            }
        }
        self.note(end);
        Ok(())
    }

    pub(super) fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// Starts the broker.
    pub(super) fn open(&mut self) -> Result<(), String> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        match Node::open(&self.disk, &clock, &self.settings) {
            Ok(node) => {
                self.node = Some(node);
                self.started_ms = self.now_ms;
                self.tally.lives += 1;
            }
            Err(_) if self.disk.is_off() => {
                self.tally.crashes += 1;
                self.tally.crashes_while_opening += 1;
                self.disk = self.disk.reboot(Crash::Power);
            }
            Err(error) => return Err(format!("does not open: {error}")),
        }
        Ok(())
    }

    /// Notes that time has passed.
    pub(super) fn skip(&mut self, ms: u64) {
        self.now_ms += ms;
        self.clock
            .advance_micros(i64::try_from(ms * 1_000).unwrap_or(i64::MAX));
    }

    /// Lets time pass. When it is long, the log's threads get their turns.
    pub(super) async fn advance(&mut self, ms: u64) -> Result<(), String> {
        let mut left = ms;
        while left > 0 {
            let step = left.min(200);
            left -= step;
            self.skip(step);
            tokio::time::advance(Duration::from_millis(step)).await;
            self.run()?;
            if ms > 200 {
                self.turn()?;
            }
        }
        Ok(())
    }

    /// Lets all that waits for the disk happen.
    pub(super) fn turn(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            self.commit(Which::Journal);
            self.commit(Which::Log);
            self.keep();
            self.run()?;
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, which: Which) {
        if let Some(node) = &mut self.node {
            node.commit(which);
        }
    }

    fn keep(&mut self) {
        if let Some(node) = &mut self.node {
            node.keep(Which::Log);
            node.keep(Which::Journal);
        }
    }

    pub(super) fn new_link(&mut self) -> Option<Link> {
        let bytes = self.pipe_bytes;
        self.node.as_mut().map(|node| Link::new(node.accept(bytes)))
    }

    pub(super) fn connect(&mut self, who: usize) {
        if self.clients[who].link.is_some() {
            return;
        }
        if let Some(link) = self.new_link() {
            let now_ms = self.now_ms;
            self.clients[who].connect(link, now_ms);
        }
    }

    fn publish(&mut self) {
        let who = self.random.below(PUBLISHERS);
        let who = (0..PUBLISHERS)
            .map(|at| (who + at) % PUBLISHERS)
            .find(|at| self.clients[*at].connected)
            .unwrap_or(who);
        let client = &mut self.clients[who];
        let has_room = client.publisher().is_some_and(Publisher::has_room);
        // Who is not connected may have something to say all the same, later.
        if client.connected && has_room {
            let qos = if client.expiry > 0 && self.random.below(3) > 0 {
                2
            } else {
                1
            };
            // MQTT keeps the order of a topic for one QoS at a time, so what is retained has the same always.
            match self.random.below(5) {
                0 if client.expiry > 0 => client.publish(2 - u8::from(who == 0), true),
                0 => client.publish(1, true),
                _ => client.publish(qos, false),
            }
        }
    }

    pub(super) fn push(&mut self, who: usize) {
        let most = 1 + self.random.below(400);
        if let Some(link) = &mut self.clients[who].link {
            let moved = link.push(most);
            self.note(moved);
        }
    }

    /// Brings bytes from the broker, and lets the client look at them.
    pub(super) fn pull(&mut self, who: usize) -> Result<(), String> {
        let (last, now_ms) = (self.last(), self.now_ms);
        let most = 1 + self.random.below(400);
        let client = &mut self.clients[who];
        let Some(link) = &mut client.link else {
            return Ok(());
        };
        link.pull(most);
        let version = self.clients[who].version;
        while let Some(link) = &mut self.clients[who].link
            && let Some(packet) = wire::take(version, &mut link.incoming)?
        {
            self.note(format!("{packet:?}"));
            if self.says {
                println!("{now_ms} ms: {} < {packet:?}", self.clients[who].name);
            }
            if let Packet::Connack { present, reason: 0 } = packet {
                self.judge_presence(who, present)?;
            }
            let client = &mut self.clients[who];
            let taken = client.take(&packet, last);
            if matches!(packet, Packet::Connack { reason: 0, .. }) {
                client.accepted_ms = client.asked_ms;
            }
            taken.map_err(|violation| format!("{}: {violation}", self.clients[who].name))?;
        }
        if self.clients[who]
            .link
            .as_ref()
            .is_some_and(|link| link.ended)
        {
            self.clients[who].leave(now_ms);
        }
        Ok(())
    }

    /// A session is there as long as it was to be, and no longer.
    fn judge_presence(&self, who: usize, present: bool) -> Result<(), String> {
        let Client {
            name,
            expiry,
            known,
            accepted_ms,
            left_ms,
            asked_ms,
            ..
        } = &self.clients[who];
        let lasts_ms = u64::from(*expiry) * 1_000;
        let must = *known && (*expiry == NEVER || self.now_ms < accepted_ms + lasts_ms);
        let haunted = self.ghosts.iter().any(|(whose, _)| *whose == who);
        // A second for the broker to notice that the client is gone.
        let since_ms = self.started_ms.max(*left_ms);
        let may = !haunted && *asked_ms > since_ms + lasts_ms + 1_000;
        if *expiry == 0 && present || *expiry > 0 && must && !present {
            return Err(format!("{name}: present {present}, expiry {expiry}"));
        }
        if *known && *expiry != NEVER && may && present {
            return Err(format!("{name}: a session came back after its expiry"));
        }
        Ok(())
    }

    /// Brings all to its end, with nothing going wrong any more, and judges.
    pub(super) async fn finish(&mut self) -> Result<(), String> {
        self.crash();
        self.ghosts.clear();
        self.disk = self.disk.reboot(Crash::Process);
        self.open()?;
        let mut done = None;
        for round in 0..MOST_ROUNDS {
            for who in 0..self.clients.len() {
                self.connect(who);
                self.push(who);
                self.run()?;
                self.pull(who)?;
                while self.clients[who].has_answers() {
                    self.clients[who].answer();
                }
            }
            self.turn()?;
            self.advance(5).await?;
            if let Some(reason) = self.node.as_ref().and_then(Node::failure) {
                return Err(format!("the broker failed by itself: {reason}"));
            }
            if done.is_none() && judge::lacks(self).is_none() {
                done = Some(round);
            }
            if done.is_some_and(|done| round > done + MORE_ROUNDS) {
                break;
            }
        }
        if let Some(lacks) = judge::lacks(self) {
            return Err(lacks);
        }
        judge::once(self)?;
        judge::visit(self).await?;
        self.tally.messages += self.last().iter().sum::<u64>();
        let (end, ms) = (self.node.as_ref().map(Node::end), self.now_ms);
        self.note((end, ms));
        Ok(())
    }
}

/// The clients of a world, the publishers first.
fn clients(random: &mut Random) -> Vec<Client> {
    let version = |random: &mut Random| {
        if random.coin() {
            Version::V311
        } else {
            Version::V5
        }
    };
    let mut clients: Vec<Client> = (0..PUBLISHERS)
        .map(|index| {
            // The last one keeps nothing and publishes with QoS 1 only.
            let expiry = if index + 1 < PUBLISHERS { NEVER } else { 0 };
            let role = Role::Publisher(Publisher {
                index,
                ..Publisher::default()
            });
            Client::new(&format!("p{index}"), version(random), expiry, role)
        })
        .collect();
    let mut consumer = |name: &str, expiry, filter: &str, qos| {
        let role = Role::Consumer(Consumer::new(filter, qos));
        // Only MQTT 5 knows of an expiry.
        let version = if [0, NEVER].contains(&expiry) {
            version(random)
        } else {
            Version::V5
        };
        clients.push(Client::new(name, version, expiry, role));
    };
    consumer("once", NEVER, "t/#", 2);
    consumer("least", NEVER, "t/#", 1);
    consumer("some", NEVER, "t/+", 1);
    consumer("short", 3, "t/#", 1);
    consumer("m0", NEVER, "$share/g/t/#", 1);
    consumer("m1", NEVER, "$share/g/t/#", 1);
    consumer("m2", 0, "$share/g/t/#", 1);
    consumer("e0", NEVER, "$share/e/t/#", 2);
    consumer("e1", NEVER, "$share/e/t/#", 2);
    for client in &mut clients {
        client.pace = [1, 1, 1, 4, 30][random.below(5)];
    }
    clients
}
