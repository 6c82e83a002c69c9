//! Serves a persistent session from the log.
//!
//! Invariants: records are looked at in order, each once per connection; what is sent with QoS 1 stays in the
//! window, and in the ledger, until its PUBACK, what is sent with QoS 2 until its PUBREC is durable; the session's place
//! is the lowest unacknowledged record, or the first one not yet looked at. While window or output are full nothing is
//! read: the log holds the rest. What an earlier connection left open with QoS 2 goes again with the id it had, and
//! what the client has of it not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use ingest_log::{Chunk, Log, LogError, Reader, Record};
use session_state::{Change, Client};

use super::ledger::Ledger;
use super::replay::Replay;
use super::unfinished::Left;
use super::window::Origin;
use super::{Options, Session, Subscription};
use crate::connection::outbound::{Message, Outbound, Sent};
use crate::protocol::filter_index::FilterIndex;
use crate::sabotage::{Step, leaves_out};

/// The delivery to one connected client with a persistent session.
#[derive(Debug)]
pub(crate) struct Delivery {
    log: Log,
    replay: Replay,
    session: Session,
    /// By filter and where the subscription ended.
    wanted: FilterIndex<u64, Wanted>,
    /// There is none while there is no subscription.
    reader: Option<Reader>,
    /// Records that were read, and how many of them were looked at.
    chunk: Option<(Chunk, usize)>,
    /// What was sent with QoS 1 and not yet acknowledged.
    ledger: Ledger,
    /// Room for the identifiers of the subscriptions a record is for.
    ids: Vec<u32>,
    /// First record not looked at.
    place: u64,
    /// What an earlier connection sent with QoS 2 and has no PUBREC for, by record.
    again: BTreeMap<u64, NonZeroU16>,
    /// What one of this process sent with QoS 1 and has no PUBACK for, by record.
    once: BTreeMap<u64, NonZeroU16>,
    /// Records the client has, though the place is below them.
    done: BTreeSet<u64>,
    /// Whether the journal is to know when the place moves, and how far it knows.
    notes: bool,
    noted: u64,
    /// What lies below may have been sent before: again it goes with DUP, and with QoS 0 not at all.
    unsent: u64,
    /// Whether retained messages are to be delivered or acknowledged.
    awaits_retained: bool,
    /// Whether the journal has retained messages as done with.
    knows_retained: bool,
    /// Whether a subscription has ended and is to be completed.
    has_ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    options: Options,
    since: u64,
    until: u64,
}

/// Bytes of records taken at a time; the reader itself reads larger blocks.
const CHUNK_BYTES: usize = 16 << 10;

impl Delivery {
    /// Goes on at the session's place; see [`Session::resume`] for `unsent`. `client` is what the journal knows of it.
    pub(crate) fn new(
        log: &Log,
        replay: &Replay,
        mut session: Session,
        unsent: u64,
        client: &Client,
        left: &Left,
    ) -> Self {
        session.move_to(log, session.next().max(client.reading.place));
        let open = client.outgoing.iter();
        let open = open.filter(|(_, o)| !o.received && o.group.is_empty());
        let mut subscriptions = session.subscriptions().iter();
        let awaits_retained = subscriptions.any(|s| s.retained_to.is_some());
        let place = session.next();
        let once = left.sent.iter().filter(|(_, seq)| *seq >= place);
        let done = left.done.iter().filter(|seq| **seq >= place);
        let mut delivery = Self {
            log: log.clone(),
            replay: replay.clone(),
            wanted: FilterIndex::default(),
            reader: None,
            chunk: None,
            ledger: Ledger::default(),
            ids: Vec::new(),
            again: open.map(|(&id, outgoing)| (outgoing.seq, id)).collect(),
            once: once.map(|&(id, seq)| (seq, id)).collect(),
            done: client.reading.done.iter().chain(done).copied().collect(),
            notes: !client.reading.done.is_empty(),
            noted: client.reading.place,
            place: session.next(),
            unsent,
            awaits_retained,
            knows_retained: !client.kept.is_empty(),
            has_ended: false,
            session,
        };
        delivery.subscriptions_changed();
        delivery
    }

    /// Returns what goes again with QoS 1: packet ids and records.
    pub(crate) fn once(&self) -> impl Iterator<Item = (NonZeroU16, u64)> {
        self.once.iter().map(|(&seq, &id)| (id, seq))
    }

    /// Returns what is on its way with QoS 1, for the next connection.
    pub(crate) fn left(&self, out: &Outbound) -> Left {
        Left {
            sent: out.window.unacknowledged().collect(),
            done: self
                .ledger
                .done()
                .chain(self.done.iter().copied())
                .collect(),
        }
    }

    /// Tells whether the session has a subscription for exactly this filter.
    pub(crate) fn has(&self, filter: &str) -> bool {
        let mut there = self.session.live();
        there.any(|subscription| subscription.filter == filter)
    }

    /// Returns the filters subscribed to, those of ended subscriptions that are to be completed among them.
    pub(crate) fn filters(&self) -> impl Iterator<Item = &str> {
        let subscriptions = self.session.subscriptions().iter();
        subscriptions.map(|subscription| subscription.filter.as_str())
    }

    /// Returns the first record that is not done with for exactly this filter, if there is a subscription.
    pub(crate) fn stands(&self, filter: &str) -> Option<u64> {
        let subscription = self.session.live().find(|there| there.filter == filter)?;
        Some(subscription.since.max(self.session.next()))
    }

    /// Returns the number of subscriptions.
    pub(crate) fn subscriptions(&self) -> usize {
        self.session.live().count()
    }

    /// Returns the subscriptions whose retained messages are still to be delivered.
    pub(crate) fn awaiting_retained(&self) -> impl Iterator<Item = (&Subscription, u64)> {
        let live = self.session.live();
        live.filter_map(|subscription| Some((subscription, subscription.retained_to?)))
    }

    /// Tells whether the journal has retained messages as done with that were asked for before, and none are to be
    /// delivered any more.
    pub(crate) fn has_old_retained(&self) -> bool {
        self.knows_retained && !self.awaits_retained
    }

    /// Notes that the journal forgets them.
    pub(crate) fn forgot_retained(&mut self) {
        self.knows_retained = false;
    }

    /// Notes what became of retained messages.
    pub(crate) fn keep_retained(&mut self, out: &Outbound) {
        if self.awaits_retained && out.has_no_retained() {
            self.awaits_retained = false;
            self.knows_retained = true;
            self.session.end_retained();
            self.session.put(&self.log);
        }
    }

    /// Adds subscriptions, durably.
    ///
    /// # Errors
    /// When the log has failed or is closed.
    pub(crate) async fn subscribe(&mut self, added: Vec<Subscription>) -> Result<(), LogError> {
        if self.reader.is_none()
            && let Some(since) = added.iter().map(|subscription| subscription.since).min()
        {
            self.place = since;
            self.session.move_to(&self.log, since);
        }
        self.awaits_retained |= added.iter().any(|new| new.retained_to.is_some());
        self.session.subscribe(added);
        self.subscriptions_changed();
        self.session.put_durable(&self.log).await
    }

    /// Removes subscriptions, durably.
    ///
    /// # Errors
    /// When the log has failed or is closed.
    pub(crate) async fn unsubscribe(&mut self, filters: &[String]) -> Result<(), LogError> {
        self.keep_place();
        // What an earlier connection was sent and did not acknowledge was begun as well.
        let begun = self.place.max(self.unsent);
        self.session.unsubscribe(filters, begun);
        self.subscriptions_changed();
        if leaves_out(Step::Unsubscribed) {
            return Ok(());
        }
        self.session.put_durable(&self.log).await
    }

    /// Removes subscriptions, durably: what is not acknowledged is not sent again either.
    ///
    /// # Errors
    /// When the log has failed or is closed.
    pub(crate) async fn withdraw(&mut self, filters: &[String]) -> Result<(), LogError> {
        self.session.withdraw(filters);
        self.subscriptions_changed();
        self.session.put_durable(&self.log).await
    }

    fn subscriptions_changed(&mut self) {
        self.wanted = FilterIndex::default();
        self.has_ended = false;
        for subscription in self.session.subscriptions() {
            let Subscription {
                filter,
                options,
                since,
                until,
                retained_to: _,
            } = subscription;
            let wanted = Wanted {
                options: *options,
                since: *since,
                until: until.unwrap_or(u64::MAX),
            };
            self.has_ended |= until.is_some();
            self.wanted.insert(filter, wanted.until, wanted);
        }
        if self.session.subscriptions().is_empty() {
            self.reader = None;
            self.chunk = None;
        } else if self.reader.is_none() {
            self.reader = Some(self.log.reader(self.place));
        }
    }

    /// Tells whether [`Delivery::fetch`] has something to wait for.
    pub(crate) fn is_hungry(&self) -> bool {
        self.reader.is_some() && self.chunk.is_none()
    }

    /// Waits for records; `false` when the log was closed and all is read.
    ///
    /// # Errors
    /// As [`Reader::next_chunk`].
    ///
    /// # Cancel safety
    /// Yes.
    pub(crate) async fn fetch(&mut self) -> Result<bool, LogError> {
        let Some(reader) = &mut self.reader else {
            return Ok(false);
        };
        let _turn = self.replay.turn(&self.log, self.place).await;
        self.chunk = reader
            .next_chunk(CHUNK_BYTES)
            .await?
            .map(|chunk| (chunk, 0));
        Ok(self.chunk.is_some())
    }

    /// Sends what matches, as far as window and output have room.
    pub(crate) fn pump(&mut self, out: &mut Outbound) {
        let Some((chunk, looked_at)) = &mut self.chunk else {
            return;
        };
        let terms = Terms {
            client_id: self.session.client_id(),
            wanted: &self.wanted,
            unsent: self.unsent,
        };
        for record in chunk.iter().skip(*looked_at) {
            // What was sent again is not in the window's queue, and must not let the ledger grow either.
            if !out.has_room() || self.ledger.len() >= out.window.span() {
                return;
            }
            if self.done.remove(&record.seq) {
                // The client has it, and is not to get it from the next connection either.
                self.ledger.push(record.seq);
                self.ledger.acknowledge(record.seq);
            } else if let Some(&id) = self.again.get(&record.seq) {
                let sent = if is_wanted(&self.wanted, &record) {
                    let (_, retain) = granted(&terms, &record, &mut self.ids);
                    send_again(&record, id, (retain, &self.ids), out)
                } else {
                    Sent::Never
                };
                match sent {
                    Sent::NotNow => return,
                    Sent::Yes => self.ledger.push(record.seq),
                    // It was larger than what the client takes now, or the subscription was withdrawn.
                    Sent::Never => drop(out.take_pubrec(id, true)),
                }
                self.again.remove(&record.seq);
            } else {
                let id = self.once.get(&record.seq).copied();
                if !send(&terms, &record, id, out, &mut self.ledger, &mut self.ids) {
                    return;
                }
                self.once.remove(&record.seq);
            }
            *looked_at += 1;
            self.place = record.seq + 1;
        }
        self.chunk = None;
        self.keep_place();
    }

    /// Takes an acknowledgement; [`Delivery::keep_place`] makes something of it.
    pub(crate) fn acknowledge(&mut self, seq: u64) {
        if self.ledger.acknowledge(seq) {
            return;
        }
        let of_two = self.again.remove(&seq);
        if of_two.or_else(|| self.once.remove(&seq)).is_some() {
            // The client had it before it was sent again.
            self.done.insert(seq);
        }
    }

    /// Notes that records above the place are done with, as the journal knows.
    pub(crate) fn notes_places(&mut self) {
        self.notes = true;
    }

    /// Returns what the journal is to know of the place, so that it can forget what is done with below.
    pub(crate) fn place_change(&mut self) -> Option<Change> {
        let seq = self.session.next();
        if !self.notes || seq <= self.noted {
            return None;
        }
        self.noted = seq;
        self.notes = self.ledger.lowest().is_some() || !self.done.is_empty();
        let group = Box::default();
        Some(Change::Place { group, seq })
    }

    /// Moves the session's place up to what is done with.
    pub(crate) fn keep_place(&mut self) {
        let place = self.ledger.lowest().unwrap_or(self.place);
        self.session.move_to(&self.log, place);
        if self.has_ended && !leaves_out(Step::Completed) && self.session.drop_completed() {
            self.session.put(&self.log);
            self.has_ended = self
                .session
                .subscriptions()
                .iter()
                .any(|s| s.until.is_some());
            if self.session.subscriptions().is_empty() {
                // Those that have ended match nothing from here on.
                self.reader = None;
                self.chunk = None;
            }
        }
    }

    /// Marks the session as connected, on disk: after a crash all that was durable counts as sent. It outlives the
    /// connection by `expiry` seconds.
    ///
    /// # Errors
    /// When the log has failed or is closed.
    pub(crate) async fn begin(&mut self, expiry: u32) -> Result<(), LogError> {
        self.session.set_connected(expiry);
        self.session.put_durable(&self.log).await
    }

    /// Leaves the session for the next connection of the client, at `left_us`; it ends `expiry` seconds later.
    pub(crate) fn end(mut self, left_us: i64, expiry: u32) {
        self.keep_place();
        let sent_to = self.place.max(self.unsent);
        self.session.set_left(sent_to, left_us, expiry);
        self.session.put(&self.log);
    }
}

/// Tells whether there is still a subscription for a record, if only to complete it.
fn is_wanted(wanted: &FilterIndex<u64, Wanted>, record: &Record<'_>) -> bool {
    let mut is_wanted = false;
    wanted.for_each_match(record.topic, |_, wanted| {
        is_wanted |= (wanted.since..wanted.until).contains(&record.seq);
    });
    is_wanted
}

/// Sends a record with the packet id an earlier connection sent it with.
fn send_again(
    record: &Record<'_>,
    id: NonZeroU16,
    (retain, ids): (bool, &[u32]),
    out: &mut Outbound,
) -> Sent {
    let message = Message {
        topic: record.topic,
        payload: record.payload,
        qos: 2,
        retain,
        dup: true,
        origin: Origin::Session { seq: record.seq },
        group: "",
        properties: record.properties,
        received_us: record.received_us,
        ids,
    };
    out.send_again(&message, id)
}

/// What holds for every record of a chunk.
#[derive(Debug, Clone, Copy)]
struct Terms<'a> {
    client_id: &'a str,
    wanted: &'a FilterIndex<u64, Wanted>,
    unsent: u64,
}

/// Tells what the subscriptions grant a record, if it is for any, and whether it keeps RETAIN; gathers their identifiers.
fn granted(terms: &Terms<'_>, record: &Record<'_>, ids: &mut Vec<u32>) -> (Option<u8>, bool) {
    let mut granted = None;
    let mut retain = false;
    ids.clear();
    terms.wanted.for_each_match(record.topic, |_, wanted| {
        let options = wanted.options;
        let is_own = options.no_local && record.client_id == terms.client_id;
        let is_for_it = (wanted.since..wanted.until).contains(&record.seq);
        if is_for_it && !is_own {
            granted = granted.max(Some(options.qos));
            retain |= options.retain_as_published && record.retain;
            ids.extend(options.id);
        }
    });
    (granted, retain)
}

/// Sends a record if it is wanted, with QoS 1 and the packet id it had if there is one; `false` when the window is full.
fn send(
    terms: &Terms<'_>,
    record: &Record<'_>,
    id: Option<NonZeroU16>,
    out: &mut Outbound,
    ledger: &mut Ledger,
    ids: &mut Vec<u32>,
) -> bool {
    let (granted, retain) = granted(terms, record, ids);
    let Some(granted) = granted else {
        id.map(|id| out.window.acknowledge(id));
        return true;
    };
    let qos = id.map_or(granted.min(record.qos), |_| 1);
    let again = record.seq < terms.unsent;
    if again && qos == 0 {
        return true;
    }
    let message = Message {
        topic: record.topic,
        payload: record.payload,
        qos,
        retain,
        dup: again,
        origin: Origin::Session { seq: record.seq },
        group: "",
        properties: record.properties,
        received_us: record.received_us,
        ids,
    };
    let sent = match id {
        Some(id) => out.send_again(&message, id),
        None => out.send(&message),
    };
    if sent == Sent::Never {
        id.map(|id| out.window.acknowledge(id));
    }
    if sent == Sent::Yes && qos > 0 {
        ledger.push(record.seq);
    }
    sent != Sent::NotNow
}
