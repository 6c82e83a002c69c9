//! MQTT 5: what the broker answers.
//!
//! Reasons in words are sent only where the client wants them, except with CONNACK and DISCONNECT, where the
//! standard lets them always, and never when they would make the packet larger than the client takes.

use std::num::NonZeroU16;

use crate::protocol::frame::{length_size, put_length};
use crate::protocol::properties::id;
use crate::protocol::wire::put_text;

/// What the CONNACK that accepts says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Accepted<'a> {
    pub(crate) session_present: bool,
    /// In seconds, where it is not what the client asked for.
    pub(crate) session_expiry: Option<u32>,
    /// Most messages with QoS 1 and 2 that the client may have on their way.
    pub(crate) receive_maximum: u16,
    /// Highest QoS, where it is below 2.
    pub(crate) maximum_qos: Option<u8>,
    /// Largest packet.
    pub(crate) packet_bytes: u32,
    pub(crate) assigned_client_id: Option<&'a str>,
    pub(crate) aliases: u16,
    /// In seconds, where it is not what the client asked for.
    pub(crate) keep_alive: Option<u16>,
    pub(crate) response_information: Option<&'a str>,
}

/// Appends the CONNACK that accepts.
pub(crate) fn put_accepted(out: &mut Vec<u8>, accepted: &Accepted<'_>) {
    let mut properties = Properties::default();
    if let Some(seconds) = accepted.session_expiry {
        properties.put(id::SESSION_EXPIRY, &seconds.to_be_bytes());
    }
    if accepted.receive_maximum < u16::MAX {
        let most = accepted.receive_maximum.to_be_bytes();
        properties.put(id::RECEIVE_MAXIMUM, &most);
    }
    if let Some(qos) = accepted.maximum_qos {
        properties.put(id::MAXIMUM_QOS, &[qos]);
    }
    let most = accepted.packet_bytes.to_be_bytes();
    properties.put(id::MAXIMUM_PACKET_SIZE, &most);
    if let Some(client_id) = accepted.assigned_client_id {
        properties.put_text(id::ASSIGNED_CLIENT_ID, client_id);
    }
    if accepted.aliases > 0 {
        let most = accepted.aliases.to_be_bytes();
        properties.put(id::TOPIC_ALIAS_MAXIMUM, &most);
    }
    if let Some(seconds) = accepted.keep_alive {
        properties.put(id::SERVER_KEEP_ALIVE, &seconds.to_be_bytes());
    }
    if let Some(information) = accepted.response_information {
        properties.put_text(id::RESPONSE_INFORMATION, information);
    }
    let head = [u8::from(accepted.session_present), super::reason::SUCCESS];
    put_packet(out, 0x20, &head, &properties.0, &[]);
}

/// Returns the size of the CONNACK that accepts.
pub(crate) fn accepted_size(accepted: &Accepted<'_>) -> usize {
    let mut bytes = Vec::new();
    put_accepted(&mut bytes, accepted);
    bytes.len()
}

/// Appends the CONNACK that refuses, with the reason in words unless it would be larger than `limit`; nothing at all when
/// it is without, too.
pub(crate) fn put_refused(out: &mut Vec<u8>, reason: u8, words: &str, limit: usize) {
    let mut properties = Properties::default();
    properties.put_text(id::REASON_STRING, words);
    // First byte, length, flags, reason and the length of the properties.
    if properties.0.len() + 8 > limit {
        properties.0.clear();
    }
    if limit >= 5 {
        put_packet(out, 0x20, &[0, reason], &properties.0, &[]);
    }
}

/// Appends a DISCONNECT with the reason in words, or without when it would be larger than `limit`.
pub(crate) fn put_disconnect(out: &mut Vec<u8>, reason: u8, words: &str, limit: usize) {
    let mut properties = Properties::default();
    properties.put_text(id::REASON_STRING, words);
    // First byte, length, reason and the length of the properties.
    if properties.0.len() + 8 > limit {
        properties.0.clear();
    }
    put_packet(out, 0xe0, &[reason], &properties.0, &[]);
}

/// Appends a SUBACK or UNSUBACK: a reason for each filter, and for the first that was refused the words.
fn put_reasons(
    out: &mut Vec<u8>,
    first: u8,
    packet_id: NonZeroU16,
    reasons: &[u8],
    words: Option<&str>,
) {
    let mut properties = Properties::default();
    if let Some(words) = words {
        properties.put_text(id::REASON_STRING, words);
    }
    let head = packet_id.get().to_be_bytes();
    put_packet(out, first, &head, &properties.0, reasons);
}

/// Appends a SUBACK.
pub(crate) fn put_suback(
    out: &mut Vec<u8>,
    packet_id: NonZeroU16,
    reasons: &[u8],
    words: Option<&str>,
) {
    put_reasons(out, 0x90, packet_id, reasons, words);
}

/// Appends an UNSUBACK.
pub(crate) fn put_unsuback(out: &mut Vec<u8>, packet_id: NonZeroU16, reasons: &[u8]) {
    put_reasons(out, 0xb0, packet_id, reasons, None);
}

/// Appends a PUBACK, PUBREC, PUBREL or PUBCOMP with a reason other than success.
pub(crate) fn put_acknowledgement(
    out: &mut Vec<u8>,
    first: u8,
    packet_id: u16,
    reason: u8,
    words: Option<&str>,
) {
    let [high, low] = packet_id.to_be_bytes();
    let Some(words) = words else {
        out.extend_from_slice(&[first, 3, high, low, reason]);
        return;
    };
    let mut properties = Properties::default();
    properties.put_text(id::REASON_STRING, words);
    put_packet(out, first, &[high, low, reason], &properties.0, &[]);
}

#[derive(Debug, Default)]
struct Properties(Vec<u8>);

impl Properties {
    fn put(&mut self, id: u8, value: &[u8]) {
        self.0.push(id);
        self.0.extend_from_slice(value);
    }

    fn put_text(&mut self, id: u8, text: &str) {
        self.0.push(id);
        put_text(&mut self.0, text);
    }
}

fn put_packet(out: &mut Vec<u8>, first: u8, head: &[u8], properties: &[u8], rest: &[u8]) {
    let length = head.len() + length_size(properties.len()) + properties.len() + rest.len();
    out.reserve(5 + length);
    out.push(first);
    put_length(out, length);
    out.extend_from_slice(head);
    put_length(out, properties.len());
    out.extend_from_slice(properties);
    out.extend_from_slice(rest);
}
