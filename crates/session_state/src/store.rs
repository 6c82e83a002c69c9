//! The state and its journal.
//!
//! Invariants: changes are applied to the image in the order in which the journal holds them; nothing is written about
//! a message above the mark that the messages' log could still lose; the mark in the journal is never above a message
//! of which the journal does not know.

pub(crate) mod checkpoint;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ingest_log::{Commit, Log, LogError, Record, RecordBatch, RecordHead};

use crate::image::Image;
use crate::recovery::{self, CLIENT, VERSION};
use crate::{Change, Client, Group, KEPT, Outgoing, Retained};

/// Bytes the journal may take besides twice what is alive.
pub const SLACK_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 16 << 20 };

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
    /// Clients of whom messages were noted that the journal does not hold, in an order that repeats itself.
    noted: BTreeSet<Arc<str>>,
    /// Topics whose retained message changed since it was written.
    changed: BTreeSet<Arc<str>>,
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

    /// Returns the names of the shared subscriptions of which something is known.
    pub fn groups(&self) -> Vec<Arc<str>> {
        self.lock().image.groups.keys().cloned().collect()
    }

    /// Returns the names of the shared subscriptions of which something is on its way to a client.
    pub fn groups_of(&self, client_id: &str) -> Vec<Box<str>> {
        let inner = self.lock();
        let client = inner.image.clients.get(client_id);
        let outgoing = client.into_iter().flat_map(|c| c.outgoing.values());
        let named = outgoing.filter(|o| !o.group.is_empty() && &*o.group != KEPT);
        let mut names: Vec<_> = named.map(|o| o.group.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Forgets what is known of a shared subscription; `None` when that was nothing.
    ///
    /// # Errors
    /// As [`Store::change`].
    pub fn end_group(&self, name: &str) -> Result<Option<Commit>, Error> {
        if self.group(name).is_none() {
            return Ok(None);
        }
        let group = name.into();
        self.change("", &[Change::GroupEnded { group }]).map(Some)
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
            .filter(|o| !o.received && !o.group.is_empty() && &*o.group != KEPT);
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
