//! The messages that wait for one clean-session subscriber.
//!
//! Bounded by bytes. At the bound the new message is dropped and counted: live delivery is best effort, and a
//! slow reader must not hold up the others.

use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;

use super::entry::{self, Entries, Entry};
use crate::connection::outbound::{Message, Outbound, Sent};
use crate::session::window::Origin;

/// The queue, between the dispatcher and the subscriber's connection.
#[derive(Debug)]
pub(super) struct Queue {
    limit_bytes: usize,
    bytes: Mutex<Vec<u8>>,
    news: Notify,
    dropped: Counter,
}

impl Queue {
    pub(super) fn new(limit_bytes: usize, dropped: Counter) -> Self {
        Self {
            limit_bytes,
            bytes: Mutex::default(),
            news: Notify::new(),
            dropped,
        }
    }

    /// Adds a message, or drops it when there is no room; [`Queue::announce`] tells the subscriber.
    pub(super) fn push(&self, entry: &Entry<'_>, qos: u8, retain: bool, ids: &[u32]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() + entry.bytes.len() + size_of_val(ids) > self.limit_bytes {
            drop(bytes);
            self.dropped.inc();
        } else {
            entry::copy(&mut bytes, entry, qos, retain, ids);
        }
    }

    pub(super) fn announce(&self) {
        self.news.notify_one();
    }

    /// Waits until there are messages and exchanges them for an empty buffer.
    async fn take(&self, empty: &mut Vec<u8>) {
        loop {
            {
                let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
                if !bytes.is_empty() {
                    std::mem::swap(&mut *bytes, empty);
                    return;
                }
            }
            self.news.notified().await;
        }
    }
}

/// The subscriber's end of a queue: messages taken and not yet sent.
#[derive(Debug, Default)]
pub(super) struct Taken {
    bytes: Vec<u8>,
    sent: usize,
    /// Room for the identifiers of the subscriptions a message is for.
    ids: Vec<u32>,
}

/// A drained buffer above this size is given back.
const KEPT_BYTES: usize = 64 << 10;

impl Taken {
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Waits for messages; to be called when it is empty.
    ///
    /// # Cancel safety
    /// Yes.
    pub(super) async fn refill(&mut self, queue: &Queue) {
        queue.take(&mut self.bytes).await;
    }

    /// Sends as much as window and output have room for.
    pub(super) fn pump(&mut self, out: &mut Outbound) {
        let mut entries = Entries(&self.bytes[self.sent..]);
        for entry in &mut entries {
            self.ids.clear();
            self.ids.extend(entry::ids(&entry));
            let message = Message {
                topic: entry.topic,
                payload: entry.payload,
                qos: entry.qos,
                retain: entry.retain,
                dup: false,
                origin: Origin::Memory,
                group: "",
                properties: entry.properties,
                received_us: entry.received_us,
                ids: &self.ids,
            };
            if !out.has_room() || out.send(&message) == Sent::NotNow {
                return;
            }
            self.sent += entry.bytes.len();
        }
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.sent = 0;
    }
}
