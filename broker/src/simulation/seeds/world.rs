//! Everything of one seed: the disk, the broker on it, clients and network, and what goes wrong with them.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use ingest_log::sim::{Crash, Random, SimDisk};
use service::{Clock, HumanDuration, ManualClock};

use super::client::{Client, Role};
use super::consumer::{self, Consumer};
use super::judge;
use super::message::{Kind, PUBLISHERS};
use super::mortal::Mortal;
use super::publisher::Publisher;
use super::{Sabotage, Tally};
use crate::Settings;
use crate::protocol::Version;
use crate::simulation::link::Link;
use crate::simulation::node::{Node, Which};
use crate::simulation::wire::{self, NEVER, Packet};

/// Rounds in which all must come to its end once nothing goes wrong any more.
const MOST_ROUNDS: usize = 4_000;
/// The client that subscribes and unsubscribes.
pub(super) const FICKLE: &str = "fickle";
/// The client that begins new sessions to get what is retained.
pub(super) const KEEPS: &str = "keeps";
/// Longer than any will waits.
const WILLS_MS: u64 = 2_500;
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
            1_981..1_987 => self.change_mind(),
            1_987..1_990 => self.begin_anew(),
            1_990..1_996 => self.die(who),
            _ => self.swap_pipe(),
        }
        Ok(())
    }

    /// Returns the first client from `who` on, in the circle, that is as wanted, or `who`.
    pub(super) fn next(&self, who: usize, wanted: impl Fn(&Client) -> bool) -> usize {
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

    /// Tells whether the session of a client keeps the log from going on.
    pub(super) fn holds_log(&self, client_id: &str) -> bool {
        self.node.as_ref().is_some_and(|node| node.pins(client_id))
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
            let (qos, kind) = match self.random.below(6) {
                0 if client.expiry > 0 => (2 - u8::from(who == 0), Kind::Retained),
                0 => (1, Kind::Retained),
                1 if client.version == Version::V5 => (1, Kind::Fleeting),
                _ => (qos, Kind::Plain),
            };
            client.publish(qos, kind, self.now_ms);
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
        let mut was_told = false;
        while let Some(link) = &mut self.clients[who].link
            && let Some(packet) = wire::take(version, &mut link.incoming)?
        {
            self.note(format!("{packet:?}"));
            if self.says {
                println!("{now_ms} ms: {} < {packet:?}", self.clients[who].name);
            }
            if let Packet::Connack {
                present, reason: 0, ..
            } = packet
            {
                self.judge_presence(who, present)?;
            }
            let client = &mut self.clients[who];
            let mut taken = client.take(&packet, last, now_ms);
            match &packet {
                Packet::Connack { reason: 0, .. } => client.accepted_ms = client.asked_ms,
                Packet::Publish(message) => {
                    taken = taken.and_then(|()| judge::expiry(self, &self.clients[who], message));
                }
                Packet::Disconnect => was_told = true,
                _ => {}
            }
            taken.map_err(|violation| format!("{}: {violation}", self.clients[who].name))?;
        }
        let link = self.clients[who].link.as_ref();
        if link.is_some_and(|link| link.ended) {
            let is_well = self
                .node
                .as_ref()
                .is_some_and(|node| node.failure().is_none());
            if is_well && !was_told && !self.disk.is_off() {
                self.clients[who].closed();
            }
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
            clean,
            ..
        } = &self.clients[who];
        let lasts_ms = u64::from(*expiry) * 1_000;
        let must = *known && !*clean && (*expiry == NEVER || self.now_ms < accepted_ms + lasts_ms);
        let haunted = self.ghosts.iter().any(|(whose, _)| *whose == who);
        // A second for the broker to notice that the client is gone.
        let since_ms = self.started_ms.max(*left_ms);
        let may = !haunted && *asked_ms > since_ms + lasts_ms + 1_000;
        if (*expiry == 0 || *clean) && present || *expiry > 0 && must && !present {
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
                // Who does not come back has its will published.
                if self.clients[who].mortal().is_none() {
                    self.connect(who);
                }
                self.push(who);
                self.run()?;
                self.pull(who)?;
                while self.clients[who].has_answers() {
                    self.clients[who].answer();
                }
            }
            self.turn()?;
            self.advance(if round == 0 { WILLS_MS } else { 5 }).await?;
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
        judge::void(self)?;
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
            let role = Role::Publisher(Publisher::new(index));
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
    consumer("once", NEVER, consumer::ALL, 2);
    consumer("least", NEVER, consumer::ALL, 1);
    consumer("some", NEVER, consumer::PLAIN, 1);
    consumer("short", 3, consumer::ALL, 1);
    consumer("m0", NEVER, "$share/g/t/#", 1);
    consumer("m1", NEVER, "$share/g/t/#", 1);
    consumer("m2", 0, "$share/g/t/#", 1);
    consumer("e0", NEVER, "$share/e/t/#", 2);
    consumer("e1", NEVER, "$share/e/t/#", 2);
    consumer(FICKLE, NEVER, consumer::PLAIN, 1);
    consumer("fleeting", NEVER, consumer::FLEETING, 1);
    consumer("wills", NEVER, consumer::WILLS, 1);
    let role = Role::Consumer(Consumer::new(consumer::RETAINED, 2));
    clients.push(Client::new(KEEPS, Version::V5, NEVER, role));
    let wills = [
        (Version::V311, 0, 0),
        (Version::V5, NEVER, 0),
        (Version::V5, NEVER, 2),
    ];
    for (index, (version, expiry, delay)) in wills.into_iter().enumerate() {
        let role = Role::Mortal(Mortal::new(index, delay));
        clients.push(Client::new(&format!("n{index}"), version, expiry, role));
    }
    for client in &mut clients {
        client.pace = [1, 1, 1, 4, 30][random.below(5)];
    }
    clients
}
