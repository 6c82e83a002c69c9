//! Checkpoints: the digest of what was noted, the mark, and the journal's length.
//!
//! One task makes them, one after the other. Dropped at any point they leave the journal as it can be read: where an
//! entity begins, and where reading begins, changes only once what follows from there is durable.

use std::sync::Arc;

use bytes::Bytes;
use ingest_log::{Commit, Cursor, LogError, RecordBatch};

use super::{Error, SLACK_BYTES, Store, head};
use crate::image::Key;
use crate::recovery::{CLIENT, CURSOR, GROUP, MARK, RETAINED, VERSION};
use crate::{Change, Client, Retained};

/// Bytes of a batch of entities written again.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes that an entity written again takes besides its changes, roughly.
const ENTITY_BYTES: u64 = 100;

impl Store {
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
    pub(super) fn write_mark(&self, mark: u64) -> Result<Option<Commit>, Error> {
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
                for change in &held {
                    change.put(&mut payload);
                }
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
            let messages = c.outgoing.values().filter_map(|o| o.message.as_ref());
            let messages: usize = messages.map(Bytes::len).sum();
            ENTITY_BYTES + 16 * (entries + c.kept.len()) as u64 + messages as u64
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
                    push_changes(&mut batch, CLIENT, id, client.as_deref())?;
                }
                Key::Group(name) => {
                    let group = image.groups.get(name).map(|group| group.whole(name));
                    push_changes(&mut batch, GROUP, name, group.as_deref())?;
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
}

fn push_changes(
    batch: &mut RecordBatch,
    kind: &str,
    key: &str,
    changes: Option<&[Change]>,
) -> Result<(), LogError> {
    let mut payload = Vec::new();
    for change in changes.into_iter().flatten() {
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
