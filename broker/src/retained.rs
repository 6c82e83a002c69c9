//! Retained messages: the last one published with RETAIN on each topic, in memory; the journal keeps them through
//! restarts, see [`session_state`].
//!
//! Bounded by bytes: at the bound a new topic is not retained (a warning says so), and one that is held is
//! still replaced if the new message fits.
//!
//! Why not rumqttd's own: its store has no bound, and its link gives retained messages only to a filter that
//! is new to the whole process.

mod expected;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ingest_log::Record;
use prometheus_client::metrics::gauge::Gauge;
use service::Throttle;

use self::expected::Expectations;
pub(crate) use self::expected::Expected;
use crate::connection::outbound::Message;
use crate::protocol::filter_index::FilterIndex;
use crate::protocol::properties;

/// A message that a later subscriber gets at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retained {
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Bytes,
    pub(crate) qos: u8,
    /// Who published it; empty: that is not known.
    pub(crate) client_id: Arc<str>,
    /// What MQTT 5 passes on, in the form of [`crate::protocol::properties::keep`].
    pub(crate) properties: Bytes,
    /// When it was published, in microseconds since the epoch.
    pub(crate) received_us: i64,
    /// Its place in the log: of two messages on a topic the later one stays.
    pub(crate) seq: u64,
}

/// All retained messages.
#[derive(Debug)]
pub(crate) struct RetainedStore {
    limit_bytes: usize,
    held: Mutex<Held>,
    expectations: Expectations,
    count: Gauge,
    warning: Throttle,
}

#[derive(Debug, Default)]
struct Held {
    by_topic: HashMap<Arc<str>, Retained>,
    bytes: usize,
}

/// Memory of an entry besides topic and payload, roughly.
const ENTRY_BYTES: usize = 160;
/// Flag of a value that says who published the message.
const HAS_CLIENT_ID: u8 = 0x80;

impl RetainedStore {
    pub(crate) fn new(limit_bytes: usize, count: Gauge) -> Self {
        Self {
            limit_bytes,
            held: Mutex::default(),
            expectations: Expectations::default(),
            count,
            warning: Throttle::new(Duration::from_mins(1)),
        }
    }

    /// Takes a message that is durable; an empty payload clears its topic. `false` when it was not taken: a later one
    /// is held, or there is no room.
    pub(crate) fn set(&self, message: Retained) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let before = held.by_topic.get(&message.topic);
        if before.is_some_and(|before| before.seq > message.seq) {
            return false;
        }
        let freed = before.map_or(0, Retained::size);
        let needed = if message.payload.is_empty() {
            0
        } else {
            message.size()
        };
        if held.bytes - freed + needed > self.limit_bytes {
            if let Some(suppressed) = self.warning.permit() {
                let limit_bytes = self.limit_bytes;
                tracing::warn!(limit_bytes, suppressed, "a message was not retained");
            }
            return false;
        }
        held.bytes = held.bytes - freed + needed;
        if message.payload.is_empty() {
            held.by_topic.remove(&message.topic);
        } else {
            held.by_topic.insert(Arc::clone(&message.topic), message);
        }
        self.count
            .set(i64::try_from(held.by_topic.len()).unwrap_or(i64::MAX));
        true
    }

    /// Expects messages with sequence `from` or higher, which will be durable before they are taken.
    pub(crate) fn expect(&self, from: u64) -> Expected {
        self.expectations.add(from)
    }

    /// Waits until what is durable below `to` was taken.
    ///
    /// # Cancel safety
    /// Yes.
    pub(crate) async fn settled(&self, to: u64) {
        self.expectations.met(to).await;
    }

    /// Returns the messages that match `filter`.
    pub(crate) fn matching(&self, filter: &str) -> Vec<Retained> {
        let mut index = FilterIndex::default();
        index.insert(filter, (), ());
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let matches = |message: &&Retained| {
            let mut found = false;
            index.for_each_match(&message.topic, |(), ()| found = true);
            found
        };
        held.by_topic.values().filter(matches).cloned().collect()
    }
}

impl Retained {
    /// Makes a retained message of a record.
    pub(crate) fn of_record(record: &Record<'_>) -> Self {
        Self {
            topic: record.topic.into(),
            payload: Bytes::copy_from_slice(record.payload),
            qos: record.qos,
            client_id: record.client_id.into(),
            properties: Bytes::copy_from_slice(record.properties),
            received_us: record.received_us,
            seq: record.seq,
        }
    }

    /// Returns what the journal keeps of it, besides topic and sequence: QoS, and [`HAS_CLIENT_ID`], in one byte, when
    /// it was published (8 bytes), with that flag the length of the client id (2 bytes) and the client id, length of
    /// the properties (4 bytes), properties, payload; integers are little-endian. `None` when it clears its topic.
    pub(crate) fn to_value(&self) -> Option<Bytes> {
        if self.payload.is_empty() {
            return None;
        }
        let properties_len = u32::try_from(self.properties.len()).ok()?;
        let id_len = u16::try_from(self.client_id.len()).ok()?;
        let len = 15 + self.client_id.len() + self.properties.len() + self.payload.len();
        let mut value = Vec::with_capacity(len);
        value.push(self.qos | if id_len > 0 { HAS_CLIENT_ID } else { 0 });
        value.extend_from_slice(&self.received_us.to_le_bytes());
        if id_len > 0 {
            value.extend_from_slice(&id_len.to_le_bytes());
            value.extend_from_slice(self.client_id.as_bytes());
        }
        value.extend_from_slice(&properties_len.to_le_bytes());
        value.extend_from_slice(&self.properties);
        value.extend_from_slice(&self.payload);
        Some(value.into())
    }

    /// Reads what [`Retained::to_value`] made; `None` when that did not make it.
    pub(crate) fn from_value(topic: &Arc<str>, seq: u64, value: &Bytes) -> Option<Self> {
        let (flags, rest) = value.split_first()?;
        let (received_us, rest) = rest.split_first_chunk()?;
        let (client_id, rest) = if flags & HAS_CLIENT_ID == 0 {
            ("", rest)
        } else {
            take_text(rest)?
        };
        let (len, rest) = rest.split_first_chunk()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let (properties, payload) = rest.split_at_checked(len)?;
        Some(Self {
            topic: Arc::clone(topic),
            payload: value.slice_ref(payload),
            qos: flags & !HAS_CLIENT_ID,
            client_id: client_id.into(),
            properties: value.slice_ref(properties),
            received_us: i64::from_le_bytes(*received_us),
            seq,
        })
    }

    /// Returns what the journal keeps of one on its way to a subscriber: length of the topic (2 bytes), topic, and what
    /// [`Retained::to_value`] makes.
    pub(crate) fn sent(message: &Message<'_>) -> Bytes {
        let retained = Self {
            topic: "".into(),
            payload: Bytes::copy_from_slice(message.payload),
            qos: message.qos,
            client_id: "".into(),
            // Sent again it has them, too [MQTT-3.3.4-3].
            properties: properties::keep_with_ids(message.properties, message.ids).into(),
            received_us: message.received_us,
            seq: 0,
        };
        let mut bytes = Vec::new();
        let topic_len = u16::try_from(message.topic.len()).expect("a topic came in a packet");
        bytes.extend_from_slice(&topic_len.to_le_bytes());
        bytes.extend_from_slice(message.topic.as_bytes());
        bytes.extend_from_slice(&retained.to_value().unwrap_or_default());
        bytes.into()
    }

    /// Reads what [`Retained::sent`] made.
    pub(crate) fn from_sent(seq: u64, bytes: &Bytes) -> Option<Self> {
        let (topic, value) = take_text(bytes)?;
        Self::from_value(&topic.into(), seq, &bytes.slice_ref(value))
    }

    fn size(&self) -> usize {
        let texts = self.topic.len() + self.client_id.len();
        ENTRY_BYTES + texts + self.properties.len() + self.payload.len()
    }
}

/// Takes a text with its length in two bytes from the beginning.
fn take_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    Some((str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &'static str, seq: u64) -> Retained {
        Retained {
            topic: topic.into(),
            payload: Bytes::from_static(payload.as_bytes()),
            qos: 1,
            client_id: "".into(),
            properties: Bytes::new(),
            received_us: 0,
            seq,
        }
    }

    fn topics(store: &RetainedStore, filter: &str) -> Vec<String> {
        let mut topics: Vec<_> = store
            .matching(filter)
            .iter()
            .map(|m| m.topic.to_string())
            .collect();
        topics.sort();
        topics
    }

    #[test]
    fn the_latest_stays_and_an_empty_one_clears() {
        let store = RetainedStore::new(10_000, Gauge::default());
        assert!(store.set(message("a/b", "new", 5)));
        assert!(!store.set(message("a/b", "old", 4)));
        let _taken = store.set(message("a/c", "x", 6));
        assert_eq!(store.matching("a/b"), [message("a/b", "new", 5)]);
        assert_eq!(topics(&store, "a/+"), ["a/b", "a/c"]);
        let _taken = store.set(message("a/b", "", 7));
        assert_eq!(topics(&store, "#"), ["a/c"]);
    }

    #[test]
    fn at_the_bound_nothing_is_added_and_nothing_is_evicted() {
        let store = RetainedStore::new(ENTRY_BYTES + 10, Gauge::default());
        let _taken = store.set(message("a", "one", 1));
        let _taken = store.set(message("b", "two", 2));
        assert_eq!(topics(&store, "#"), ["a"]);
        let _taken = store.set(message("a", "longer", 3));
        assert_eq!(store.matching("a"), [message("a", "longer", 3)]);
        let _taken = store.set(message("a", "much too long", 4));
        assert_eq!(store.matching("a"), [message("a", "longer", 3)]);
        let _taken = store.set(message("a", "", 5));
        let _taken = store.set(message("b", "two", 6));
        assert_eq!(topics(&store, "#"), ["b"]);
    }

    #[test]
    fn values_round_trip() {
        let mut there = message("a", "payload", 7);
        there.properties = Bytes::from_static(b"properties");
        there.received_us = -5;
        let value = there.to_value().unwrap();
        let topic = Arc::clone(&there.topic);
        assert_eq!(Retained::from_value(&topic, 7, &value), Some(there));
        for len in 0..13 {
            assert_eq!(Retained::from_value(&topic, 7, &value.slice(..len)), None);
        }
        let mut named = message("a", "payload", 7);
        named.client_id = "me".into();
        let value = named.to_value().unwrap();
        assert_eq!(Retained::from_value(&topic, 7, &value), Some(named));
        assert_eq!(message("a", "", 8).to_value(), None);
    }
}
