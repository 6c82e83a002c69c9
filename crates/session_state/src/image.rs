//! The state in memory: what all changes together come to. Pure.
//!
//! Invariants: the same records of the journal, in the same order, make the same image, from any place at which the
//! journal may begin; what is only noted, because the messages' log holds it above the mark, is marked so and is never
//! taken for something the journal holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Change, KEPT};

/// A message taken from a publisher with QoS 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming {
    /// Its record.
    pub seq: u64,
    /// Whether its id was released; kept so until the mark has passed the record.
    pub released: bool,
    /// Whether the journal holds this; else only the messages' log does, or nothing yet.
    pub(crate) journaled: bool,
}

/// A message on its way to a subscriber with QoS 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its record.
    pub seq: u64,
    /// The shared subscription it is sent for; empty: the client's own; [`KEPT`]: none, it is a retained message.
    pub group: Box<str>,
    /// Whether the subscriber has it, so that only the id is to be completed.
    pub received: bool,
    /// The message itself, if it is a retained one that the subscriber may not have yet.
    pub message: Option<Bytes>,
}

/// Where somebody reads the messages' log: all below `place` is done with, and so is what is in `done`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// First record that is not done with, or lower.
    pub place: u64,
    /// Records above it that are done with, as far as they were sent with QoS 2.
    pub done: BTreeSet<u64>,
}

/// What is remembered of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// What it published, by its packet ids.
    pub incoming: BTreeMap<NonZeroU16, Incoming>,
    /// No record below is of its present session.
    pub cleared: u64,
    /// What it is being sent, by the broker's packet ids.
    pub outgoing: BTreeMap<NonZeroU16, Outgoing>,
    /// Where its own subscriptions are read.
    pub reading: Group,
    /// Retained messages it asked for and has, by their records, as far as they were sent with QoS 2; until
    /// [`Change::KeptOver`].
    pub kept: BTreeSet<u64>,
    /// Its will, in the broker's form.
    pub will: Option<Bytes>,
}

/// A retained message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    /// The record it was published in.
    pub seq: u64,
    /// The message, in the broker's form.
    pub value: Bytes,
}

/// Something that is written as a whole when the journal is made shorter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    Client(Arc<str>),
    Group(Arc<str>),
    Retained(Arc<str>),
}

/// The whole state.
#[derive(Debug, Default)]
pub(crate) struct Image {
    pub(crate) clients: HashMap<Arc<str>, Client>,
    pub(crate) groups: HashMap<Arc<str>, Group>,
    pub(crate) retained: HashMap<Arc<str>, Retained>,
    /// Records of the messages' log below are digested here.
    pub(crate) mark: u64,
    /// Clients of whom something may be forgotten when the mark moves.
    settling: HashSet<Arc<str>>,
    /// Where in the journal the part begins that tells all of an entity.
    begins: HashMap<Key, u64>,
    by_beginning: BTreeSet<(u64, Key)>,
}

impl Client {
    fn is_empty(&self, mark: u64) -> bool {
        self.incoming.is_empty()
            && self.cleared <= mark
            && self.outgoing.is_empty()
            && self.reading == Group::default()
            && self.kept.is_empty()
            && self.will.is_none()
    }

    /// Notes that the record `seq` was taken with this id, unless something later is known of the id.
    fn hold(&mut self, id: NonZeroU16, seq: u64, journaled: bool) {
        if seq < self.cleared {
            return;
        }
        match self.incoming.get_mut(&id) {
            Some(there) if there.seq > seq => {}
            Some(there) if there.seq == seq => there.journaled |= journaled,
            _ => {
                let incoming = Incoming {
                    seq,
                    released: false,
                    journaled,
                };
                self.incoming.insert(id, incoming);
            }
        }
    }

    fn release(&mut self, id: NonZeroU16, seq: u64, mark: u64) {
        let there = self.incoming.get(&id).map(|incoming| incoming.seq);
        if there.is_some_and(|there| there > seq) || seq < self.cleared {
            return;
        }
        if seq < mark {
            self.incoming.remove(&id);
        } else {
            let incoming = Incoming {
                seq,
                released: true,
                journaled: true,
            };
            self.incoming.insert(id, incoming);
        }
    }

    /// Returns what makes this client from nothing, as far as the journal holds it.
    pub(crate) fn whole(&self) -> Vec<Change> {
        let mut whole = vec![Change::Reset];
        if self.cleared > 0 {
            whole.push(Change::Cleared {
                below: self.cleared,
            });
        }
        let journaled = self.incoming.iter().filter(|(_, i)| i.journaled);
        whole.extend(journaled.map(|(&id, &Incoming { seq, released, .. })| {
            if released {
                Change::Released { id, seq }
            } else {
                Change::Held { id, seq }
            }
        }));
        for (&id, outgoing) in &self.outgoing {
            let Outgoing {
                seq,
                group,
                received,
                message,
            } = outgoing.clone();
            whole.push(match message {
                Some(message) => Change::Kept { id, seq, message },
                None if received => Change::Received { id, seq, group },
                None => Change::Sent { id, seq, group },
            });
        }
        whole.extend(self.reading.whole(""));
        whole.extend(self.kept.iter().map(|&seq| Change::Done {
            group: KEPT.into(),
            seq,
        }));
        whole.extend(self.will.clone().map(|will| Change::Will(Some(will))));
        whole
    }
}

impl Group {
    fn finish(&mut self, seq: u64) {
        if seq >= self.place {
            self.done.insert(seq);
        }
    }

    fn advance(&mut self, place: u64) {
        if place > self.place {
            self.place = place;
            self.done = self.done.split_off(&place);
        }
    }

    /// Returns what makes this place from nothing.
    pub(crate) fn whole(&self, group: &str) -> Vec<Change> {
        let place = Change::Place {
            group: group.into(),
            seq: self.place,
        };
        let done = self.done.iter().map(|&seq| Change::Done {
            group: group.into(),
            seq,
        });
        std::iter::once(place).chain(done).collect()
    }
}

impl Image {
    /// Applies the changes of a record of a client; `at` is the record's place in the journal.
    pub(crate) fn apply(&mut self, at: u64, client_id: &str, changes: &[Change]) {
        for change in changes {
            self.apply_one(at, client_id, change);
        }
    }

    fn apply_one(&mut self, at: u64, client_id: &str, change: &Change) {
        let mark = self.mark;
        match change {
            Change::Received { id, seq, group } => {
                let outgoing = Outgoing {
                    seq: *seq,
                    group: group.clone(),
                    received: true,
                    message: None,
                };
                self.client(at, client_id).outgoing.insert(*id, outgoing);
                return self.finish(at, client_id, group, *seq);
            }
            Change::Place { group, seq } => {
                return self.reading(at, client_id, group).advance(*seq);
            }
            Change::Done { group, seq } => {
                return self.finish(at, client_id, group, *seq);
            }
            Change::GroupEnded { group } => {
                self.groups.remove(&**group);
                return self.forget(&Key::Group((&**group).into()));
            }
            Change::Released { .. } | Change::Cleared { .. } => {
                self.settling.insert(client_id.into());
            }
            _ => {}
        }
        let client = self.client(at, client_id);
        match change {
            Change::Reset => *client = Client::default(),
            Change::Held { id, seq } => client.hold(*id, *seq, true),
            Change::Released { id, seq } => client.release(*id, *seq, mark),
            Change::Cleared { below } => {
                *client = Client {
                    cleared: *below,
                    will: client.will.take(),
                    ..Client::default()
                }
            }
            Change::Sent { id, seq, group } => {
                let outgoing = Outgoing {
                    seq: *seq,
                    group: group.clone(),
                    received: false,
                    message: None,
                };
                client.outgoing.insert(*id, outgoing);
            }
            Change::Kept { id, seq, message } => {
                let outgoing = Outgoing {
                    seq: *seq,
                    group: KEPT.into(),
                    received: false,
                    message: Some(message.clone()),
                };
                client.outgoing.insert(*id, outgoing);
            }
            Change::KeptOver => client.kept.clear(),
            Change::Completed { id } => drop(client.outgoing.remove(id)),
            Change::Will(will) => client.will.clone_from(will),
            Change::Received { .. }
            | Change::Place { .. }
            | Change::Done { .. }
            | Change::GroupEnded { .. } => {}
        }
        if matches!(
            change,
            Change::Completed { .. } | Change::Will(None) | Change::KeptOver
        ) {
            self.settling.insert(client_id.into());
        }
    }

    /// Notes a message that was accepted by the messages' log, or found there above the mark.
    pub(crate) fn note_incoming(&mut self, client_id: &str, id: NonZeroU16, seq: u64) {
        let client = if let Some(client) = self.clients.get_mut(client_id) {
            client
        } else {
            self.clients.entry(client_id.into()).or_default()
        };
        client.hold(id, seq, false);
    }

    /// Sets or clears a retained message, unless a later one is known.
    pub(crate) fn retain(&mut self, topic: &Arc<str>, seq: u64, value: Option<Bytes>) {
        let there = self.retained.get(topic);
        if there.is_some_and(|there| there.seq > seq) {
            return;
        }
        match value {
            Some(value) => drop(
                self.retained
                    .insert(Arc::clone(topic), Retained { seq, value }),
            ),
            None => drop(self.retained.remove(topic)),
        }
    }

    /// Moves the mark, and forgets what was only kept for what lies below.
    pub(crate) fn set_mark(&mut self, mark: u64) {
        self.mark = self.mark.max(mark);
        let mut settling = std::mem::take(&mut self.settling);
        settling.retain(|client_id| {
            let Some(client) = self.clients.get_mut(client_id) else {
                return false;
            };
            client
                .incoming
                .retain(|_, incoming| !incoming.released || incoming.seq >= mark);
            if client.is_empty(mark) {
                self.clients.remove(client_id);
                self.forget(&Key::Client(Arc::clone(client_id)));
                return false;
            }
            client.cleared > mark || client.incoming.values().any(|incoming| incoming.released)
        });
        self.settling = settling;
    }

    fn client(&mut self, at: u64, client_id: &str) -> &mut Client {
        if !self.clients.contains_key(client_id) {
            self.clients.insert(client_id.into(), Client::default());
        }
        let key = Key::Client(client_id.into());
        if !self.begins.contains_key(&key) {
            self.begin(key, at);
        }
        self.clients.entry(client_id.into()).or_default()
    }

    /// Notes that a record is done with.
    fn finish(&mut self, at: u64, client_id: &str, group: &str, seq: u64) {
        if group == KEPT {
            self.client(at, client_id).kept.insert(seq);
        } else {
            self.reading(at, client_id, group).finish(seq);
        }
    }

    fn reading(&mut self, at: u64, client_id: &str, group: &str) -> &mut Group {
        if group.is_empty() {
            return &mut self.client(at, client_id).reading;
        }
        let key = Key::Group(group.into());
        if !self.begins.contains_key(&key) {
            self.begin(key, at);
        }
        self.groups.entry(group.into()).or_default()
    }

    /// Notes where the part of the journal begins that tells all of an entity.
    pub(crate) fn begin(&mut self, key: Key, at: u64) {
        self.forget(&key);
        self.by_beginning.insert((at, key.clone()));
        self.begins.insert(key, at);
    }

    pub(crate) fn forget(&mut self, key: &Key) {
        if let Some(at) = self.begins.remove(key) {
            self.by_beginning.remove(&(at, key.clone()));
        }
    }

    /// Notes that an entity was written again as a whole, unless it is gone.
    pub(crate) fn begin_again(&mut self, key: Key, at: u64) {
        if self.begins.contains_key(&key) {
            self.begin(key, at);
        }
    }

    /// Returns the entities in the order in which their parts begin.
    pub(crate) fn by_beginning(&self) -> impl Iterator<Item = &(u64, Key)> {
        self.by_beginning.iter()
    }
}
