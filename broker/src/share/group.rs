//! A group at work: reads the log for its members and gives each record to one of them.
//!
//! There is no task and no queue between the log and the members. A member with room waits in
//! [`Group::fetch`], first come first served, until there is something to send; then it takes, under the
//! group's lock, what window and output have room for ([`Group::pump`]), and waits its turn again. So records
//! go out chunk by chunk in turn, a member without room is not in the queue, and what a member was given is
//! always in its output already: when it leaves, all it had may have been sent.
//!
//! Invariants: every put of the group's cursor is made under the lock, so an older one never follows a newer
//! one; the cursor pins the log while the group exists; no put follows the group's end.
//!
//! Memory while a member is connected: two blocks of the log, see [`ingest_log::Reader`], and what
//! [`super::core`] says. Payloads are never held: what was returned is read again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ingest_log::{Chunk, Cursor, Log, LogError, Reader, Record};
use tokio::sync::Notify;

use super::core::Core;
use super::roster::Roster;
use crate::connection::outbound::{Message, Outbound, Sent};
use crate::protocol::filter_index::FilterIndex;
use crate::session::Options;
use crate::session::window::Origin;

/// Bytes of records given to one member in turn.
const CHUNK_BYTES: usize = 16 << 10;
/// Records that are rather read past than sought behind, on the way to one that was returned.
const READ_PAST: u64 = 10_000;

/// A group: what all its members share.
#[derive(Debug)]
pub(super) struct Group {
    /// `<group>/<filter>`.
    pub(super) key: Box<str>,
    /// Name of its cursor.
    cursor: String,
    wanted: FilterIndex<(), ()>,
    log: Log,
    state: Mutex<State>,
    /// Held by the member whose turn it is to wait for records.
    readers: tokio::sync::Mutex<Readers>,
    /// Rung when a member left records.
    returned: Notify,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) core: Core,
    pub(super) roster: Roster,
    /// Records read and not looked at.
    fresh: Option<Chunk>,
    /// Records read to find what was returned.
    again: Option<Chunk>,
    cursor: Cursor,
    ended: bool,
}

#[derive(Debug, Default)]
struct Readers {
    fresh: Option<Reader>,
    again: Option<Reader>,
}

/// A member, as the group sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    /// The group's number of the member.
    pub(super) member: u64,
    /// The connection's number of the subscription.
    pub(super) number: u32,
    pub(super) options: Options,
}

/// What a member waits for.
enum Need {
    Nothing,
    Returned(u64),
    Fresh(u64),
}

impl Group {
    /// Makes a group that goes on at `place`; what lies below `unsent` may have been sent before.
    pub(super) fn new(
        log: &Log,
        key: &str,
        filter: &str,
        place: u64,
        unsent: u64,
        roster: Roster,
    ) -> Self {
        let mut wanted = FilterIndex::default();
        wanted.insert(filter, (), ());
        Self {
            key: key.into(),
            cursor: cursor_name(key),
            wanted,
            log: log.clone(),
            state: Mutex::new(State {
                core: Core::new(place, unsent),
                cursor: Cursor {
                    next: place,
                    meta: roster.to_meta(),
                    pins: true,
                },
                roster,
                fresh: None,
                again: None,
                ended: false,
            }),
            readers: tokio::sync::Mutex::default(),
            returned: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the group as it is now to the log, which persists it soon.
    pub(super) fn put(&self, state: &mut State) {
        if !state.ended {
            state.cursor.next = state.core.place();
            state.cursor.meta = state.roster.to_meta();
            self.log.cursors().put(&self.cursor, state.cursor.clone());
        }
    }

    /// Ends the group: nothing holds the log for it any more.
    pub(super) fn end(&self, state: &mut State) {
        state.ended = true;
        self.log.cursors().remove(&self.cursor);
    }

    /// Moves the cursor up to what is done with.
    fn keep_place(&self, state: &mut State) {
        let place = state.core.place();
        if place != state.cursor.next && !state.ended {
            state.cursor.next = place;
            self.log.cursors().put(&self.cursor, state.cursor.clone());
        }
    }

    /// Returns how far the cursor is behind the log's durable end.
    pub(super) fn lag(&self) -> u64 {
        let end = self.log.next_durable();
        end.saturating_sub(self.lock().core.place())
    }

    /// Adds a connected member and returns its number.
    pub(super) fn join(&self, state: &mut State, client_id: &Arc<str>) -> u64 {
        let member = state.core.join();
        state.roster.connect(client_id, member);
        state.roster.set_sent_to(None);
        self.put(state);
        member
    }

    /// Changes the options of a member.
    pub(super) fn grant(&self, client_id: &Arc<str>, options: Options) {
        let mut state = self.lock();
        if state.roster.granted(client_id).is_some() {
            state.roster.enrol(client_id, options);
            self.put(&mut state);
        }
    }

    /// Removes a connected member; what it had goes to others.
    pub(super) fn leave(&self, state: &mut State, client_id: &str, member: u64) {
        if state.core.leave(member) {
            self.returned.notify_one();
        }
        state.roster.disconnect(client_id, member);
        if !state.roster.has_connected() {
            state.roster.set_sent_to(Some(state.core.unsent()));
            // Nobody is there who could read. What was read and not looked at is read again then.
            if let Ok(mut readers) = self.readers.try_lock() {
                *readers = Readers::default();
                state.fresh = None;
                state.again = None;
            }
        }
    }

    /// Takes acknowledgements of a member.
    pub(super) fn acknowledge(&self, member: u64, seqs: impl IntoIterator<Item = u64>) {
        let mut state = self.lock();
        if state.core.acknowledge(member, seqs) > 0 {
            self.keep_place(&mut state);
        }
    }

    /// Waits until there is something to send; `false` when the log was closed and all is read.
    ///
    /// # Errors
    /// As [`Reader::next_chunk`].
    ///
    /// # Cancel safety
    /// Yes; the place in the queue is lost.
    pub(super) async fn fetch(&self) -> Result<bool, LogError> {
        let mut readers = self.readers.lock().await;
        loop {
            let need = self.lock().need();
            match need {
                Need::Nothing => return Ok(true),
                Need::Returned(seq) => {
                    let Some(chunk) = readers.seek(&self.log, seq).await? else {
                        return Ok(false);
                    };
                    self.lock().again = Some(chunk);
                    return Ok(true);
                }
                Need::Fresh(position) => {
                    readers.again = None;
                    let fresh = readers
                        .fresh
                        .get_or_insert_with(|| self.log.reader(position));
                    select! {
                        chunk = fresh.next_chunk(CHUNK_BYTES) => {
                            let Some(chunk) = chunk? else {
                                return Ok(false);
                            };
                            self.lock().fresh = Some(chunk);
                            return Ok(true);
                        }
                        () = self.returned.notified() => {}
                    }
                }
            }
        }
    }

    /// Sends a member what there is, as far as its window and output have room; returns how many of the
    /// messages were sent to others before.
    pub(super) fn pump(&self, seat: Seat, out: &mut Outbound) -> u64 {
        let mut guard = self.lock();
        let state = &mut *guard;
        let repeated = state.send_returned(seat, out);
        if state.core.first_returned().is_none() {
            state.again = None;
            state.send_fresh(seat, &self.wanted, out);
        }
        self.keep_place(state);
        repeated
    }
}

/// Returns the name of a group's cursor.
pub(super) fn cursor_name(key: &str) -> String {
    format!("{}{key}", super::PREFIX)
}

impl State {
    fn need(&self) -> Need {
        match self.core.first_returned() {
            Some(seq) => match &self.again {
                Some(chunk) if chunk.seqs().contains(&seq) => Need::Nothing,
                _ => Need::Returned(seq),
            },
            None if self.fresh.is_some() => Need::Nothing,
            None => Need::Fresh(self.core.position()),
        }
    }

    fn send_returned(&mut self, seat: Seat, out: &mut Outbound) -> u64 {
        let mut repeated = 0;
        while let (Some(seq), Some(chunk)) = (self.core.first_returned(), &mut self.again) {
            let seqs = chunk.seqs();
            if !seqs.contains(&seq) || !out.has_room() {
                break;
            }
            chunk.advance(usize::try_from(seq - seqs.start).unwrap_or(usize::MAX));
            let Some(record) = chunk.iter().next() else {
                break;
            };
            let qos = record.qos.min(seat.options.qos);
            let sent = out.send(&message(&record, &seat, true));
            if sent == Sent::NotNow {
                break;
            }
            let sent = sent == Sent::Yes;
            self.core.take_returned(seat.member, seq, sent && qos > 0);
            repeated += u64::from(sent);
        }
        repeated
    }

    fn send_fresh(&mut self, seat: Seat, wanted: &FilterIndex<(), ()>, out: &mut Outbound) {
        let Some(chunk) = &mut self.fresh else {
            return;
        };
        let mut looked_at = 0;
        for record in chunk.iter() {
            if !out.has_room() {
                break;
            }
            let mut matches = false;
            wanted.for_each_match(record.topic, |(), ()| matches = true);
            let again = self.core.may_be_repeated(record.seq);
            // What was published with QoS 0 is sent at most once, whoever gets it.
            if !matches || again && record.qos == 0 {
                self.core.pass(record.seq);
            } else {
                let message = message(&record, &seat, again);
                let sent = out.send(&message);
                if sent == Sent::NotNow {
                    break;
                }
                if sent == Sent::Yes && message.qos > 0 {
                    self.core.hold(seat.member, record.seq);
                } else {
                    self.core.pass(record.seq);
                }
            }
            looked_at += 1;
        }
        chunk.advance(looked_at);
        if chunk.is_empty() {
            self.fresh = None;
        }
    }
}

fn message<'a>(record: &Record<'a>, seat: &'a Seat, dup: bool) -> Message<'a> {
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
        properties: record.properties,
        received_us: record.received_us,
        ids: seat.options.id.as_slice(),
    }
}

impl Readers {
    /// Reads the record `seq`, which is durable, and some that follow it.
    async fn seek(&mut self, log: &Log, seq: u64) -> Result<Option<Chunk>, LogError> {
        let near = |reader: &Reader| {
            let at = reader.position();
            at <= seq && seq - at < READ_PAST
        };
        let reader = match &mut self.again {
            Some(reader) if near(reader) => reader,
            other => other.insert(log.reader(seq)),
        };
        loop {
            match reader.next_chunk(CHUNK_BYTES).await? {
                Some(chunk) if chunk.seqs().end <= seq => {}
                found => return Ok(found),
            }
        }
    }
}
