//! The few MQTT 3.1.1 packets a publisher needs, by hand.
//!
//! Writes CONNECT, PUBLISH, PINGREQ and DISCONNECT; reads CONNACK, PUBACK and PINGRESP, and refuses
//! anything else a broker might send to a client that subscribes to nothing.
//! The standard: <https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html>.

use mqtt_client::Credentials;

use crate::message::{Message, TimeText};

/// Largest remaining length MQTT can express.
const MAX_REMAINING: usize = 268_435_455;

/// A packet from the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The connection was accepted (0) or refused (anything else).
    ConnAck { code: u8 },
    /// The message with this packet id is durable with the broker.
    PubAck { packet_id: u16 },
    /// The broker is alive.
    PingResp,
}

/// The broker sent what it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker sent a packet that does not belong here (first byte {0:#04x})")]
pub(crate) struct Unexpected(pub(crate) u8);

/// Reads the packet at the beginning of `input`; returns it and its length, or `None` when it is not
/// whole yet. Every packet expected here is 2 or 4 bytes long.
pub(crate) fn read(input: &[u8]) -> Result<Option<(Incoming, usize)>, Unexpected> {
    match *input {
        [0x40, 2, high, low, ..] => {
            let packet_id = u16::from_be_bytes([high, low]);
            Ok(Some((Incoming::PubAck { packet_id }, 4)))
        }
        [0x20, 2, _, code, ..] => Ok(Some((Incoming::ConnAck { code }, 4))),
        [0xd0, 0, ..] => Ok(Some((Incoming::PingResp, 2))),
        [] | [0x40 | 0x20 | 0xd0] | [0x40 | 0x20, 2] | [0x40 | 0x20, 2, _] => Ok(None),
        [first, ..] => Err(Unexpected(first)),
    }
}

/// Writes CONNECT with a clean session.
pub(crate) fn write_connect(
    out: &mut Vec<u8>,
    client_id: &str,
    credentials: Option<&Credentials>,
    keep_alive_s: u16,
) {
    let mut body = Vec::new();
    write_text(&mut body, "MQTT");
    body.push(4);
    // Clean session, and user name and password where given.
    body.push(
        0b10 | if credentials.is_some() {
            0b1100_0000
        } else {
            0
        },
    );
    body.extend_from_slice(&keep_alive_s.to_be_bytes());
    write_text(&mut body, client_id);
    if let Some(credentials) = credentials {
        write_text(&mut body, &credentials.username);
        write_text(&mut body, &credentials.password);
    }
    out.push(0x10);
    write_length(out, body.len());
    out.extend_from_slice(&body);
}

/// Writes PINGREQ.
pub(crate) fn write_ping(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xc0, 0]);
}

/// Writes DISCONNECT.
pub(crate) fn write_disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xe0, 0]);
}

/// Writes PUBLISH: QoS 1 with a packet id, QoS 0 without.
///
/// # Panics
/// When the message is larger than MQTT can carry; the reader of files keeps far below.
pub(crate) fn write_publish(
    out: &mut Vec<u8>,
    message: &Message,
    packet_id: Option<u16>,
    dup: bool,
    times: &mut TimeText,
) {
    let qos = if packet_id.is_some() { 0b10 } else { 0 };
    out.push(0x30 | qos | if dup { 0b1000 } else { 0 });
    // Nearly every message is 128 to 16,383 bytes long, whose length takes two bytes; others move.
    let length_at = out.len();
    out.extend_from_slice(&[0; 2]);
    let body_at = out.len();
    out.extend_from_slice(&[0; 2]);
    message.write_topic(out);
    let topic_length = u16::try_from(out.len() - body_at - 2).unwrap_or(u16::MAX);
    out[body_at..body_at + 2].copy_from_slice(&topic_length.to_be_bytes());
    if let Some(packet_id) = packet_id {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    message.write_payload(out, times);
    let length = out.len() - body_at;
    let mut encoded = Vec::new();
    if let (128..=16_383, Ok(length)) = (length, u16::try_from(length)) {
        let [high, low] = (length << 1).to_be_bytes();
        out[length_at] = low >> 1 | 0x80;
        out[length_at + 1] = high;
    } else {
        write_length(&mut encoded, length);
        out.splice(length_at..body_at, encoded);
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&bytes[..usize::from(length)]);
}

fn write_length(out: &mut Vec<u8>, mut length: usize) {
    assert!(length <= MAX_REMAINING, "a message must be below 256 MiB");
    loop {
        let low = u8::try_from(length % 128).unwrap_or_default();
        length /= 128;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
