//! Retained messages: the last one published with RETAIN on each topic, in memory.
//!
//! Bounded by bytes: at the bound a new topic is not retained (a warning says so), and one that is held is
//! still replaced if the new message fits. Not durable: after a restart a topic has no retained message until the
//! next one is published.
//!
//! Why not rumqttd's own: its store has no bound, and its link gives retained messages only to a filter that
//! is new to the whole process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use service::Throttle;

use crate::protocol::filter_index::FilterIndex;

/// A message that a later subscriber gets at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retained {
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Bytes,
    pub(crate) qos: u8,
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

impl RetainedStore {
    pub(crate) fn new(limit_bytes: usize, count: Gauge) -> Self {
        Self {
            limit_bytes,
            held: Mutex::default(),
            count,
            warning: Throttle::new(Duration::from_mins(1)),
        }
    }

    /// Takes a message that is durable; an empty payload clears its topic.
    pub(crate) fn set(&self, message: Retained) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let before = held.by_topic.get(&message.topic);
        if before.is_some_and(|before| before.seq > message.seq) {
            return;
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
            return;
        }
        held.bytes = held.bytes - freed + needed;
        if message.payload.is_empty() {
            held.by_topic.remove(&message.topic);
        } else {
            held.by_topic.insert(Arc::clone(&message.topic), message);
        }
        self.count
            .set(i64::try_from(held.by_topic.len()).unwrap_or(i64::MAX));
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
    fn size(&self) -> usize {
        ENTRY_BYTES + self.topic.len() + self.properties.len() + self.payload.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &'static str, seq: u64) -> Retained {
        Retained {
            topic: topic.into(),
            payload: Bytes::from_static(payload.as_bytes()),
            qos: 1,
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
        store.set(message("a/b", "new", 5));
        store.set(message("a/b", "old", 4));
        store.set(message("a/c", "x", 6));
        assert_eq!(store.matching("a/b"), [message("a/b", "new", 5)]);
        assert_eq!(topics(&store, "a/+"), ["a/b", "a/c"]);
        store.set(message("a/b", "", 7));
        assert_eq!(topics(&store, "#"), ["a/c"]);
    }

    #[test]
    fn at_the_bound_nothing_is_added_and_nothing_is_evicted() {
        let store = RetainedStore::new(ENTRY_BYTES + 10, Gauge::default());
        store.set(message("a", "one", 1));
        store.set(message("b", "two", 2));
        assert_eq!(topics(&store, "#"), ["a"]);
        store.set(message("a", "longer", 3));
        assert_eq!(store.matching("a"), [message("a", "longer", 3)]);
        store.set(message("a", "much too long", 4));
        assert_eq!(store.matching("a"), [message("a", "longer", 3)]);
        store.set(message("a", "", 5));
        store.set(message("b", "two", 6));
        assert_eq!(topics(&store, "#"), ["b"]);
    }
}
