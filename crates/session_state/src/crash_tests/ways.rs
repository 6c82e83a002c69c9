//! The other ways out of the broker in miniature: to the members of a group, and of what is retained.
//!
//! Each record goes to one member of the group, and each retained message once to the client that keeps them; both with
//! QoS 2, and some are refused with their PUBREC.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use bytes::Bytes;
use ingest_log::Cursor;
use ingest_log::sim::Random;

use super::broker::{Broker, Then, number_of};
use super::campaign::Sabotage;
use super::clients::World;
use crate::{Change, KEPT};

/// The members of the group, and then the client that gets what is retained.
const OTHERS: [&str; 3] = ["m0", "m1", "k"];
const KEEPER: usize = 2;
const GROUP: &str = "g";
pub(super) const GROUP_CURSOR: &str = "share/g";
const WINDOW: usize = 6;

/// A message on its way.
#[derive(Debug, Clone)]
struct Way {
    seq: u64,
    group: Box<str>,
    received: bool,
    /// The message itself, if it is a retained one.
    message: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(super) struct Ways {
    /// First record the group has not looked at.
    next: u64,
    sent: BTreeMap<(usize, NonZeroU16), Way>,
    last_id: u16,
}

impl Ways {
    fn free_id(&mut self, who: usize) -> NonZeroU16 {
        loop {
            self.last_id = self.last_id % 9 + 1;
            match NonZeroU16::new(self.last_id) {
                Some(id) if !self.sent.contains_key(&(who, id)) => return id,
                _ => {}
            }
        }
    }

    fn has(&self, group: &str, seq: u64) -> bool {
        let mut ways = self.sent.values();
        ways.any(|way| &*way.group == group && way.seq == seq)
    }

    /// Returns the lowest record that the group is not done with.
    fn place(&self) -> u64 {
        let open = self.sent.values().filter(|way| !way.received);
        let open = open.filter(|way| &*way.group == GROUP);
        open.map(|way| way.seq).fold(self.next, u64::min)
    }

    pub(super) fn forget(&mut self, who: usize, id: NonZeroU16) {
        self.sent.remove(&(who, id));
    }
}

impl Broker {
    /// Takes up what is on its way as the store and the cursor have it.
    pub(super) fn resume_ways(&mut self) {
        let cursor = self.messages.cursors().get(GROUP_CURSOR);
        let group = self.store.group(GROUP).unwrap_or_default();
        let ways = &mut self.ways;
        ways.next = cursor.map_or(0, |cursor| cursor.next).max(group.place);
        let outgoing = self.store.outgoing().into_iter();
        let outgoing = outgoing.filter_map(|(client_id, id, outgoing)| {
            let who = OTHERS.iter().position(|name| *name == &*client_id)?;
            let way = Way {
                seq: outgoing.seq,
                group: outgoing.group,
                received: outgoing.received,
                message: outgoing.message,
            };
            Some(((who, id), way))
        });
        ways.sent = outgoing.collect();
    }

    /// Gives something to one of the others, as far as their window has room.
    pub(super) fn give(&mut self, random: &mut Random, world: &mut World) {
        let who = random.below(OTHERS.len());
        if self.ways.sent.len() >= WINDOW {
            return;
        }
        if who == KEEPER {
            self.give_retained(world);
        } else {
            self.give_shared(who, world);
        }
    }

    fn give_shared(&mut self, who: usize, world: &mut World) {
        let seq = self.ways.next;
        if seq >= self.messages.next_durable() {
            return;
        }
        self.ways.next += 1;
        let group = self.store.group(GROUP).unwrap_or_default();
        if group.done.contains(&seq) || self.ways.has(GROUP, seq) {
            return;
        }
        let Some(number) = self.read(seq) else {
            return;
        };
        let id = self.ways.free_id(who);
        let change = Change::Sent {
            id,
            seq,
            group: GROUP.into(),
        };
        let early = self.sabotage == Sabotage::ShareEarly;
        self.send(who, id, change, number, early, world);
    }

    fn give_retained(&mut self, world: &mut World) {
        let known = self.store.client(OTHERS[KEEPER]).unwrap_or_default();
        let mut retained = self.store.retained();
        retained.sort_by_key(|(_, message)| message.seq);
        let new = retained.into_iter().map(|(_, message)| message);
        let mut new = new
            .filter(|message| !known.kept.contains(&message.seq))
            .filter(|message| !self.ways.has(KEPT, message.seq));
        let Some(message) = new.next() else {
            return;
        };
        let Some(number) = number_of(&message.value) else {
            return;
        };
        let id = self.ways.free_id(KEEPER);
        let change = Change::Kept {
            id,
            seq: message.seq,
            message: message.value,
        };
        let early = self.sabotage == Sabotage::KeepEarly;
        self.send(KEEPER, id, change, number, early, world);
    }

    fn send(
        &mut self,
        who: usize,
        id: NonZeroU16,
        change: Change,
        number: u64,
        early: bool,
        world: &mut World,
    ) {
        let (seq, group, message) = match &change {
            Change::Sent { seq, group, .. } => (*seq, group.clone(), None),
            Change::Kept { seq, message, .. } => (*seq, KEPT.into(), Some(message.clone())),
            _ => return,
        };
        let way = Way {
            seq,
            group,
            received: false,
            message,
        };
        self.ways.sent.insert((who, id), way);
        let then = Then::Give(who, id, number);
        self.change(OTHERS[who], &[change], then, early, world);
    }

    /// One of the others answers something that is open.
    pub(super) fn other_answers(&mut self, random: &mut Random, world: &mut World) {
        let open: Vec<_> = self.ways.sent.keys().copied().collect();
        if open.is_empty() {
            return;
        }
        let (who, id) = open[random.below(open.len())];
        let refuses = random.below(6) == 0;
        let waits = self.waiting.iter().any(|(_, then)| match then {
            Then::Give(w, i, _) | Then::Release(w, i) | Then::Forget(w, i) => (*w, *i) == (who, id),
            _ => false,
        });
        let Some(way) = self.ways.sent.get_mut(&(who, id)).filter(|_| !waits) else {
            return;
        };
        let has_it = world.others[who].held.contains(&id);
        let (seq, group) = (way.seq, way.group.clone());
        match (way.received, has_it) {
            (false, true) => {
                way.received = true;
                let place = Change::Place {
                    group: GROUP.into(),
                    seq: self.ways.place(),
                };
                let (mut changes, then) = if refuses {
                    world.others[who].refuse(id);
                    let done = Change::Done { group, seq };
                    let changes = vec![done, Change::Completed { id }];
                    (changes, Then::Forget(who, id))
                } else {
                    let received = Change::Received { id, seq, group };
                    (vec![received], Then::Release(who, id))
                };
                if who != KEEPER {
                    changes.push(place);
                }
                let early = self.sabotage == Sabotage::ReleaseSharedEarly && !refuses;
                self.change(OTHERS[who], &changes, then, early, world);
            }
            (true, false) => {
                self.ways.forget(who, id);
                drop(self.store.change(OTHERS[who], &[Change::Completed { id }]));
            }
            _ => {}
        }
    }

    /// The others connect again: what is open goes once more.
    pub(super) fn others_return(&mut self, world: &mut World) {
        if self.settle(world).is_none() {
            return;
        }
        self.resume_ways();
        for ((who, id), way) in self.ways.sent.clone() {
            let number = match &way.message {
                Some(message) => number_of(message),
                None => self.read(way.seq),
            };
            match number {
                _ if way.received => self.act(Then::Release(who, id), world),
                Some(number) => self.act(Then::Give(who, id, number), world),
                None => {}
            }
        }
    }

    /// Moves the group's cursor up to what is done with, unless that is not durable yet.
    pub(super) fn keep_group_place(&mut self) {
        let waits = |then: &Then| matches!(then, Then::Release(..) | Then::Forget(..));
        if self.waiting.iter().any(|(_, then)| waits(then)) {
            return;
        }
        let cursor = Cursor {
            next: self.ways.place(),
            meta: Bytes::new(),
            pins: true,
        };
        self.messages.cursors().put(GROUP_CURSOR, cursor);
    }

    /// Tells whether the group has all there is, and the keeper all that is retained.
    pub(super) fn ways_are_done(&self) -> bool {
        let known = self.store.client(OTHERS[KEEPER]).unwrap_or_default();
        let retained = self.store.retained();
        let all = retained.iter().all(|(_, m)| known.kept.contains(&m.seq));
        all && self.ways.sent.is_empty() && self.ways.next >= self.messages.next_durable()
    }
}
