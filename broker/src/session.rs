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
pub(crate) mod replay;
pub(crate) mod unfinished;
pub(crate) mod window;

use bytes::Bytes;
use ingest_log::{Cursor, Log, LogError};
use serde::{Deserialize, Serialize};

use crate::protocol::v5::NEVER;

/// Prefix of the cursors that are sessions.
const PREFIX: &str = "session/";

/// How a client wants to receive what a filter matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Options {
    /// Highest QoS of deliveries.
    pub(crate) qos: u8,
    /// Whether what the client itself publishes is not for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_local: bool,
    /// Whether messages keep their RETAIN flag.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) retain_as_published: bool,
    /// The identifier that comes with what is delivered for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u32>,
}

/// What a client wants to receive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) filter: String,
    #[serde(flatten)]
    pub(crate) options: Options,
    /// First sequence it is for: what was published before is not delivered for it.
    pub(crate) since: u64,
    /// Where it ended: what was published from there on is not delivered for it. It stays until what was begun
    /// before is completed [MQTT-3.10.4-3].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<u64>,
    /// Retained messages below this sequence are still to be delivered, or to be acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retained_to: Option<u64>,
}

impl Subscription {
    /// Tells whether anything from `next` on can be for it.
    fn is_needed(&self, next: u64) -> bool {
        self.until
            .is_none_or(|until| until > next && until > self.since)
    }
}

/// Most subscriptions that have ended and stay until what they were sent is completed.
const MAX_ENDED: usize = 1000;

/// The metadata of a session's cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Meta {
    /// First sequence that was never sent; `None` while the client is connected, and so after a crash.
    pub(crate) sent_to: Option<u64>,
    pub(crate) subscriptions: Vec<Subscription>,
    /// For how many seconds it outlives a connection; `None`: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expiry: Option<u32>,
    /// When the last connection ended, in microseconds since the epoch; `None` while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) left_us: Option<i64>,
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

/// What the sessions have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) sessions: u64,
    /// Of clients that are away.
    pub(crate) away: u64,
    pub(crate) subscriptions: u64,
    /// Whether a session or a group wants topics that begin with `$SYS/`.
    pub(crate) wants_sys: bool,
}

/// Counts sessions and subscriptions by the metadata of their cursors, without taking each apart.
pub(crate) fn census(log: &Log) -> Census {
    let mut census = Census::default();
    for (name, cursor) in log.cursors().list() {
        if name.starts_with(PREFIX) {
            let meta = String::from_utf8_lossy(&cursor.meta);
            census.sessions += 1;
            census.away += u64::from(meta.contains("\"left_us\":"));
            census.subscriptions += meta.matches("\"filter\":\"").count() as u64;
            census.wants_sys |= meta.contains("\"filter\":\"$SYS");
        } else if let Some(key) = name.strip_prefix("share/") {
            let filter = key.split_once('/').map_or("", |(_, filter)| filter);
            census.subscriptions += 1;
            census.wants_sys |= filter.starts_with("$SYS");
        }
    }
    census
}

/// Returns the expiry of every session that can be read: client id, interval in seconds, and when it was left.
pub(crate) fn expiries(log: &Log) -> Vec<(String, u32, Option<i64>)> {
    let cursors = log.cursors().list().into_iter();
    let expiries = cursors.filter_map(|(name, cursor)| {
        let client_id = name.strip_prefix(PREFIX)?;
        let meta: Meta = serde_json::from_slice(&cursor.meta).ok()?;
        let expiry = meta.expiry.unwrap_or(NEVER);
        Some((client_id.to_owned(), expiry, meta.left_us))
    });
    expiries.collect()
}

/// Returns the expiry of a session, as [`expiries`] does, if there is one that can be read.
pub(crate) fn expiry(log: &Log, client_id: &str) -> Option<(u32, Option<i64>)> {
    let cursor = log.cursors().get(&format!("{PREFIX}{client_id}"))?;
    let meta: Meta = serde_json::from_slice(&cursor.meta).ok()?;
    Some((meta.expiry.unwrap_or(NEVER), meta.left_us))
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

    /// Returns the subscriptions, those that have ended and are to be completed among them.
    pub(crate) fn subscriptions(&self) -> &[Subscription] {
        &self.meta.subscriptions
    }

    /// Returns the subscriptions that have not ended.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Subscription> {
        let subscriptions = self.meta.subscriptions.iter();
        subscriptions.filter(|subscription| subscription.until.is_none())
    }

    /// Returns the first sequence not done with.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Adds subscriptions or changes their QoS; one that is there keeps its beginning.
    pub(crate) fn subscribe(&mut self, added: impl IntoIterator<Item = Subscription>) {
        for new in added {
            let there = self.meta.subscriptions.iter_mut();
            let mut there = there.filter(|old| old.until.is_none());
            match there.find(|old| old.filter == new.filter) {
                Some(old) => {
                    old.options = new.options;
                    old.retained_to = new.retained_to.or(old.retained_to);
                }
                None => self.meta.subscriptions.push(new),
            }
        }
        self.meta_bytes = self.meta.to_bytes();
    }

    /// Ends subscriptions at `until`; what they were sent before is still to be completed. At most [`MAX_ENDED`] stay
    /// for that.
    pub(crate) fn unsubscribe(&mut self, filters: &[String], until: u64) {
        let next = self.next;
        let subscriptions = &mut self.meta.subscriptions;
        for subscription in &mut *subscriptions {
            if subscription.until.is_none() && filters.contains(&subscription.filter) {
                subscription.until = Some(until);
                subscription.retained_to = None;
            }
        }
        subscriptions.retain(|subscription| subscription.is_needed(next));
        let ended = subscriptions.iter().filter(|s| s.until.is_some()).count();
        let mut surplus = ended.saturating_sub(MAX_ENDED);
        subscriptions.retain(|subscription| {
            let goes = surplus > 0 && subscription.until.is_some();
            surplus -= usize::from(goes);
            !goes
        });
        self.meta_bytes = self.meta.to_bytes();
    }

    /// Removes subscriptions: nothing more is sent for them.
    pub(crate) fn withdraw(&mut self, filters: &[String]) {
        let subscriptions = &mut self.meta.subscriptions;
        subscriptions.retain(|subscription| !filters.contains(&subscription.filter));
        self.meta_bytes = self.meta.to_bytes();
    }

    /// Removes subscriptions that have ended and are completed; tells whether there were any.
    pub(crate) fn drop_completed(&mut self) -> bool {
        let (next, subscriptions) = (self.next, &mut self.meta.subscriptions);
        let before = subscriptions.len();
        subscriptions.retain(|subscription| subscription.is_needed(next));
        let dropped = subscriptions.len() < before;
        if dropped {
            self.meta_bytes = self.meta.to_bytes();
        }
        dropped
    }

    /// Notes that all retained messages are done with.
    pub(crate) fn end_retained(&mut self) {
        for subscription in &mut self.meta.subscriptions {
            subscription.retained_to = None;
        }
        self.meta_bytes = self.meta.to_bytes();
    }

    /// Returns whose it is.
    pub(crate) fn client_id(&self) -> &str {
        self.name.strip_prefix(PREFIX).unwrap_or_default()
    }

    /// Notes that the client is connected, and for how many seconds the session is to outlive that.
    pub(crate) fn set_connected(&mut self, expiry: u32) {
        self.meta.sent_to = None;
        self.meta.left_us = None;
        self.meta.expiry = Some(expiry).filter(|seconds| *seconds != NEVER);
        self.meta_bytes = self.meta.to_bytes();
    }

    /// Notes that the client left: up to where it was sent messages, when, and for how many seconds the session
    /// outlives that.
    pub(crate) fn set_left(&mut self, sent_to: u64, left_us: i64, expiry: u32) {
        self.meta.sent_to = Some(sent_to);
        self.meta.left_us = Some(left_us);
        self.meta.expiry = Some(expiry).filter(|seconds| *seconds != NEVER);
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
