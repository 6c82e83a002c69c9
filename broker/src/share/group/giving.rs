//! How records of a group are given to a member: what was returned first, and then what is new.
//!
//! Invariant: a record is taken note of in the group's bookkeeping exactly when it is in the member's output.

use std::sync::Arc;

use ingest_log::{Chunk, Record};

use super::{Seat, State};
use crate::connection::outbound::{Message, Outbound, Sent};
use crate::protocol::filter_index::FilterIndex;
use crate::session::window::Origin;

/// What a record is given with, and to whom.
pub(super) struct Giving<'a> {
    pub(super) key: &'a str,
    pub(super) wanted: &'a FilterIndex<(), ()>,
    pub(super) seat: Seat,
    pub(super) client_id: &'a Arc<str>,
    pub(super) out: &'a mut Outbound,
}

impl State {
    /// Sends what members left; returns how many messages that were.
    pub(super) fn send_returned(&mut self, giving: &mut Giving<'_>) -> u64 {
        let mut repeated = 0;
        while let (Some(seq), Some(chunk)) = (self.core.first_returned(), &mut self.again) {
            let seqs = chunk.seqs();
            if !seqs.contains(&seq) || !giving.out.has_room() {
                break;
            }
            chunk.advance(usize::try_from(seq - seqs.start).unwrap_or(usize::MAX));
            let Some(record) = chunk.iter().next() else {
                break;
            };
            let qos = record.qos.min(giving.seat.options.qos);
            let sent = send(giving, &record, true);
            if sent == Sent::NotNow {
                break;
            }
            let sent = sent == Sent::Yes;
            let member = giving.seat.member;
            self.core.take_returned(member, seq, sent && qos == 1);
            if sent && qos == 2 {
                self.sent_exactly_once(seq, giving);
            }
            repeated += u64::from(sent);
        }
        repeated
    }

    /// Takes records that nobody has looked at, to be given to the members in turns: a burst is for all of them, not for
    /// the one that was there first.
    pub(super) fn deal(&mut self, chunk: Chunk, wanted: &FilterIndex<(), ()>) {
        let members = self.core.members();
        self.quantum = if members > 1 {
            let matching = chunk.iter().filter(|record| matches(wanted, record.topic));
            matching.count().div_ceil(members).max(1)
        } else {
            usize::MAX
        };
        self.granted.clear();
        self.fresh = Some(chunk);
    }

    /// Gives a member its turn.
    pub(super) fn grant(&mut self, member: u64) {
        self.granted.insert(member, self.quantum);
    }

    /// Sends what nobody has looked at, as much as is left of the member's turn.
    pub(super) fn send_fresh(&mut self, giving: &mut Giving<'_>) {
        let Some(mut chunk) = self.fresh.take() else {
            return;
        };
        let member = giving.seat.member;
        let mut granted = self.granted.remove(&member).unwrap_or_default();
        let mut looked_at = 0;
        for record in &chunk {
            let matches = matches(giving.wanted, record.topic);
            let is_in_turn = !matches || granted > 0;
            if !is_in_turn || !giving.out.has_room() || !self.give(&record, matches, giving) {
                break;
            }
            granted -= usize::from(matches);
            looked_at += 1;
        }
        chunk.advance(looked_at);
        self.fresh = Some(chunk).filter(|chunk| !chunk.is_empty());
        if granted > 0 {
            self.granted.insert(member, granted);
        }
    }

    /// Looks at a record, and sends it if it is for somebody; `false` when that cannot be now.
    fn give(&mut self, record: &Record<'_>, matches: bool, giving: &mut Giving<'_>) -> bool {
        let seq = record.seq;
        if self.core.pass_settled(seq) {
            return true;
        }
        let again = self.core.may_be_repeated(seq);
        // What was published with QoS 0 is sent at most once, whoever gets it.
        if !matches || again && record.qos == 0 {
            self.core.pass(seq);
            return true;
        }
        let sent = send(giving, record, again);
        match (sent, record.qos.min(giving.seat.options.qos)) {
            (Sent::NotNow, _) => return false,
            (Sent::Yes, 1) => self.core.hold(giving.seat.member, seq),
            (Sent::Yes, 2) => {
                self.core.pass(seq);
                self.sent_exactly_once(seq, giving);
            }
            _ => self.core.pass(seq),
        }
        true
    }

    /// Notes that a record was sent with QoS 2: it is for this client and for nobody else, whatever becomes of it. In
    /// a session that ends with its connection there is nothing to be completed later.
    fn sent_exactly_once(&mut self, seq: u64, giving: &Giving<'_>) {
        if giving.out.is_durable() {
            self.core.bind(seq, giving.client_id);
        } else {
            self.done_to = self.done_to.max(seq + 1);
        }
    }
}

fn matches(wanted: &FilterIndex<(), ()>, topic: &str) -> bool {
    let mut matches = false;
    wanted.for_each_match(topic, |(), ()| matches = true);
    matches
}

fn send(giving: &mut Giving<'_>, record: &Record<'_>, dup: bool) -> Sent {
    let (key, seat) = (giving.key, giving.seat);
    let message = message(record, &seat, key, dup);
    giving.out.send(&message)
}

fn message<'a>(record: &Record<'a>, seat: &'a Seat, key: &'a str, dup: bool) -> Message<'a> {
    Message {
        topic: record.topic,
        payload: record.payload,
        qos: record.qos.min(seat.options.qos),
        retain: record.retain && seat.options.retain_as_published,
        dup,
        origin: Origin::Share {
            number: seat.number,
            seq: record.seq,
        },
        group: key,
        properties: record.properties,
        received_us: record.received_us,
        ids: seat.options.id.as_slice(),
    }
}
