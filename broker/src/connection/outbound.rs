//! What goes to one client: the bytes not yet written, the QoS 1 window, and retained messages not yet sent.
//!
//! Bounds: nothing is added to the bytes by deliveries beyond [`OUTPUT_BYTES`] and one message; the connection
//! also stops reading there, so answers cannot pile up either.

use std::collections::VecDeque;

use crate::protocol::publish::{self, Publish};
use crate::retained::Retained;
use crate::session::window::{Origin, Window};

/// A message for this client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    /// 0 or 1.
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// Who is to know of its acknowledgement.
    pub(crate) origin: Origin,
}

/// Bytes waiting at which no more are made.
const OUTPUT_BYTES: usize = 256 << 10;
/// A drained buffer above this size is given back.
const KEPT_BYTES: usize = 4 << 10;
/// Most retained messages waiting; each holds only references.
const MAX_RETAINED: usize = 100_000;

/// The outgoing side of a connection.
#[derive(Debug)]
pub(crate) struct Outbound {
    bytes: Vec<u8>,
    written: usize,
    pub(crate) window: Window,
    retained: VecDeque<(Retained, u8)>,
    /// Messages sent since this was last asked.
    delivered: u64,
}

impl Outbound {
    pub(crate) fn new(window: usize) -> Self {
        Self {
            bytes: Vec::new(),
            written: 0,
            window: Window::new(window),
            retained: VecDeque::new(),
            delivered: 0,
        }
    }

    /// Tells whether more may be made.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes.len() - self.written < OUTPUT_BYTES
    }

    /// Returns what is to be written.
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// Notes that so many bytes were written.
    pub(crate) fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written == self.bytes.len() {
            self.written = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
        }
    }

    /// Returns the buffer to which answers are appended.
    pub(crate) fn answers(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Sends a message; `false`, and nothing is sent, when its QoS needs a window that is full.
    pub(crate) fn send(&mut self, message: &Message<'_>) -> bool {
        let mut packet_id = 0;
        if message.qos > 0 {
            match self.window.push(message.origin) {
                Some(id) => packet_id = id,
                None => return false,
            }
        }
        let publish = Publish {
            dup: message.dup && message.qos > 0,
            qos: message.qos,
            retain: message.retain,
            topic: message.topic,
            packet_id,
            payload: message.payload,
        };
        publish::encode(&mut self.bytes, &publish);
        self.delivered += 1;
        true
    }

    /// Queues retained messages for a new subscription; returns how many had no place.
    pub(crate) fn queue_retained(&mut self, found: Vec<(Retained, u8)>) -> usize {
        let room = MAX_RETAINED.saturating_sub(self.retained.len());
        let dropped = found.len().saturating_sub(room);
        self.retained.extend(found.into_iter().take(room));
        dropped
    }

    /// Sends queued retained messages as far as there is room.
    pub(crate) fn pump_retained(&mut self) {
        while self.has_room()
            && let Some((message, qos)) = self.retained.pop_front()
        {
            let sent = self.send(&Message {
                topic: &message.topic,
                payload: &message.payload,
                qos,
                retain: true,
                dup: false,
                origin: Origin::Memory,
            });
            if !sent {
                self.retained.push_front((message, qos));
                return;
            }
        }
    }

    /// Returns the number of messages sent since the last call.
    pub(crate) fn take_delivered(&mut self) -> u64 {
        std::mem::take(&mut self.delivered)
    }
}
