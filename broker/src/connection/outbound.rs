//! What goes to one client: the bytes not yet written, the QoS 1 window, and retained messages not yet sent.
//!
//! Bounds: nothing is added to the bytes by deliveries beyond [`OUTPUT_BYTES`] and one message; the connection
//! also stops reading there, so answers cannot pile up either.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;

use service::Clock;

use crate::protocol::Version;
use crate::protocol::properties;
use crate::protocol::publish::{self, Alias, Extra, Publish};
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
    /// What MQTT 5 passes on, in the form of [`properties::keep`].
    pub(crate) properties: &'a [u8],
    /// When it was published, in microseconds since the epoch; its expiry is counted from there.
    pub(crate) received_us: i64,
    /// The identifiers of the client's subscriptions it is for.
    pub(crate) ids: &'a [u32],
}

/// What a subscription is granted for a retained message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) qos: u8,
    /// The subscription's identifier.
    pub(crate) id: Option<u32>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Sent {
    Yes,
    /// It is not for this client: it has expired, or is larger than what the client takes. It counts as done with.
    Never,
    /// Its QoS needs a window that is full; later it may go.
    NotNow,
}

/// What a client said of what it takes.
#[derive(Debug, Clone)]
pub(crate) struct Takes {
    pub(crate) version: Version,
    /// Most messages with QoS 1 or 2 on their way.
    pub(crate) window: usize,
    /// Largest packet.
    pub(crate) packet_bytes: usize,
    /// Highest topic alias.
    pub(crate) aliases: u16,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Bytes waiting at which no more are made.
const OUTPUT_BYTES: usize = 256 << 10;
/// A drained buffer above this size is given back.
const KEPT_BYTES: usize = 4 << 10;
/// Most retained messages waiting; each holds only references.
const MAX_RETAINED: usize = 100_000;
/// Most topics that are given an alias, whatever the client takes: each is held for as long as the connection.
const MAX_ALIASES: usize = 64;
/// Topics up to this length cost no more than an alias.
const SHORT_TOPIC_BYTES: usize = 3;
/// Microseconds in a second.
const SECOND_US: i64 = 1_000_000;

/// The outgoing side of a connection.
#[derive(Debug)]
pub(crate) struct Outbound {
    bytes: Vec<u8>,
    written: usize,
    pub(crate) window: Window,
    takes: Takes,
    aliases: HashMap<Box<str>, NonZeroU16>,
    retained: VecDeque<(Retained, Grant)>,
    /// Messages sent since this was last asked.
    delivered: u64,
}

impl Outbound {
    pub(crate) fn new(takes: Takes) -> Self {
        Self {
            bytes: Vec::new(),
            written: 0,
            window: Window::new(takes.window),
            takes,
            aliases: HashMap::new(),
            retained: VecDeque::new(),
            delivered: 0,
        }
    }

    /// Tells whether more may be made.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes.len() - self.written < OUTPUT_BYTES
    }

    /// Returns the size of the largest packet the client takes.
    pub(crate) fn packet_limit(&self) -> usize {
        self.takes.packet_bytes
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

    /// Sends a message, if it is for this client and may go now.
    pub(crate) fn send(&mut self, message: &Message<'_>) -> Sent {
        let (expiry, others) = properties::expiry_of(message.properties);
        let expiry = match expiry.map(|seconds| self.left_of(seconds, message.received_us)) {
            Some(None) => return Sent::Never,
            Some(left) => left,
            None => None,
        };
        let mut publish = Publish {
            dup: message.dup && message.qos > 0,
            qos: message.qos,
            retain: message.retain,
            topic: message.topic,
            packet_id: 0,
            properties: &[],
            payload: message.payload,
        };
        if self.takes.version == Version::V311 {
            if message.qos > 0 {
                match self.window.push(message.origin) {
                    Some(id) => publish.packet_id = id,
                    None => return Sent::NotNow,
                }
            }
            publish::encode(&mut self.bytes, &publish);
        } else {
            publish.properties = others;
            let extra = Extra {
                alias: self.alias(message.topic),
                expiry,
                ids: message.ids,
            };
            if publish::size_v5(&publish, &extra) > self.takes.packet_bytes {
                return Sent::Never;
            }
            if message.qos > 0 {
                match self.window.push(message.origin) {
                    Some(id) => publish.packet_id = id,
                    None => return Sent::NotNow,
                }
            }
            if let Some(Alias::New(number)) = extra.alias {
                self.aliases.insert(message.topic.into(), number);
            }
            publish::encode_v5(&mut self.bytes, &publish, &extra);
        }
        self.delivered += 1;
        Sent::Yes
    }

    /// Returns the seconds that are left of an expiry interval; `None` when none are.
    fn left_of(&self, seconds: u32, received_us: i64) -> Option<u32> {
        let waited_us = self.takes.clock.now().as_micros() - received_us;
        let waited = u32::try_from(waited_us.max(0) / SECOND_US).unwrap_or(u32::MAX);
        seconds.checked_sub(waited).filter(|left| *left > 0)
    }

    /// Returns the alias a topic has or may have.
    fn alias(&self, topic: &str) -> Option<Alias> {
        if self.takes.aliases == 0 || topic.len() <= SHORT_TOPIC_BYTES {
            return None;
        }
        if let Some(known) = self.aliases.get(topic) {
            return Some(Alias::Known(*known));
        }
        let most = usize::from(self.takes.aliases).min(MAX_ALIASES);
        let next = u16::try_from(self.aliases.len() + 1).ok()?;
        NonZeroU16::new(next)
            .filter(|_| self.aliases.len() < most)
            .map(Alias::New)
    }

    /// Queues retained messages for a new subscription; returns how many had no place.
    pub(crate) fn queue_retained(&mut self, found: Vec<(Retained, Grant)>) -> usize {
        let room = MAX_RETAINED.saturating_sub(self.retained.len());
        let dropped = found.len().saturating_sub(room);
        self.retained.extend(found.into_iter().take(room));
        dropped
    }

    /// Sends queued retained messages as far as there is room.
    pub(crate) fn pump_retained(&mut self) {
        while self.has_room()
            && let Some((message, grant)) = self.retained.pop_front()
        {
            let sent = self.send(&Message {
                topic: &message.topic,
                payload: &message.payload,
                qos: grant.qos,
                retain: true,
                dup: false,
                origin: Origin::Memory,
                properties: &message.properties,
                received_us: message.received_us,
                ids: grant.id.as_slice(),
            });
            if sent == Sent::NotNow {
                self.retained.push_front((message, grant));
                return;
            }
        }
    }

    /// Returns the number of messages sent since the last call.
    pub(crate) fn take_delivered(&mut self) -> u64 {
        std::mem::take(&mut self.delivered)
    }
}
