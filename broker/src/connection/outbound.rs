//! What goes to one client: the bytes not yet written, the window of QoS 1 and 2, and retained messages not yet sent.
//!
//! Bounds: nothing is added to the bytes by deliveries beyond [`OUTPUT_BYTES`] and one message; the connection
//! also stops reading there, so answers cannot pile up either.

mod retained;

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;

use service::Clock;
use session_state::{Change, KEPT};

use super::exactly_once::Turn;
use crate::protocol::Version;
use crate::protocol::control::PUBREL;
use crate::protocol::properties;
use crate::protocol::publish::{self, Alias, Extra, Publish};
use crate::protocol::v5::{answers, reason};
use crate::retained::Retained;
use crate::sabotage::{Step, leaves_out};
use crate::session::window::{Origin, Receipt, Window};

/// A message for this client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// Who is to know of its acknowledgement.
    pub(crate) origin: Origin,
    /// The shared subscription it is sent for, or nothing.
    pub(crate) group: &'a str,
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
    /// Whether its session outlives the connection, so that what goes with QoS 2 is noted in the journal first.
    pub(crate) durable: bool,
}

/// Bytes waiting at which no more are made.
const OUTPUT_BYTES: usize = 256 << 10;
/// A drained buffer above this size is given back.
const KEPT_BYTES: usize = 4 << 10;
/// Most topics that are given an alias, whatever the client takes: each is held for as long as the connection.
const MAX_ALIASES: usize = 64;
/// Names of shared subscriptions above which those that are not in use are forgotten.
const MAX_NAMES: usize = 256;
/// Topics up to this length cost no more than an alias.
const SHORT_TOPIC_BYTES: usize = 3;
/// Expiry interval of what is sent again when it has expired.
const LAST_SECOND: u32 = 1;
/// Microseconds in a second.
const SECOND_US: i64 = 1_000_000;

/// The outgoing side of a connection.
#[derive(Debug)]
pub(crate) struct Outbound {
    bytes: Vec<u8>,
    /// How many of them were written.
    written: usize,
    /// Bytes of this connection that were written and let go; places are counted from its first byte.
    gone: usize,
    /// Place of the bytes that wait for the journal.
    held: Option<usize>,
    /// What the journal is to note.
    pub(crate) turn: Turn,
    pub(crate) window: Window,
    takes: Takes,
    aliases: HashMap<Box<str>, NonZeroU16>,
    retained: VecDeque<(Retained, Grant)>,
    /// Retained messages that an earlier connection sent with QoS 2, with their packet ids.
    kept: VecDeque<(Retained, NonZeroU16)>,
    /// Retained messages that were sent and not acknowledged, in a session that outlives the connection.
    retained_open: usize,
    /// Names of shared subscriptions for which something was sent with QoS 2, by their numbers.
    groups: HashMap<u32, Box<str>>,
    /// Messages sent since this was last asked.
    delivered: u64,
}

impl Outbound {
    pub(crate) fn new(takes: Takes) -> Self {
        Self {
            bytes: Vec::new(),
            written: 0,
            gone: 0,
            held: None,
            turn: Turn::default(),
            window: Window::new(takes.window),
            takes,
            aliases: HashMap::new(),
            retained: VecDeque::new(),
            kept: VecDeque::new(),
            retained_open: 0,
            groups: HashMap::new(),
            delivered: 0,
        }
    }

    /// Tells whether the session outlives the connection.
    pub(crate) fn is_durable(&self) -> bool {
        self.takes.durable
    }

    /// Tells the shared subscription of a number.
    pub(crate) fn group(&self, number: u32) -> Option<&str> {
        self.groups.get(&number).map(|name| &**name)
    }

    /// Notes the number of a shared subscription.
    pub(crate) fn name_group(&mut self, number: u32, name: &str) {
        if self.groups.contains_key(&number) {
            return;
        }
        if self.groups.len() >= MAX_NAMES {
            // A client that leaves groups and joins them again and again gets new numbers.
            let window = &self.window;
            self.groups.retain(|number, _| window.has_share(*number));
        }
        self.groups.insert(number, name.into());
    }

    /// Tells whether more may be made.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes.len() - self.written < OUTPUT_BYTES
    }

    /// Returns the size of the largest packet the client takes.
    pub(crate) fn packet_limit(&self) -> usize {
        self.takes.packet_bytes
    }

    /// Returns what may be written now.
    pub(crate) fn unwritten(&self) -> &[u8] {
        let end = self.held.map_or(self.bytes.len(), |held| held - self.gone);
        &self.bytes[self.written..end]
    }

    /// Tells whether everything was written.
    pub(crate) fn is_written(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// Keeps back the bytes from the place `held` on, or none.
    pub(crate) fn hold(&mut self, held: Option<usize>) {
        self.held = held;
    }

    /// Makes all that is appended from here on wait for what the journal is to note.
    pub(crate) fn gate(&mut self) {
        let place = self.gone + self.bytes.len();
        self.turn.gate.get_or_insert(place);
    }

    /// Notes that so many bytes were written.
    pub(crate) fn wrote(&mut self, count: usize) {
        self.written += count;
        let is_all = self.written == self.bytes.len();
        // Not only when all is written: with QoS 2 something may wait for the journal at any time.
        if is_all || self.written >= OUTPUT_BYTES {
            self.bytes.drain(..self.written);
            self.gone += self.written;
            self.written = 0;
        }
        if is_all {
            self.bytes.shrink_to(KEPT_BYTES);
        }
    }

    /// Returns the buffer to which answers are appended.
    pub(crate) fn answers(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Sends a message, if it is for this client and may go now.
    pub(crate) fn send(&mut self, message: &Message<'_>) -> Sent {
        self.emit(message, None)
    }

    /// Sends a message again with the packet id it has, which was restored; see [`Outbound::send`].
    pub(crate) fn send_again(&mut self, message: &Message<'_>, id: NonZeroU16) -> Sent {
        self.emit(message, Some(id))
    }

    /// Gives a message its packet id, unless it has one; `None` when the window is full.
    fn enter(&mut self, message: &Message<'_>, again: Option<NonZeroU16>) -> Option<u16> {
        if message.qos == 0 {
            return Some(0);
        }
        if let Some(id) = again {
            return self.window.again(id).then_some(id.get());
        }
        let id = self.window.push(message.origin, message.qos)?;
        if message.qos == 2 {
            self.note_sent(message, id);
        }
        Some(id.get())
    }

    /// Makes a message with QoS 2 wait until the journal knows to whom it goes.
    fn note_sent(&mut self, message: &Message<'_>, id: NonZeroU16) {
        let group = message.group.into();
        let change = match (message.origin, self.takes.durable) {
            (Origin::Session { seq }, true) => Change::Sent { id, seq, group },
            (Origin::Retained { .. }, true) if leaves_out(Step::Kept) => return,
            (Origin::Retained { seq }, true) => Change::Kept {
                id,
                seq,
                message: Retained::sent(message),
            },
            (Origin::Share { number, seq }, true) => {
                self.name_group(number, message.group);
                Change::Sent { id, seq, group }
            }
            // The session ends with the connection, and then it is for nobody else [MQTT-4.8.2-5].
            (Origin::Share { seq, .. }, false) => Change::Done { group, seq },
            (Origin::Session { .. } | Origin::Retained { .. }, false) | (Origin::Memory, _) => {
                return;
            }
        };
        self.gate();
        self.turn.changes.push(change);
    }

    fn emit(&mut self, message: &Message<'_>, again: Option<NonZeroU16>) -> Sent {
        let (expiry, others) = properties::expiry_of(message.properties);
        let expiry = match expiry.map(|seconds| self.left_of(seconds, message.received_us)) {
            // What was begun is completed [MQTT-4.4.0-1, MQTT-4.3.3-7]: the client may have it.
            Some(None) if again.is_some() => Some(LAST_SECOND),
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
            match self.enter(message, again) {
                Some(id) => publish.packet_id = id,
                None => return Sent::NotNow,
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
            match self.enter(message, again) {
                Some(id) => publish.packet_id = id,
                None => return Sent::NotNow,
            }
            if let Some(Alias::New(number)) = extra.alias {
                self.aliases.insert(message.topic.into(), number);
            }
            publish::encode_v5(&mut self.bytes, &publish, &extra);
        }
        self.delivered += 1;
        Sent::Yes
    }

    /// Takes a PUBREC and answers it; `refused` is what the client does not want. Returns whose message is done with
    /// now; with a session that outlives the connection that is so only once the journal has it.
    pub(crate) fn take_pubrec(&mut self, id: NonZeroU16, refused: bool) -> Option<Origin> {
        let receipt = self.window.receive(id);
        // The client had it before it was sent again.
        self.kept.retain(|(_, there)| *there != id);
        let mut done = None;
        match receipt {
            Receipt::New(origin) if self.takes.durable && !leaves_out(Step::Receipt) => {
                if let Some((seq, group)) = self.journaled(origin) {
                    self.gate();
                    self.turn.changes.push(if refused {
                        Change::Done { group, seq }
                    } else {
                        Change::Received { id, seq, group }
                    });
                    self.turn.received.push(origin);
                }
            }
            Receipt::New(origin) => done = Some(origin),
            Receipt::Repeated => {}
            Receipt::Unknown if self.takes.version == Version::V5 && !refused => {
                let reason = reason::PACKET_ID_NOT_FOUND;
                answers::put_acknowledgement(&mut self.bytes, PUBREL, id.get(), reason, None);
                return None;
            }
            Receipt::Unknown => {}
        }
        if refused {
            self.take_pubcomp(id);
        } else {
            self.put_pubrel(id);
        }
        done
    }

    /// Returns how the journal names a message.
    fn journaled(&self, origin: Origin) -> Option<(u64, Box<str>)> {
        match origin {
            Origin::Session { seq } => Some((seq, Box::default())),
            Origin::Retained { seq } => Some((seq, KEPT.into())),
            Origin::Share { number, seq } => Some((seq, self.group(number)?.into())),
            Origin::Memory => None,
        }
    }

    /// Appends a PUBREL.
    pub(crate) fn put_pubrel(&mut self, id: NonZeroU16) {
        let [high, low] = id.get().to_be_bytes();
        self.bytes.extend_from_slice(&[PUBREL, 2, high, low]);
    }

    /// Takes a PUBCOMP.
    pub(crate) fn take_pubcomp(&mut self, id: NonZeroU16) {
        if self.window.complete(id) && self.takes.durable {
            self.turn.changes.push(Change::Completed { id });
        }
    }

    /// Returns the seconds that are left of an expiry interval; `None` when none are.
    fn left_of(&self, seconds: u32, received_us: i64) -> Option<u32> {
        let waited_us = self.takes.clock.now().as_micros() - received_us;
        let waited = u32::try_from(waited_us.max(0) / SECOND_US).unwrap_or(u32::MAX);
        if leaves_out(Step::ExpiryLeft) {
            return (waited < seconds).then_some(seconds);
        }
        let left = seconds.checked_sub(waited).filter(|left| *left > 0);
        left.or(leaves_out(Step::Expired).then_some(LAST_SECOND))
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
            .map(if leaves_out(Step::AliasTold) {
                Alias::Known
            } else {
                Alias::New
            })
    }

    /// Returns the number of messages sent since the last call.
    pub(crate) fn take_delivered(&mut self) -> u64 {
        std::mem::take(&mut self.delivered)
    }
}

#[cfg(test)]
mod tests;
