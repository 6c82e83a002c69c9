//! The clients: what MQTT asks them to keep, and what is counted of what they get.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::protocol::Version;
use crate::simulation::link::Link;
use crate::simulation::wire::{self, Message, NEVER, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet};

/// Publishers of a world.
pub(super) const PUBLISHERS: usize = 3;
/// What matches the topics of retained messages only.
pub(super) const RETAINED: &str = "t/+/r";
/// Messages a publisher has open at most.
const OPEN: usize = 6;

/// A client, connected or not.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) version: Version,
    /// Seconds the session outlives a connection; 0: none.
    pub(super) expiry: u32,
    pub(super) role: Role,
    pub(super) link: Option<Link>,
    /// Whether the broker has said yes on this connection.
    pub(super) connected: bool,
    /// Whether the broker once kept a session for it.
    pub(super) known: bool,
    /// Whether a connection ended before the broker said yes or no: the session may be another one by then.
    unsure: bool,
    /// When it asked for the connection that was accepted last: its session lived on from then at least.
    pub(super) accepted_ms: u64,
    /// When the last connection was given up, in milliseconds as all here.
    pub(super) left_ms: u64,
    /// When it asked to be connected.
    pub(super) asked_ms: u64,
    /// One in so many of its turns it reads.
    pub(super) pace: usize,
    /// Answers that are not sent yet.
    answers: VecDeque<Answer>,
}

pub(super) enum Role {
    Publisher(Publisher),
    Consumer(Consumer),
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    first: u8,
    id: u16,
    /// What counts as processed when this has left.
    processed: Option<(usize, u64)>,
}

/// Sends numbers.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    pub(super) index: usize,
    /// Highest number so far; they begin with 1.
    pub(super) last: u64,
    /// Highest number of each that is retained and acknowledged.
    pub(super) retained: u64,
    pub(super) open: VecDeque<Open>,
    pub(super) acknowledged: BTreeSet<u64>,
    /// Numbers of messages with QoS 2.
    pub(super) exact: BTreeSet<u64>,
    /// Numbers of messages with the retain flag; they have a topic of their own.
    pub(super) to_retain: BTreeSet<u64>,
    pub(super) next_id: u16,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) number: u64,
    id: u16,
    qos: u8,
    retain: bool,
    received: bool,
}

/// Receives numbers.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) filter: String,
    pub(super) qos: u8,
    /// Members of a group are judged together.
    pub(super) shared: bool,
    /// Whether what was retained counts.
    pub(super) wants_retained: bool,
    /// The highest number of each publisher when the subscription was there; `None` before.
    pub(super) since: Option<[u64; PUBLISHERS]>,
    /// The same of the first subscription of all; the group of a member is there from then on.
    pub(super) began: Option<[u64; PUBLISHERS]>,
    /// How often each message was given to the application.
    pub(super) given: BTreeMap<(usize, u64), u32>,
    /// What was acknowledged by this client, the answer on its way.
    pub(super) processed: BTreeSet<(usize, u64)>,
    highest: [u64; PUBLISHERS],
    /// Ids of messages with QoS 2 whose PUBREL has not come.
    held: BTreeSet<u16>,
}

impl Consumer {
    pub(super) fn new(filter: &str, qos: u8) -> Self {
        Self {
            filter: filter.to_owned(),
            qos,
            shared: filter.starts_with("$share/"),
            wants_retained: filter == RETAINED,
            since: None,
            began: None,
            given: BTreeMap::new(),
            processed: BTreeSet::new(),
            highest: [0; PUBLISHERS],
            held: BTreeSet::new(),
        }
    }

    /// All begins anew: the broker's session ended.
    fn forget(&mut self) {
        let mut new = Self::new(&self.filter, self.qos);
        if self.shared {
            new.began = self.began;
            new.processed = std::mem::take(&mut self.processed);
        }
        *self = new;
    }

    /// Takes a message; tells the application what is new to it.
    fn give(&mut self, message: &Message) -> Result<Answer, String> {
        let key = number_of(&message.payload)?;
        let is_new = message.qos < 2 || self.held.insert(message.id);
        // What was retained comes out of order, and besides.
        let counts = !message.retain || self.wants_retained;
        if is_new && counts {
            let count = self.given.entry(key).or_default();
            *count += 1;
            let (publisher, number) = key;
            // What was published before the subscription may be published again behind it.
            let is_owed = self.since.is_some_and(|since| number > since[publisher]);
            if *count == 1 && is_owed && !self.shared {
                if number <= self.highest[publisher] {
                    return Err(format!(
                        "{number} of publisher {publisher} came after {}",
                        self.highest[publisher]
                    ));
                }
                self.highest[publisher] = number;
            }
        }
        if message.qos == 2 && counts {
            self.processed.insert(key);
        }
        Ok(Answer {
            first: if message.qos == 2 { PUBREC } else { PUBACK },
            id: message.id,
            processed: (message.qos == 1 && counts).then_some(key),
        })
    }
}

/// Reads whose message this is, and its number.
fn number_of(payload: &[u8]) -> Result<(usize, u64), String> {
    let (publisher, rest) = payload.split_first().ok_or("a message without payload")?;
    let number = rest.first_chunk().ok_or("a short payload")?;
    let (publisher, number) = (usize::from(*publisher), u64::from_le_bytes(*number));
    if publisher >= PUBLISHERS || payload != payload_of(publisher, number) {
        return Err(format!("a payload that nobody sent: {payload:?}"));
    }
    Ok((publisher, number))
}

/// A payload of a length that follows from the number: short ones and some that fill a connection.
fn payload_of(publisher: usize, number: u64) -> Vec<u8> {
    let mut payload = vec![u8::try_from(publisher).expect("there are few")];
    payload.extend_from_slice(&number.to_le_bytes());
    let long = number.is_multiple_of(7);
    payload.resize(if long { 180 } else { 9 }, 0);
    payload
}

impl Publisher {
    pub(super) fn topic(&self, retain: bool) -> String {
        let end = if retain { "/r" } else { "" };
        format!("t/{}{end}", self.index)
    }

    fn message(&self, open: &Open) -> Message {
        Message {
            qos: open.qos,
            retain: open.retain,
            id: open.id,
            payload: payload_of(self.index, open.number),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.open.len() < OPEN
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % 9 + 1;
            if self.open.iter().all(|open| open.id != self.next_id) {
                return self.next_id;
            }
        }
    }

    fn on_ack(&mut self, first: u8, id: u16) -> Result<Option<Answer>, String> {
        let place = self.open.iter().position(|open| open.id == id);
        let found = place.and_then(|place| self.open.get_mut(place));
        let (Some(place), Some(open)) = (place, found) else {
            // A PUBCOMP for a PUBREL that was sent again may come twice.
            return if first == PUBCOMP {
                Ok(None)
            } else {
                Err(format!(
                    "an answer {first:#x} to the id {id}, which is free"
                ))
            };
        };
        let (number, retain) = (open.number, open.retain);
        match (first, open.qos) {
            (PUBACK, 1) => drop(self.open.remove(place)),
            (PUBREC, 2) => open.received = true,
            (PUBCOMP, 2) if open.received => {
                self.open.remove(place);
                return Ok(None);
            }
            _ => return Err(format!("an answer {first:#x} to the wrong message")),
        }
        let before = self.open.iter().take(place);
        if first == PUBACK && before.clone().any(|open| open.qos == 1) {
            return Err("a PUBACK before that of an earlier message".to_owned());
        }
        self.acknowledged.insert(number);
        if retain {
            self.retained = self.retained.max(number);
        }
        Ok((first == PUBREC).then_some(Answer {
            first: PUBREL,
            id,
            processed: None,
        }))
    }
}

impl Client {
    pub(super) fn new(name: &str, version: Version, expiry: u32, role: Role) -> Self {
        Self {
            name: name.to_owned(),
            version,
            expiry,
            role,
            link: None,
            connected: false,
            known: false,
            unsure: false,
            accepted_ms: 0,
            left_ms: 0,
            asked_ms: 0,
            pace: 1,
            answers: VecDeque::new(),
        }
    }

    pub(super) fn consumer(&self) -> Option<&Consumer> {
        match &self.role {
            Role::Consumer(consumer) => Some(consumer),
            Role::Publisher(_) => None,
        }
    }

    pub(super) fn publisher(&self) -> Option<&Publisher> {
        match &self.role {
            Role::Publisher(publisher) => Some(publisher),
            Role::Consumer(_) => None,
        }
    }

    /// Begins a connection.
    pub(super) fn connect(&mut self, mut link: Link, now_ms: u64) {
        link.say(&wire::connect(self.version, &self.name, self.expiry));
        self.link = Some(link);
        self.asked_ms = now_ms;
    }

    /// Gives the connection up; what was to be said on it is void.
    pub(super) fn leave(&mut self, now_ms: u64) -> Option<Link> {
        self.unsure |= !self.connected;
        self.connected = false;
        self.answers.clear();
        self.left_ms = now_ms;
        self.link.take()
    }

    /// Publishes a message.
    pub(super) fn publish(&mut self, qos: u8, retain: bool) {
        let version = self.version;
        let (Role::Publisher(publisher), Some(link)) = (&mut self.role, &mut self.link) else {
            return;
        };
        publisher.last += 1;
        let open = Open {
            number: publisher.last,
            id: publisher.free_id(),
            qos,
            retain,
            received: false,
        };
        if qos == 2 {
            publisher.exact.insert(open.number);
        }
        if retain {
            publisher.to_retain.insert(open.number);
        }
        publisher.open.push_back(open);
        let (topic, message) = (publisher.topic(retain), publisher.message(&open));
        link.say(&wire::publish(version, &topic, false, &message));
    }

    /// Sends the oldest answer that is not sent yet.
    pub(super) fn answer(&mut self) {
        let Some(link) = &mut self.link else {
            return;
        };
        if let Some(answer) = self.answers.pop_front() {
            link.say(&wire::ack(answer.first, answer.id));
            if let Role::Consumer(consumer) = &mut self.role {
                consumer.processed.extend(answer.processed);
            }
        }
    }

    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Takes a packet; `last` are the highest numbers published.
    pub(super) fn take(&mut self, packet: &Packet, last: [u64; PUBLISHERS]) -> Result<(), String> {
        match (packet, &mut self.role) {
            (Packet::Connack { present, reason: 0 }, _) => self.begin(*present),
            (Packet::Connack { .. } | Packet::Disconnect, _) => {
                if let Some(link) = &mut self.link {
                    link.ended = true;
                }
            }
            (Packet::Ack { reason, .. }, Role::Publisher(_))
                if *reason >= 0x80 && *reason != 0x92 =>
            {
                return Err(format!("a message was refused: {packet:?}"));
            }
            (Packet::Ack { first, id, .. }, Role::Publisher(publisher)) => {
                self.answers.extend(publisher.on_ack(*first, *id)?);
            }
            (
                Packet::Ack {
                    first: PUBREL, id, ..
                },
                Role::Consumer(consumer),
            ) => {
                consumer.held.remove(id);
                self.answers.push_back(Answer {
                    first: PUBCOMP,
                    id: *id,
                    processed: None,
                });
            }
            (Packet::Suback { reason }, Role::Consumer(consumer)) => {
                if *reason != consumer.qos {
                    return Err(format!("a subscription was granted {reason}"));
                }
                consumer.since.get_or_insert(last);
                consumer.began.get_or_insert(last);
            }
            (Packet::Publish(message), Role::Consumer(consumer)) => {
                let answer = consumer.give(message)?;
                if message.qos > 0 {
                    self.answers.push_back(answer);
                }
            }
            (Packet::Pong, _) => {}
            _ => return Err(format!("unexpected: {packet:?}")),
        }
        Ok(())
    }

    /// Goes on where the last connection ended, or begins anew.
    fn begin(&mut self, present: bool) {
        self.connected = true;
        let goes_on = present && (self.expiry == NEVER || !self.unsure);
        self.unsure = false;
        let version = self.version;
        let Some(link) = &mut self.link else {
            return;
        };
        match &mut self.role {
            Role::Publisher(publisher) => {
                if !present {
                    // PUBREL for messages of an ended session would be for nothing.
                    publisher.open.retain(|open| !open.received);
                }
                for open in publisher.open.clone() {
                    if open.received {
                        link.say(&wire::ack(PUBREL, open.id));
                    } else {
                        let message = publisher.message(&open);
                        let topic = publisher.topic(open.retain);
                        link.say(&wire::publish(version, &topic, true, &message));
                    }
                }
            }
            Role::Consumer(consumer) => {
                if !goes_on {
                    consumer.forget();
                }
                if consumer.since.is_none() {
                    link.say(&wire::subscribe(version, &consumer.filter, consumer.qos));
                }
            }
        }
        self.known |= self.expiry > 0;
    }
}
