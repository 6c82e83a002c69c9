//! Publishers: what they have said, what of it was acknowledged, and when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::client::Answer;
use super::message::Kind;
use crate::protocol::Version;
use crate::simulation::wire::{Message, PUBACK, PUBCOMP, PUBREC, PUBREL};

/// Messages a publisher has open at most.
const OPEN: usize = 6;
/// Topic aliases it sets: fewer than it has topics, so that they come to stand for others.
const ALIASES: u16 = 2;

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
    /// Numbers of messages that are not plain.
    pub(super) kinds: BTreeMap<u64, Kind>,
    /// When each was sent first, and when it was acknowledged.
    pub(super) times: BTreeMap<u64, (u64, Option<u64>)>,
    /// Topics by the alias set on this connection.
    pub(super) aliases: BTreeMap<u16, String>,
    /// The highest alias the broker takes.
    pub(super) most_aliases: u16,
    next_id: u16,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) id: u16,
    qos: u8,
    kind: Kind,
    pub(super) received: bool,
}

impl Publisher {
    pub(super) fn new(index: usize) -> Self {
        Self {
            index,
            ..Self::default()
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.open.len() < OPEN
    }

    pub(super) fn kind(&self, number: u64) -> Kind {
        self.kinds.get(&number).copied().unwrap_or(Kind::Plain)
    }

    /// Makes a new message.
    pub(super) fn publish(
        &mut self,
        version: Version,
        qos: u8,
        kind: Kind,
        now_ms: u64,
    ) -> Message {
        self.last += 1;
        let open = Open {
            number: self.last,
            id: self.free_id(),
            qos,
            kind,
            received: false,
        };
        if qos == 2 {
            self.exact.insert(open.number);
        }
        if kind != Kind::Plain {
            self.kinds.insert(open.number, kind);
        }
        self.times.insert(open.number, (now_ms, None));
        self.open.push_back(open);
        let mut message = self.message(version, &open);
        self.shorten(&mut message);
        message
    }

    /// Returns an open message as it goes, with its whole topic.
    pub(super) fn message(&self, version: Version, open: &Open) -> Message {
        Message {
            dup: false,
            qos: open.qos,
            retain: open.kind == Kind::Retained,
            id: open.id,
            topic: open.kind.topic(self.index),
            alias: 0,
            expiry: open.kind.expiry(version, open.number),
            payload: open.kind.payload(self.index, open.number),
        }
    }

    /// Sets an alias for the topic, or uses the one it has, or neither.
    fn shorten(&mut self, message: &mut Message) {
        let most = self.most_aliases.min(ALIASES);
        if most == 0 || self.last.is_multiple_of(3) {
            return;
        }
        let known = self
            .aliases
            .iter()
            .find(|(_, topic)| **topic == message.topic);
        if let Some((alias, _)) = known {
            message.alias = *alias;
            message.topic.clear();
        } else {
            let few = u16::try_from(self.last % 2).unwrap_or_default();
            message.alias = 1 + few % most;
            self.aliases.insert(message.alias, message.topic.clone());
        }
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % 9 + 1;
            if self.open.iter().all(|open| open.id != self.next_id) {
                return self.next_id;
            }
        }
    }

    pub(super) fn on_ack(
        &mut self,
        first: u8,
        id: u16,
        now_ms: u64,
    ) -> Result<Option<Answer>, String> {
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
        let (number, kind) = (open.number, open.kind);
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
        if let Some((_, acknowledged)) = self.times.get_mut(&number) {
            acknowledged.get_or_insert(now_ms);
        }
        if kind == Kind::Retained {
            self.retained = self.retained.max(number);
        }
        Ok((first == PUBREC).then_some(Answer::new(PUBREL, id)))
    }
}
