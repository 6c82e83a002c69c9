//! The state and its journal.
//!
//! Invariants: changes are applied to the image in the order in which the journal holds them; nothing is written about
//! a message above the mark that the messages' log could still lose; the mark in the journal is never above a message
//! of which the journal does not know.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use ingest_log::{Commit, Cursor, Log, LogError, Record, RecordBatch, RecordHead};

use crate::image::{Image, Key};
use crate::recovery::{self, CLIENT, CURSOR, GROUP, MARK, RETAINED, VERSION};
use crate::{Change, Client, Group, Outgoing, Retained};

/// Bytes the journal may take besides twice what is alive.
pub const SLACK_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 16 << 20 };
/// Bytes of a batch of retained messages, and of entities written again.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes that an entity written again takes besides its changes, roughly.
const ENTITY_BYTES: u64 = 100;

/// Why the state cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The journal or the messages' log cannot be read or written.
    #[error("the journal of the session state")]
    Log(#[from] LogError),
    /// A record is whole and not of a form that this program knows.
    #[error("the journal's record {at} cannot be read; a newer program may have written it")]
    Unreadable {
        /// Its sequence.
        at: u64,
    },
    /// The journal is of another version.
    #[error("the journal is of version {found}, and this program knows {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// More changes are on their way to the disk than may be.
    #[error("the journal has no room for more changes before the disk has taken what is there")]
    Busy,
}

/// The state. Cheap to clone; all clones share it.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    journal: Log,
    messages: Log,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    image: Image,
    /// Clients of whom messages were noted that the journal does not hold.
    noted: HashSet<Arc<str>>,
    /// Topics whose retained message changed since it was written.
    changed: HashSet<Arc<str>>,
    /// What holds the mark back.
    floors: BTreeMap<u64, u64>,
    next_floor: u64,
    /// The journal's last mark.
    marked: Option<u64>,
}

/// Holds the mark back while messages are on their way into the log that are to be noted; see [`Store::floor`].
#[derive(Debug)]
pub struct Floor {
    store: Store,
    number: u64,
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.store.lock().floors.remove(&self.number);
    }
}

impl Store {
    /// Takes up the state from its journal and from the messages that came after the journal's mark; `encode` makes
    /// a retained message of a record, or `None` of one that clears its topic.
    ///
    /// # Errors
    /// When a log cannot be read or another version wrote the journal.
    pub fn open(
        journal: Log,
        messages: Log,
        encode: impl Fn(&Record<'_>) -> Option<Bytes>,
    ) -> Result<Self, Error> {
        let (mut image, marked) = recovery::replay(&journal, &messages)?;
        messages.cursors().hold(image.mark);
        let changed = recovery::catch_up(&mut image, &messages, encode)?;
        let noted = image.clients.iter();
        let noted = noted.filter(|(_, c)| c.incoming.values().any(|i| !i.journaled));
        let noted = noted.map(|(id, _)| Arc::clone(id)).collect();
        tracing::info!(
            clients = image.clients.len(),
            groups = image.groups.len(),
            retained = image.retained.len(),
            mark = image.mark,
            "took up the session state"
        );
        let mark = image.mark;
        let store = Self(Arc::new(Shared {
            journal,
            messages,
            inner: Mutex::new(Inner {
                image,
                noted,
                changed: changed.into_iter().collect(),
                floors: BTreeMap::new(),
                next_floor: 0,
                marked,
            }),
        }));
        if marked.is_none() {
            // Whatever is written from here on is about this log of messages.
            store.write_mark(mark)?;
        }
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is known of a client.
    pub fn client(&self, client_id: &str) -> Option<Client> {
        self.lock().image.clients.get(client_id).cloned()
    }

    /// Returns what is known of a shared subscription.
    pub fn group(&self, name: &str) -> Option<Group> {
        self.lock().image.groups.get(name).cloned()
    }

    /// Returns all that is on its way to clients, by client and packet id.
    pub fn outgoing(&self) -> Vec<(Arc<str>, NonZeroU16, Outgoing)> {
        let inner = self.lock();
        let clients = inner.image.clients.iter();
        let all = clients.flat_map(|(client_id, client)| {
            let outgoing = client.outgoing.iter();
            outgoing.map(|(&id, outgoing)| (Arc::clone(client_id), id, outgoing.clone()))
        });
        all.collect()
    }

    /// Returns all retained messages by topic.
    pub fn retained(&self) -> Vec<(Arc<str>, Retained)> {
        let inner = self.lock();
        let retained = inner.image.retained.iter();
        retained.map(|(t, r)| (Arc::clone(t), r.clone())).collect()
    }

    /// Returns all wills by client.
    pub fn wills(&self) -> Vec<(Arc<str>, Bytes)> {
        let inner = self.lock();
        let clients = inner.image.clients.iter();
        let wills = clients.filter_map(|(id, client)| Some((Arc::clone(id), client.will.clone()?)));
        wills.collect()
    }

    /// Changes the state of a client; what depends on it may happen once the commit has resolved. Without changes
    /// the commit resolves when all that was changed before is durable.
    ///
    /// # Errors
    /// [`Error::Busy`], and nothing is changed; [`Error::Log`] when the journal has failed or is closed.
    pub fn change(&self, client_id: &str, changes: &[Change]) -> Result<Commit, Error> {
        let mut payload = Vec::with_capacity(16 * changes.len());
        for change in changes {
            change.put(&mut payload);
        }
        let mut batch = RecordBatch::with_capacity(payload.len() + client_id.len() + 64);
        batch.push(&head(CLIENT, client_id), &payload)?;
        let mut inner = self.lock();
        let Some(commit) = self.0.journal.try_append(&mut batch)? else {
            return Err(Error::Busy);
        };
        let at = commit.seqs().start;
        if !changes.is_empty() {
            inner.image.apply(at, client_id, changes);
        }
        Ok(commit)
    }

    /// Ends the session of a client: what was taken from it and what was on its way to it is forgotten. To be called
    /// while nobody appends messages of the client. `None` when there was nothing to forget.
    ///
    /// # Errors
    /// As [`Store::change`].
    pub fn clear(&self, client_id: &str) -> Result<Option<Commit>, Error> {
        let Some(client) = self.client(client_id) else {
            return Ok(None);
        };
        let below = self.0.messages.next_accepted();
        // What was being sent for a group is not for its other members [MQTT-4.8.2-5].
        let sent = client
            .outgoing
            .into_values()
            .filter(|o| !o.group.is_empty());
        let mut changes: Vec<_> = sent
            .map(|Outgoing { group, seq, .. }| Change::Done { group, seq })
            .collect();
        changes.push(Change::Cleared { below });
        self.change(client_id, &changes).map(Some)
    }

    /// Holds the mark where it may be now. To be taken before messages are appended that will be noted, and kept
    /// until they are.
    pub fn floor(&self) -> Floor {
        let mut inner = self.lock();
        let number = inner.next_floor;
        inner.next_floor += 1;
        inner.floors.insert(number, self.0.messages.next_durable());
        drop(inner);
        Floor {
            store: self.clone(),
            number,
        }
    }

    /// Notes messages that the log has accepted with their packet ids; under a [`Floor`].
    pub fn note_incoming(
        &self,
        client_id: &Arc<str>,
        taken: impl IntoIterator<Item = (NonZeroU16, u64)>,
    ) {
        let mut inner = self.lock();
        for (id, seq) in taken {
            inner.image.note_incoming(client_id, id, seq);
        }
        inner.noted.insert(Arc::clone(client_id));
    }

    /// Notes a retained message that is durable, or with `None` that its topic was cleared; under a [`Floor`].
    pub fn note_retained(&self, topic: &Arc<str>, seq: u64, value: Option<Bytes>) {
        let mut inner = self.lock();
        inner.image.retain(topic, seq, value);
        inner.changed.insert(Arc::clone(topic));
    }

    /// Writes what was noted to the journal, moves the mark, lets the messages' log go up to it, and makes the journal
    /// shorter where it is due.
    ///
    /// # Errors
    /// [`Error::Log`] when the journal has failed or is closed.
    pub async fn checkpoint(&self) -> Result<(), Error> {
        let Some((mark, changed)) = self.begin_checkpoint() else {
            return self.shorten().await;
        };
        for topics in changed.chunks(64) {
            let mut batch = RecordBatch::new();
            self.batch_retained(topics, &mut batch)?;
            let commit = self.0.journal.append_from(&mut batch).await?;
            self.begin_retained(topics, commit.seqs().start);
        }
        let Some(commit) = self.write_mark(mark)? else {
            return Ok(());
        };
        commit.await?;
        self.0.messages.cursors().hold(mark);
        self.shorten().await
    }

    fn begin_checkpoint(&self) -> Option<(u64, Vec<Arc<str>>)> {
        let end = self.0.messages.next_durable();
        let mut inner = self.lock();
        let mark = inner.floors.values().copied().fold(end, u64::min);
        if mark <= inner.image.mark && inner.changed.is_empty() && inner.marked.is_some() {
            return None;
        }
        let changed = std::mem::take(&mut inner.changed);
        Some((mark.max(inner.image.mark), changed.into_iter().collect()))
    }

    fn batch_retained(&self, topics: &[Arc<str>], batch: &mut RecordBatch) -> Result<(), Error> {
        for topic in topics {
            let retained = self.lock().image.retained.get(topic).cloned();
            let payload = retained_payload(retained.as_ref());
            batch.push(&head(RETAINED, topic), &payload)?;
        }
        Ok(())
    }

    fn begin_retained(&self, topics: &[Arc<str>], first: u64) {
        let mut inner = self.lock();
        for (topic, at) in topics.iter().zip(first..) {
            let key = Key::Retained(Arc::clone(topic));
            if inner.image.retained.contains_key(topic) {
                inner.image.begin(key, at);
            } else {
                inner.image.forget(&key);
            }
        }
    }

    /// Writes what was noted of clients below the mark, and the mark; `None` when there is no room now.
    fn write_mark(&self, mark: u64) -> Result<Option<Commit>, Error> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut batch = RecordBatch::new();
        let mut written = Vec::new();
        for client_id in &inner.noted {
            let Some(client) = inner.image.clients.get(client_id) else {
                continue;
            };
            let noted = client.incoming.iter().filter(|(_, i)| !i.journaled);
            let below = noted.filter(|(_, incoming)| incoming.seq < mark);
            let held: Vec<_> = below
                .map(|(&id, incoming)| Change::Held {
                    id,
                    seq: incoming.seq,
                })
                .collect();
            if !held.is_empty() {
                let mut payload = Vec::new();
                held.iter().for_each(|change| change.put(&mut payload));
                batch.push(&head(CLIENT, client_id), &payload)?;
                written.push((Arc::clone(client_id), held));
            }
        }
        if sabotage::digests_nothing() {
            batch.clear();
            written.clear();
        }
        let mut payload = vec![VERSION];
        payload.extend_from_slice(&mark.to_le_bytes());
        batch.push(&head(MARK, self.0.messages.id()), &payload)?;
        let Some(commit) = self.0.journal.try_append(&mut batch)? else {
            return Ok(None);
        };
        let seqs = commit.seqs();
        for ((client_id, held), at) in written.into_iter().zip(seqs.start..) {
            inner.image.apply(at, &client_id, &held);
        }
        inner.marked = Some(seqs.end - 1);
        let image = &mut inner.image;
        inner.noted.retain(|client_id| {
            let client = image.clients.get(client_id);
            client.is_some_and(|client| client.incoming.values().any(|i| !i.journaled))
        });
        image.set_mark(mark);
        Ok(Some(commit))
    }

    /// Moves the journal's cursor, and writes old entities again while the journal is too long.
    async fn shorten(&self) -> Result<(), Error> {
        let journal = &self.0.journal;
        let mut alive = None;
        let mut budget = 64;
        while budget > 0
            && journal.status().disk_bytes
                > 2 * *alive.get_or_insert_with(|| self.alive()) + SLACK_BYTES
        {
            budget -= 1;
            let Some((commit, keys)) = self.write_oldest_again()? else {
                break;
            };
            let seqs = commit.await?;
            self.written_again(keys, seqs.start);
            self.move_cursor();
            journal.cursors().sync().await?;
        }
        self.move_cursor();
        Ok(())
    }

    /// Counts the bytes of what is alive, roughly.
    fn alive(&self) -> u64 {
        let inner = self.lock();
        let retained = inner.image.retained.iter();
        let retained = retained.map(|(t, r)| (t.len() + r.value.len()) as u64 + ENTITY_BYTES);
        let clients = inner.image.clients.values();
        let clients = clients.map(|c| {
            let entries = c.incoming.len() + c.outgoing.len() + c.reading.done.len();
            ENTITY_BYTES + 16 * entries as u64
        });
        let groups = inner.image.groups.values();
        let groups = groups.map(|group| ENTITY_BYTES + 16 * group.done.len() as u64);
        retained.chain(clients).chain(groups).sum()
    }

    /// Writes the entities again whose parts begin first; `None` when there are none or there is no room now.
    ///
    /// Where they begin changes only once that is durable, see [`Store::written_again`].
    fn write_oldest_again(&self) -> Result<Option<(Commit, Vec<Key>)>, Error> {
        let inner = self.lock();
        let image = &inner.image;
        let (mut batch, mut keys) = (RecordBatch::new(), Vec::new());
        for (_, key) in image.by_beginning() {
            if batch.bytes() >= BATCH_BYTES {
                break;
            }
            match key {
                Key::Client(id) => {
                    let client = image.clients.get(id).map(Client::whole);
                    push_changes(&mut batch, CLIENT, id, client)?;
                }
                Key::Group(name) => {
                    let group = image.groups.get(name).map(|group| group.whole(name));
                    push_changes(&mut batch, GROUP, name, group)?;
                }
                Key::Retained(topic) => {
                    let payload = retained_payload(image.retained.get(topic));
                    batch.push(&head(RETAINED, topic), &payload)?;
                }
            }
            keys.push(key.clone());
        }
        if keys.is_empty() {
            return Ok(None);
        }
        let commit = self.0.journal.try_append(&mut batch)?;
        Ok(commit.map(|commit| (commit, keys)))
    }

    /// Notes that entities were written again, durably, from `first` on.
    fn written_again(&self, keys: Vec<Key>, first: u64) {
        let mut inner = self.lock();
        for (key, at) in keys.into_iter().zip(first..) {
            inner.image.begin_again(key, at);
        }
    }

    /// Moves the journal's cursor up to where the oldest part begins.
    fn move_cursor(&self) {
        let inner = self.lock();
        // Without a mark that is durable the journal is not to be read from a later place than now.
        let durable = self.0.journal.next_durable();
        let Some(marked) = inner.marked.filter(|marked| *marked < durable) else {
            return;
        };
        let oldest = inner.image.by_beginning().next().map(|(at, _)| *at);
        let next = oldest.map_or(marked, |oldest| oldest.min(marked));
        let cursor = Cursor {
            next,
            meta: Bytes::new(),
            pins: true,
        };
        self.0.journal.cursors().put(CURSOR, cursor);
    }

    /// Writes everything and closes the journal; the messages' log is left open.
    ///
    /// # Errors
    /// [`Error::Log`] when the journal has failed.
    pub async fn close(&self) -> Result<(), Error> {
        if let Err(error) = self.checkpoint().await {
            tracing::debug!(%error, "the last checkpoint was not made");
        }
        Ok(self.0.journal.close().await?)
    }

    /// Returns the journal.
    pub fn journal(&self) -> &Log {
        &self.0.journal
    }

    /// Tells whether a commit has resolved already.
    #[must_use]
    pub fn is_durable(commit: &mut Commit) -> bool {
        commit.now_or_never().is_some()
    }
}

fn head<'a>(topic: &'a str, client_id: &'a str) -> RecordHead<'a> {
    RecordHead {
        qos: 0,
        retain: false,
        received_us: 0,
        topic,
        client_id,
        properties: &[],
    }
}

fn push_changes(
    batch: &mut RecordBatch,
    kind: &str,
    key: &str,
    changes: Option<Vec<Change>>,
) -> Result<(), LogError> {
    let mut payload = Vec::new();
    for change in changes.iter().flatten() {
        change.put(&mut payload);
    }
    batch.push(&head(kind, key), &payload)
}

fn retained_payload(retained: Option<&Retained>) -> Vec<u8> {
    let Some(Retained { seq, value }) = retained else {
        return vec![0; 9];
    };
    let mut payload = Vec::with_capacity(9 + value.len());
    payload.extend_from_slice(&seq.to_le_bytes());
    payload.push(1);
    payload.extend_from_slice(value);
    payload
}

/// Lets the negative controls of the tests leave a durable step out; nothing outside tests can.
pub(crate) mod sabotage {
    #[cfg(test)]
    thread_local! {
        pub(crate) static DIGESTS_NOTHING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    #[cfg(test)]
    pub(super) fn digests_nothing() -> bool {
        DIGESTS_NOTHING.get()
    }

    #[cfg(not(test))]
    pub(super) const fn digests_nothing() -> bool {
        false
    }
}
