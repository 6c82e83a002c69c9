//! MQTT as a client speaks it, as far as the simulation needs it.
#![cfg_attr(
    not(test),
    expect(dead_code, reason = "the fuzz target needs a part of it only")
)]

use crate::protocol::Version;
use crate::protocol::frame::{Split, put_length, split};

pub(super) const PUBACK: u8 = 0x40;
pub(super) const PUBREC: u8 = 0x50;
pub(super) const PUBREL: u8 = 0x62;
pub(super) const PUBCOMP: u8 = 0x70;
pub(super) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A session that never ends.
pub(super) const NEVER: u32 = u32::MAX;

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    Connack {
        present: bool,
        reason: u8,
    },
    Publish(Message),
    /// PUBACK, PUBREC, PUBREL and PUBCOMP by their first bytes.
    Ack {
        first: u8,
        id: u16,
        reason: u8,
    },
    Suback {
        reason: u8,
    },
    Pong,
    Disconnect,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) id: u16,
    pub(super) payload: Vec<u8>,
}

pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    put_length(&mut bytes, body.len());
    bytes.extend_from_slice(body);
    bytes
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("texts here are short");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A CONNECT; the session outlives the connection by `expiry` seconds, 0 or [`NEVER`] with MQTT 3.1.1.
pub(super) fn connect(version: Version, id: &str, expiry: u32) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    let clean = u8::from(expiry == 0) << 1;
    match version {
        Version::V311 => body.extend_from_slice(&[4, clean, 0, 0]),
        Version::V5 => {
            body.extend_from_slice(&[5, clean, 0, 0, 5, 0x11]);
            body.extend_from_slice(&expiry.to_be_bytes());
        }
    }
    put_text(&mut body, id);
    packet(0x10, &body)
}

pub(super) fn publish(version: Version, topic: &str, dup: bool, message: &Message) -> Vec<u8> {
    let first = 0x30 | u8::from(dup) << 3 | message.qos << 1 | u8::from(message.retain);
    let mut body = Vec::new();
    put_text(&mut body, topic);
    body.extend_from_slice(&message.id.to_be_bytes());
    if version == Version::V5 {
        body.push(0);
    }
    body.extend_from_slice(&message.payload);
    packet(first, &body)
}

pub(super) fn subscribe(version: Version, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 9];
    if version == Version::V5 {
        body.push(0);
    }
    put_text(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

pub(super) fn ack(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

/// Takes a packet from the beginning of `bytes`, if a whole one is there.
pub(super) fn take(version: Version, bytes: &mut Vec<u8>) -> Result<Option<Packet>, String> {
    let frame = match split(bytes, 1 << 20) {
        Ok(Split::Frame(frame)) => frame,
        Ok(Split::Incomplete(_)) => return Ok(None),
        Err(violation) => return Err(format!("the broker sent nonsense: {violation:?}")),
    };
    let parsed = parse(version, frame.first, frame.body);
    let packet = parsed.ok_or_else(|| format!("the broker sent {frame:?}"))?;
    let size = frame.size;
    bytes.drain(..size);
    Ok(Some(packet))
}

fn parse(version: Version, first: u8, body: &[u8]) -> Option<Packet> {
    let number = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    Some(match first {
        0x20 => Packet::Connack {
            present: *body.first()? == 1,
            reason: *body.get(1)?,
        },
        PUBACK | PUBREC | PUBREL | PUBCOMP => Packet::Ack {
            first,
            id: number(0)?,
            reason: body.get(2).copied().unwrap_or_default(),
        },
        0x90 => Packet::Suback {
            reason: *body.last()?,
        },
        0xd0 => Packet::Pong,
        0xe0 => Packet::Disconnect,
        _ if first >> 4 == 3 => {
            let mut at = 2 + usize::from(number(0)?);
            let qos = first >> 1 & 3;
            let mut id = 0;
            if qos > 0 {
                id = number(at)?;
                at += 2;
            }
            if version == Version::V5 {
                // Properties of so few bytes that their length is one byte.
                at += 1 + usize::from(*body.get(at).filter(|length| **length < 128)?);
            }
            Packet::Publish(Message {
                qos,
                retain: first & 1 != 0,
                id,
                payload: body.get(at..)?.to_vec(),
            })
        }
        _ => return None,
    })
}
