//! A broker in miniature over the store: the order of its steps is what is tested.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::num::NonZeroU16;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use ingest_log::sim::{Random, SimDisk};
use ingest_log::{Commit, Cursor, Log, LogConfig, RecordBatch, RecordHead, Steps};

use super::campaign::Sabotage;
use super::clients::World;
use super::ways::{GROUP_CURSOR, Ways};
use crate::{Change, Floor, Store};

const WINDOW: usize = 4;
const NAMES: [&str; 2] = ["p0", "p1"];

fn poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// What is done once a commit has resolved.
#[derive(Debug)]
pub(super) enum Then {
    Pubrec(usize, Vec<NonZeroU16>, Option<(u64, u64)>, Floor),
    Pubcomp(usize, NonZeroU16),
    Publish(NonZeroU16, u64),
    Pubrel(NonZeroU16),
    /// A message with its number, to one of the others; see [`super::ways`].
    Give(usize, NonZeroU16, u64),
    Release(usize, NonZeroU16),
    Forget(usize, NonZeroU16),
}

pub(super) struct Broker {
    pub(super) messages: Log,
    message_steps: Steps,
    state_steps: Steps,
    pub(super) store: Store,
    pub(super) waiting: VecDeque<(Commit, Then)>,
    pub(super) sabotage: Sabotage,
    pub(super) ways: Ways,
    /// First record not looked at.
    pub(super) next: u64,
    /// Records on the way, by id; `true`: received.
    pub(super) sent: BTreeMap<NonZeroU16, (u64, bool)>,
    last_id: u16,
    failed: bool,
}

fn config(dir: &str, held: bool) -> LogConfig {
    LogConfig {
        segment_bytes: 1_024,
        max_pending_bytes: 64 << 10,
        held,
        ..LogConfig::new(dir)
    }
}

pub(super) fn number_of(payload: &[u8]) -> Option<u64> {
    payload.try_into().ok().map(u64::from_le_bytes)
}

impl Broker {
    pub(super) fn open(disk: &SimDisk, sabotage: Sabotage) -> Result<Self, String> {
        let open = |dir, held| {
            let opened = Log::open_stepped(Arc::new(disk.clone()), config(dir, held));
            opened.map_err(|error| error.to_string())
        };
        let (messages, message_steps, _) = open("log", true)?;
        let (journal, state_steps, _) = open("state", false)?;
        let encode = |record: &ingest_log::Record<'_>| {
            (!record.payload.is_empty()).then(|| Bytes::copy_from_slice(record.payload))
        };
        let store = Store::open(journal, messages.clone(), encode);
        let store = store.map_err(|error| error.to_string())?;
        let mut broker = Self {
            next: 0,
            sent: BTreeMap::new(),
            ways: Ways::default(),
            last_id: 0,
            failed: false,
            messages,
            message_steps,
            state_steps,
            store,
            waiting: VecDeque::new(),
            sabotage,
        };
        broker.subscribe();
        broker.resume();
        broker.resume_ways();
        Ok(broker)
    }

    /// Makes session and group hold the messages, as a subscription does before it is acknowledged: what one of them has
    /// taken is not to go while the other's place was never written.
    fn subscribe(&mut self) {
        let cursors = self.messages.cursors();
        for name in ["session/s", GROUP_CURSOR] {
            if cursors.get(name).is_none() {
                let cursor = Cursor {
                    next: 0,
                    meta: Bytes::new(),
                    pins: true,
                };
                cursors.put(name, cursor);
            }
        }
        self.message_steps.keep();
    }

    /// Takes the subscriber's session up as the store and the cursor have it.
    fn resume(&mut self) {
        let cursor = self.messages.cursors().get("session/s");
        let client = self.store.client("s").unwrap_or_default();
        self.next = cursor
            .map_or(0, |cursor| cursor.next)
            .max(client.reading.place);
        self.sent = client
            .outgoing
            .iter()
            .map(|(&id, outgoing)| (id, (outgoing.seq, outgoing.received)))
            .collect();
    }

    /// Returns the retained messages as a later subscriber would get them.
    pub(super) fn retained(&self) -> BTreeMap<u64, u64> {
        let retained = self.store.retained().into_iter();
        let numbers = retained
            .filter_map(|(topic, message)| Some((topic.parse().ok()?, number_of(&message.value)?)));
        numbers.collect()
    }

    /// Takes PUBLISH packets of one publisher.
    pub(super) fn publish(
        &mut self,
        publisher: usize,
        packets: &[(NonZeroU16, u64)],
        retain: Option<u64>,
    ) -> Result<(), String> {
        let name: Arc<str> = NAMES[publisher].into();
        let client = self.store.client(&name).unwrap_or_default();
        let floor = self.store.floor();
        let (mut batch, mut taken, mut answered) = (RecordBatch::new(), Vec::new(), Vec::new());
        for &(id, number) in packets {
            let held = client.incoming.get(&id).filter(|i| !i.released);
            if held.is_some_and(|incoming| incoming.seq >= self.messages.next_durable()) {
                // Nothing can be said of it yet.
                continue;
            }
            answered.push(id);
            if held.is_none() {
                let topic = retain.map_or("t".to_owned(), |topic| topic.to_string());
                let head = RecordHead {
                    qos: 2,
                    retain: retain.is_some(),
                    received_us: 0,
                    topic: &topic,
                    client_id: &name,
                    properties: &[],
                };
                let pushed = batch.push_tracked(&head, Some(id), &number.to_le_bytes());
                pushed.map_err(|error| error.to_string())?;
                taken.push(id);
            }
        }
        let Some(Ok(commit)) = poll(pin!(self.messages.append(batch))) else {
            return Ok(());
        };
        let seqs = commit.seqs();
        self.store
            .note_incoming(&name, taken.into_iter().zip(seqs.start..));
        let retained = retain.map(|topic| (topic, seqs.start));
        let retained = retained.filter(|_| !seqs.is_empty());
        self.waiting
            .push_back((commit, Then::Pubrec(publisher, answered, retained, floor)));
        Ok(())
    }

    pub(super) fn change(
        &mut self,
        client: &str,
        changes: &[Change],
        then: Then,
        early: bool,
        world: &mut World,
    ) {
        // A journal that has failed or is full says so; the connection would end.
        if let Ok(commit) = self.store.change(client, changes) {
            if early {
                self.act(then, world);
            } else {
                self.waiting.push_back((commit, then));
            }
        }
    }

    /// Does what a commit allows.
    pub(super) fn act(&mut self, then: Then, world: &mut World) {
        match then {
            Then::Pubrec(publisher, ids, retained, floor) => {
                if let Some((topic, seq)) = retained
                    && let Ok(Some(chunk)) = self.messages.reader(seq).try_next_chunk(1)
                    && let Some(record) = chunk.iter().next()
                {
                    let value = Bytes::copy_from_slice(record.payload);
                    let number = number_of(record.payload);
                    self.store
                        .note_retained(&topic.to_string().into(), seq, Some(value));
                    let entry = world.retained.entry(topic).or_default();
                    entry.0 = number.max(entry.0);
                }
                for id in ids {
                    // Some are lost with their connection, and the publisher sends again.
                    world.answers += 1;
                    if world.answers.is_multiple_of(3) {
                        continue;
                    }
                    let number = world.publishers[publisher].on_pubrec(id);
                    world.acknowledged.extend(number);
                }
                drop(floor);
            }
            Then::Pubcomp(publisher, id) => world.publishers[publisher].on_pubcomp(id),
            Then::Publish(id, seq) => {
                if let Some(number) = self.read(seq) {
                    world.subscriber.on_publish(id, number);
                }
            }
            Then::Pubrel(id) => world.subscriber.on_pubrel(id),
            Then::Give(who, id, number) => world.others[who].on_publish(id, number),
            Then::Release(who, id) => world.others[who].on_pubrel(id),
            Then::Forget(who, id) => self.ways.forget(who, id),
        }
    }

    pub(super) fn read(&self, seq: u64) -> Option<u64> {
        let chunk = self.messages.reader(seq).try_next_chunk(1).ok()??;
        let record = chunk.iter().next().filter(|record| record.seq == seq)?;
        number_of(record.payload)
    }

    /// Gives a record to the subscriber, as far as its window has room.
    pub(super) fn deliver(&mut self, world: &mut World) {
        if self.sent.len() >= WINDOW || self.next >= self.messages.next_durable() {
            return;
        }
        let seq = self.next;
        self.next += 1;
        let done = self
            .store
            .client("s")
            .is_some_and(|c| c.reading.done.contains(&seq));
        if done || self.sent.values().any(|(there, _)| *there == seq) {
            return;
        }
        let id = loop {
            self.last_id = self.last_id % 9 + 1;
            match NonZeroU16::new(self.last_id) {
                Some(id) if !self.sent.contains_key(&id) => break id,
                _ => {}
            }
        };
        self.sent.insert(id, (seq, false));
        let group = "".into();
        let early = self.sabotage == Sabotage::SendEarly;
        let changes = [Change::Sent { id, seq, group }];
        self.change("s", &changes, Then::Publish(id, seq), early, world);
    }

    /// Takes a PUBREC for a message the subscriber has.
    fn pubrec(&mut self, id: NonZeroU16, world: &mut World) {
        let Some((seq, received)) = self.sent.get_mut(&id) else {
            return;
        };
        *received = true;
        let seq = *seq;
        let open = self.sent.values().filter(|(_, received)| !received);
        // What was looked at on an earlier connection is looked at again: not beyond that.
        let place = open.map(|(seq, _)| *seq).fold(self.next, u64::min);
        let group: Box<str> = "".into();
        let changes = [
            Change::Received {
                id,
                seq,
                group: group.clone(),
            },
            Change::Place { group, seq: place },
        ];
        let early = self.sabotage == Sabotage::ReleaseEarly;
        self.change("s", &changes, Then::Pubrel(id), early, world);
    }

    /// Takes a PUBCOMP.
    fn pubcomp(&mut self, id: NonZeroU16) {
        if self.sent.get(&id).is_some_and(|(_, received)| *received) {
            self.sent.remove(&id);
            drop(self.store.change("s", &[Change::Completed { id }]));
        }
    }

    /// The publisher connects again and sends all that is open once more.
    pub(super) fn publisher_returns(
        &mut self,
        publisher: usize,
        world: &mut World,
    ) -> Result<(), String> {
        let Some(()) = self.settle(world) else {
            return Ok(());
        };
        let client = &world.publishers[publisher];
        let again: Vec<_> = client.unreceived.iter().map(|(n, id)| (*id, *n)).collect();
        for packet in again {
            let retain = world.retained.iter().find(|(_, r)| r.1.contains(&packet.1));
            self.publish(publisher, &[packet], retain.map(|(topic, _)| *topic))?;
        }
        Ok(())
    }

    /// The subscriber connects again: what is open goes once more.
    pub(super) fn subscriber_returns(&mut self, world: &mut World) {
        if self.settle(world).is_none() {
            return;
        }
        self.resume();
        for (id, (seq, received)) in self.sent.clone() {
            let then = if received {
                Then::Pubrel(id)
            } else {
                Then::Publish(id, seq)
            };
            self.act(then, world);
        }
    }

    /// Waits until all that was begun is durable; `None` when that does not happen.
    pub(super) fn settle(&mut self, world: &mut World) -> Option<()> {
        for _ in 0..4 {
            self.commit(world);
        }
        // After a failure the process ends, and nobody is served any more.
        (self.waiting.is_empty() && !self.failed).then_some(())
    }

    pub(super) fn commit(&mut self, world: &mut World) {
        self.message_steps.commit();
        self.state_steps.commit();
        for (mut commit, then) in std::mem::take(&mut self.waiting) {
            match poll(Pin::new(&mut commit)) {
                Some(Ok(_)) => self.act(then, world),
                Some(Err(_)) => self.failed = true,
                None => self.waiting.push_back((commit, then)),
            }
        }
    }

    pub(super) fn checkpoint(&mut self) {
        let store = self.store.clone();
        let mut checkpoint = pin!(store.checkpoint());
        for _ in 0..8 {
            if poll(checkpoint.as_mut()).is_some() {
                break;
            }
            self.state_steps.commit();
            self.state_steps.keep();
        }
    }

    /// Moves the session's cursor up to what is done with, so that old segments go.
    pub(super) fn keep_place(&mut self) {
        let open = self.sent.values().filter(|(_, received)| !received);
        // What was looked at on an earlier connection is looked at again: not beyond that.
        let place = open.map(|(seq, _)| *seq).fold(self.next, u64::min);
        // What was received counts only once that is durable.
        let waits = self
            .waiting
            .iter()
            .any(|(_, then)| matches!(then, Then::Pubrel(_)));
        if !waits {
            let cursor = Cursor {
                next: place,
                meta: Bytes::new(),
                pins: true,
            };
            self.messages.cursors().put("session/s", cursor);
        }
        self.keep_group_place();
        self.message_steps.keep();
        self.state_steps.keep();
    }

    /// Takes a PUBREL.
    pub(super) fn pubrel(&mut self, publisher: usize, id: NonZeroU16, world: &mut World) {
        // A client sends PUBREL once on a connection.
        let waits = |then: &Then| matches!(then, Then::Pubcomp(p, there) if (*p, *there) == (publisher, id));
        if self.waiting.iter().any(|(_, then)| waits(then)) {
            return;
        }
        let client = self.store.client(NAMES[publisher]).unwrap_or_default();
        let held = client.incoming.get(&id).filter(|i| !i.released);
        let change = held.map(|incoming| Change::Released {
            id,
            seq: incoming.seq,
        });
        let early = self.sabotage == Sabotage::CompleteEarly;
        let changes: Vec<_> = change.into_iter().collect();
        self.change(
            NAMES[publisher],
            &changes,
            Then::Pubcomp(publisher, id),
            early,
            world,
        );
    }

    /// The subscriber answers something that is open.
    pub(super) fn answer(&mut self, random: &mut Random, world: &mut World) {
        let open: Vec<_> = self.sent.iter().map(|(id, sent)| (*id, *sent)).collect();
        if open.is_empty() {
            return;
        }
        let (id, (_, received)) = open[random.below(open.len())];
        let waits = self.waiting.iter().any(|(_, then)| match then {
            Then::Publish(there, _) | Then::Pubrel(there) => *there == id,
            _ => false,
        });
        if waits {
            return;
        }
        match (received, world.subscriber.held.contains(&id)) {
            (false, true) => self.pubrec(id, world),
            (true, false) => self.pubcomp(id),
            _ => {}
        }
    }
}
