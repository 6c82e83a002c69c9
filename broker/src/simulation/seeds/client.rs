//! The clients: what MQTT asks them to keep, and what is counted of what they get.

use std::collections::VecDeque;

use super::consumer::Consumer;
use super::message::{Kind, PUBLISHERS};
use super::mortal::Mortal;
use super::publisher::Publisher;
use crate::protocol::Version;
use crate::simulation::link::Link;
use crate::simulation::wire::{self, NEVER, PUBCOMP, PUBREL, Packet};

/// Topic aliases a client of MQTT 5 lets the broker set: fewer than there are topics.
const ALIASES: u16 = 2;

/// A client, connected or not.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) version: Version,
    /// Seconds the session outlives a connection; 0: none.
    pub(super) expiry: u32,
    /// Whether the next connection is to begin a new session; until one did.
    pub(super) clean: bool,
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
    /// Only has a will.
    Mortal(Mortal),
}

/// An acknowledgement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) first: u8,
    pub(super) id: u16,
    /// What counts as processed when this has left.
    pub(super) processed: Option<(usize, u64)>,
}

impl Answer {
    pub(super) fn new(first: u8, id: u16) -> Self {
        Self {
            first,
            id,
            processed: None,
        }
    }
}

impl Client {
    pub(super) fn new(name: &str, version: Version, expiry: u32, role: Role) -> Self {
        Self {
            name: name.to_owned(),
            version,
            expiry,
            clean: false,
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
            Role::Publisher(_) | Role::Mortal(_) => None,
        }
    }

    pub(super) fn mortal(&self) -> Option<&Mortal> {
        match &self.role {
            Role::Mortal(mortal) => Some(mortal),
            Role::Publisher(_) | Role::Consumer(_) => None,
        }
    }

    pub(super) fn publisher(&self) -> Option<&Publisher> {
        match &self.role {
            Role::Publisher(publisher) => Some(publisher),
            Role::Consumer(_) | Role::Mortal(_) => None,
        }
    }

    /// Begins a connection.
    pub(super) fn connect(&mut self, mut link: Link, now_ms: u64) {
        let will = match &mut self.role {
            Role::Publisher(publisher) => {
                publisher.aliases.clear();
                None
            }
            Role::Consumer(consumer) => {
                consumer.aliases.clear();
                None
            }
            Role::Mortal(mortal) => Some(mortal.begin()),
        };
        let connect = wire::Connect {
            version: self.version,
            id: &self.name,
            expiry: self.expiry,
            clean: self.expiry == 0 || self.clean,
            aliases: ALIASES,
            will,
        };
        link.say(&connect.bytes());
        self.link = Some(link);
        self.asked_ms = now_ms;
    }

    /// Gives the connection up; what was to be said on it is void.
    pub(super) fn leave(&mut self, now_ms: u64) -> Option<Link> {
        self.unsure |= !self.connected;
        self.connected = false;
        self.answers.clear();
        self.left_ms = now_ms;
        if let Role::Mortal(mortal) = &mut self.role {
            mortal.ended(now_ms);
        }
        self.link.take()
    }

    /// The broker closed the connection.
    pub(super) fn closed(&mut self) {
        let is_said = self.link.as_ref().is_some_and(Link::is_said);
        if let Role::Mortal(mortal) = &mut self.role
            && is_said
        {
            mortal.closed();
        }
    }

    /// Says DISCONNECT; it is the broker who closes the connection then.
    pub(super) fn say_goodbye(&mut self) {
        if let (Role::Mortal(mortal), Some(link)) = (&mut self.role, &mut self.link)
            && let Some(life) = mortal.lives.last_mut()
            && !life.parting
        {
            life.parting = true;
            link.say(&wire::DISCONNECT);
        }
    }

    /// Asks for the subscription it does not have, or for the end of the one it has.
    pub(super) fn change_mind(&mut self) {
        let (Role::Consumer(consumer), Some(link)) = (&mut self.role, &mut self.link) else {
            return;
        };
        if !self.connected {
            return;
        }
        if consumer.wish && consumer.since.is_some() {
            consumer.wish = false;
            link.say(&wire::unsubscribe(self.version, &consumer.filter));
        } else if !consumer.wish && consumer.until.take().is_some() {
            consumer.wish = true;
            let wish = consumer.options(self.version);
            link.say(&wire::subscribe(self.version, &consumer.filter, wish));
        }
    }

    /// Publishes a message.
    pub(super) fn publish(&mut self, qos: u8, kind: Kind, now_ms: u64) {
        let version = self.version;
        if let (Role::Publisher(publisher), Some(link)) = (&mut self.role, &mut self.link) {
            let message = publisher.publish(version, qos, kind, now_ms);
            link.say(&wire::publish(version, &message));
        }
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
    pub(super) fn take(
        &mut self,
        packet: &Packet,
        last: [u64; PUBLISHERS],
        now_ms: u64,
    ) -> Result<(), String> {
        match (packet, &mut self.role) {
            (
                Packet::Connack {
                    present,
                    reason: 0,
                    aliases,
                },
                role,
            ) => {
                match role {
                    Role::Publisher(publisher) => publisher.most_aliases = *aliases,
                    Role::Mortal(mortal) => mortal.accepted(now_ms),
                    Role::Consumer(_) => {}
                }
                self.begin(*present);
            }
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
                self.answers.extend(publisher.on_ack(*first, *id, now_ms)?);
            }
            (
                Packet::Ack {
                    first: PUBREL, id, ..
                },
                Role::Consumer(consumer),
            ) => {
                consumer.held.remove(id);
                self.answers.push_back(Answer::new(PUBCOMP, *id));
            }
            (Packet::Suback { reason }, Role::Consumer(consumer)) => {
                if *reason != consumer.qos {
                    return Err(format!("a subscription was granted {reason}"));
                }
                if consumer.since.is_none() {
                    consumer.since = Some(last);
                    consumer.since_ms = now_ms;
                }
                consumer.began.get_or_insert(last);
            }
            (Packet::Unsuback, Role::Consumer(consumer)) if !consumer.wish => {
                consumer.since = None;
                consumer.until = Some(last);
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
        self.clean = false;
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
                        let mut message = publisher.message(version, &open);
                        message.dup = true;
                        link.say(&wire::publish(version, &message));
                    }
                }
            }
            Role::Consumer(consumer) => {
                if !goes_on {
                    consumer.forget();
                }
                if consumer.wish && consumer.since.is_none() {
                    let wish = consumer.options(version);
                    link.say(&wire::subscribe(version, &consumer.filter, wish));
                } else if !consumer.wish && consumer.until.is_none() {
                    link.say(&wire::unsubscribe(version, &consumer.filter));
                }
            }
            Role::Mortal(_) => {}
        }
        self.known |= self.expiry > 0;
    }
}
