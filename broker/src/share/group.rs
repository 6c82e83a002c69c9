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
//! With QoS 2 a record is bound to the client it is sent to, see [`super::core`], and the journal knows: what it says of
//! a group is the record's owner, or that it is done with, until the place has passed it.
//!
//! Memory while a member is connected: two blocks of the log, see [`ingest_log::Reader`], and what
//! [`super::core`] says. Payloads are never held: what was returned is read again.

mod giving;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ingest_log::{Chunk, Cursor, Log, LogError, Reader};
use session_state::{Change, Client};
use tokio::sync::Notify;

use self::giving::Giving;
use super::core::Core;
use super::roster::Roster;
use crate::connection::outbound::Outbound;
use crate::protocol::filter_index::FilterIndex;
use crate::session::Options;
use crate::session::replay::Replay;

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
    /// How many messages of them make one turn, and how many members have left of theirs.
    quantum: usize,
    granted: HashMap<u64, usize>,
    /// Records read to find what was returned.
    again: Option<Chunk>,
    cursor: Cursor,
    ended: bool,
    /// What the journal has as done with lies below, and how far it knows the place.
    done_to: u64,
    noted: u64,
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
                quantum: 1,
                granted: HashMap::new(),
                again: None,
                ended: false,
                done_to: 0,
                noted: 0,
            }),
            readers: tokio::sync::Mutex::default(),
            returned: Notify::new(),
        }
    }

    /// Takes up what the journal knows: whose records are on their way, and what is done with above the place.
    pub(super) fn restore(&self, bound: BTreeMap<u64, Arc<str>>, done: BTreeSet<u64>) {
        let mut state = self.lock();
        state.done_to = done.last().map_or(0, |last| last + 1);
        state.core.restore(bound, done);
    }

    /// Tells whether a record is on its way to a client.
    pub(super) fn is_bound(&self, seq: u64, client_id: &str) -> bool {
        self.lock().core.is_bound(seq, client_id)
    }

    /// Notes that a client has a record, which the journal knows.
    pub(super) fn unbind(&self, state: &mut State, client_id: &str, seq: u64) {
        if state.core.unbind(seq, client_id) {
            state.done_to = state.done_to.max(seq + 1);
            self.keep_place(state);
        }
    }

    /// Notes that a client has no session any more.
    pub(super) fn let_go(&self, client_id: &str) {
        let mut state = self.lock();
        for seq in state.core.bound_to(client_id) {
            state.done_to = state.done_to.max(seq + 1);
        }
        state.core.let_go(client_id);
    }

    /// Brings what is bound to a client whose connection has ended in line with the journal: what never left is the
    /// others' again.
    pub(super) fn reconcile(
        &self,
        state: &mut State,
        client_id: &str,
        known: &Client,
        group: &session_state::Group,
    ) {
        for seq in state.core.bound_to(client_id) {
            let mut outgoing = known.outgoing.values();
            if seq < group.place || group.done.contains(&seq) {
                self.unbind(state, client_id, seq);
            } else if !outgoing.any(|out| out.seq == seq && out.group == self.key && !out.received)
            {
                state.core.give_back(seq);
                self.returned.notify_one();
            }
        }
    }

    /// Lets a group that has no members begin anew at `since`; what is bound stays so.
    pub(super) fn begin_again(&self, state: &mut State, since: u64) {
        state.core.leap(since);
        state.fresh = None;
        state.again = None;
        if let Ok(mut readers) = self.readers.try_lock() {
            *readers = Readers::default();
        }
        self.put(state);
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

    /// Waits until there is something to send and it is the member's turn; `false` when the log was closed and all is
    /// read.
    ///
    /// # Errors
    /// As [`Reader::next_chunk`].
    ///
    /// # Cancel safety
    /// Yes; the place in the queue is lost.
    pub(super) async fn fetch(&self, member: u64, replay: &Replay) -> Result<bool, LogError> {
        let mut readers = self.readers.lock().await;
        loop {
            let need = self.lock().need();
            match need {
                Need::Nothing => {
                    self.lock().grant(member);
                    return Ok(true);
                }
                Need::Returned(seq) => {
                    let Some(chunk) = readers.seek(&self.log, seq).await? else {
                        return Ok(false);
                    };
                    self.lock().again = Some(chunk);
                    return Ok(true);
                }
                Need::Fresh(position) => {
                    readers.again = None;
                    let _turn = replay.turn(&self.log, position).await;
                    let fresh = readers
                        .fresh
                        .get_or_insert_with(|| self.log.reader(position));
                    select! {
                        chunk = fresh.next_chunk(CHUNK_BYTES) => {
                            let Some(chunk) = chunk? else {
                                return Ok(false);
                            };
                            let mut state = self.lock();
                            state.deal(chunk, &self.wanted);
                            state.grant(member);
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
    pub(super) fn pump(&self, seat: Seat, client_id: &Arc<str>, out: &mut Outbound) -> u64 {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut giving = Giving {
            key: &self.key,
            wanted: &self.wanted,
            seat,
            client_id,
            out,
        };
        let repeated = state.send_returned(&mut giving);
        if state.core.first_returned().is_none() {
            state.again = None;
            state.send_fresh(&mut giving);
        }
        self.keep_place(state);
        out.turn.changes.extend(self.place_change(state));
        repeated
    }

    /// Returns what the journal is to know of the place, so that it can forget what is done with below.
    fn place_change(&self, state: &mut State) -> Option<Change> {
        let seq = state.core.place();
        if state.ended || state.noted >= seq || state.noted >= state.done_to {
            return None;
        }
        state.noted = seq;
        let group = self.key.clone();
        Some(Change::Place { group, seq })
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

    /// Tells whether there is nobody for whom the group is.
    pub(super) fn is_over(&self) -> bool {
        self.roster.is_over() && !self.core.has_bound()
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
