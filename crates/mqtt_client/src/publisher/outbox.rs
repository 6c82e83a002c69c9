//! The outbox proper: which messages are unacknowledged, and which packet id stands for which on the
//! present connection. Pure: no I/O and no clock but the instant each message was taken.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::Qos;

/// A message and who waits for its PUBACK.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    taken_at: Instant,
    /// Was put on the wire of some connection, so that sending it again may deliver it twice.
    was_sent: bool,
    reply: oneshot::Sender<()>,
    /// The room it takes, given back when the entry goes.
    _room: OwnedSemaphorePermit,
}

impl Entry {
    pub(super) fn new(
        topic: String,
        payload: Bytes,
        qos: Qos,
        reply: oneshot::Sender<()>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            topic,
            payload,
            qos,
            taken_at: Instant::now(),
            was_sent: false,
            reply,
            _room: room,
        }
    }
}

/// What rumqttc is to send: a copy that shares the payload.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    pub(super) number: u64,
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
}

/// Unacknowledged messages by their number, which is their order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    entries: BTreeMap<u64, Entry>,
    next: u64,
    /// Given to rumqttc on this connection and not yet on the wire, in order.
    submitted: VecDeque<u64>,
    /// The message each packet id stands for on this connection.
    by_packet_id: BTreeMap<u16, u64>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keeps a message and returns what is to be sent of it.
    pub(super) fn keep(&mut self, entry: Entry) -> Sending {
        let number = self.next;
        self.next += 1;
        let sending = sending(number, &entry);
        self.entries.insert(number, entry);
        sending
    }

    /// Notes that rumqttc is about to be given the message: its events come in this order.
    pub(super) fn submit(&mut self, number: u64) {
        self.submitted.push_back(number);
    }

    /// Begins a connection: packet ids start over, and all that is kept is to be sent again, in order.
    ///
    /// Also returns how many of them were sent before.
    pub(super) fn begin_connection(&mut self) -> (Vec<Sending>, u64) {
        self.submitted.clear();
        self.by_packet_id.clear();
        let again = self.entries.values().filter(|entry| entry.was_sent).count();
        let all = self
            .entries
            .iter()
            .map(|(&number, entry)| sending(number, entry));
        (all.collect(), again as u64)
    }

    /// Notes that rumqttc put its next message on the wire. Packet id 0 means QoS 0, which ends there.
    pub(super) fn sent(&mut self, packet_id: u16) -> Option<Duration> {
        let number = self.submitted.pop_front()?;
        if packet_id == 0 {
            return self.finish(number);
        }
        self.by_packet_id.insert(packet_id, number);
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.was_sent = true;
        }
        None
    }

    /// Takes a PUBACK; returns how long the message was in the outbox.
    pub(super) fn acked(&mut self, packet_id: u16) -> Option<Duration> {
        let number = self.by_packet_id.remove(&packet_id)?;
        self.finish(number)
    }

    fn finish(&mut self, number: u64) -> Option<Duration> {
        let entry = self.entries.remove(&number)?;
        let waited = entry.taken_at.elapsed();
        if entry.reply.send(()).is_err() {
            tracing::trace!("nobody waited for the receipt");
        }
        Some(waited)
    }

    /// Forgets everything: the tests' negative control.
    #[cfg(debug_assertions)]
    pub(super) fn forget(&mut self) {
        self.entries.clear();
    }
}

fn sending(number: u64, entry: &Entry) -> Sending {
    Sending {
        number,
        topic: entry.topic.clone(),
        payload: entry.payload.clone(),
        qos: entry.qos,
    }
}
