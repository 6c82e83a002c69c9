//! Persistent sessions: what is kept of a client between its connections.
//!
//! A session is a cursor of the log, named `session/<client id>`: its place is the lowest message not yet
//! acknowledged, its metadata are the subscriptions. There is no other table of sessions, in memory or on disk.
//! Shared subscriptions are not in it: the groups know their members, see [`crate::share`].
//!
//! Invariants: a subscription is on disk before its SUBACK; the place never passes an unacknowledged message;
//! a cursor pins the log exactly while it has subscriptions.

pub(crate) mod delivery;
pub(crate) mod ledger;
pub(crate) mod window;

use bytes::Bytes;
use ingest_log::{Cursor, Log, LogError};
use serde::{Deserialize, Serialize};

/// Prefix of the cursors that are sessions.
const PREFIX: &str = "session/";

/// What a client wants to receive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) filter: String,
    /// Highest QoS of deliveries: 0 or 1.
    pub(crate) qos: u8,
    /// First sequence it is for: what was published before is not delivered for it.
    pub(crate) since: u64,
}

/// The metadata of a session's cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Meta {
    /// First sequence that was never sent; `None` while the client is connected, and so after a crash.
    pub(crate) sent_to: Option<u64>,
    pub(crate) subscriptions: Vec<Subscription>,
}

impl Meta {
    fn to_bytes(&self) -> Bytes {
        let json = serde_json::to_vec(self).expect("numbers and texts have a JSON form");
        json.into()
    }
}

/// The session of a connected client.
#[derive(Debug)]
pub(crate) struct Session {
    name: String,
    meta: Meta,
    /// `meta` as it is in the cursor.
    meta_bytes: Bytes,
    /// First sequence not done with.
    next: u64,
}

/// Returns how many sessions the log has.
pub(crate) fn count(log: &Log) -> usize {
    let cursors = log.cursors().list();
    let sessions = cursors.iter().filter(|(name, _)| name.starts_with(PREFIX));
    sessions.count()
}

/// Tells whether a client has a session.
pub(crate) fn exists(log: &Log, client_id: &str) -> bool {
    log.cursors().get(&format!("{PREFIX}{client_id}")).is_some()
}

/// Forgets the session of a client; tells whether there was one.
pub(crate) fn discard(log: &Log, client_id: &str) -> bool {
    let name = format!("{PREFIX}{client_id}");
    let existed = log.cursors().get(&name).is_some();
    if existed {
        log.cursors().remove(&name);
    }
    existed
}

impl Session {
    /// Returns the session a client left, if it is there, and the first sequence that certainly was
    /// never sent to it. What was made durable before this process began lies below `recovered`.
    ///
    /// # Errors
    /// When the cursor's metadata cannot be read: another version wrote them.
    pub(crate) fn resume(
        log: &Log,
        client_id: &str,
        recovered: u64,
    ) -> Result<Option<(Self, u64)>, serde_json::Error> {
        let name = format!("{PREFIX}{client_id}");
        let Some(cursor) = log.cursors().get(&name) else {
            return Ok(None);
        };
        let meta: Meta = serde_json::from_slice(&cursor.meta)?;
        let unsent = meta.sent_to.unwrap_or(recovered);
        let session = Self {
            name,
            meta_bytes: cursor.meta,
            meta,
            next: cursor.next,
        };
        Ok(Some((session, unsent)))
    }

    /// Begins a session at the end of the log, without subscriptions.
    pub(crate) fn begin(log: &Log, client_id: &str) -> Self {
        let meta = Meta::default();
        Self {
            name: format!("{PREFIX}{client_id}"),
            meta_bytes: meta.to_bytes(),
            meta,
            next: log.next_durable(),
        }
    }

    pub(crate) fn subscriptions(&self) -> &[Subscription] {
        &self.meta.subscriptions
    }

    /// Returns the first sequence not done with.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Adds subscriptions or changes their QoS; one that is there keeps its beginning.
    pub(crate) fn subscribe(&mut self, added: impl IntoIterator<Item = Subscription>) {
        for new in added {
            let there = self.meta.subscriptions.iter_mut();
            match there.into_iter().find(|old| old.filter == new.filter) {
                Some(old) => old.qos = new.qos,
                None => self.meta.subscriptions.push(new),
            }
        }
        self.meta_bytes = self.meta.to_bytes();
    }

    /// Removes subscriptions.
    pub(crate) fn unsubscribe(&mut self, filters: &[String]) {
        let subscriptions = &mut self.meta.subscriptions;
        subscriptions.retain(|subscription| !filters.contains(&subscription.filter));
        self.meta_bytes = self.meta.to_bytes();
    }

    /// Notes up to where the client was sent messages: `None` while it is connected.
    pub(crate) fn set_sent_to(&mut self, sent_to: Option<u64>) {
        self.meta.sent_to = sent_to;
        self.meta_bytes = self.meta.to_bytes();
    }

    /// Moves the place; the log persists it soon.
    pub(crate) fn move_to(&mut self, log: &Log, next: u64) {
        if next != self.next {
            self.next = next;
            self.put(log);
        }
    }

    /// Hands the session to the log, which persists it soon.
    pub(crate) fn put(&self, log: &Log) {
        log.cursors().put(&self.name, self.cursor());
    }

    /// Waits until the session is on disk as it is now.
    ///
    /// # Errors
    /// When the log has failed or is closed.
    ///
    /// # Cancel safety
    /// The session is put all the same.
    pub(crate) async fn put_durable(&self, log: &Log) -> Result<(), LogError> {
        log.cursors().put_durable(&self.name, self.cursor()).await
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            next: self.next,
            meta: self.meta_bytes.clone(),
            pins: !self.meta.subscriptions.is_empty(),
        }
    }
}
