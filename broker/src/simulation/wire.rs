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
        /// The highest topic alias the client may set.
        aliases: u16,
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
    Unsuback,
    Pong,
    Disconnect,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) dup: bool,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) id: u16,
    /// Empty when the alias stands for it.
    pub(super) topic: String,
    /// 0: none.
    pub(super) alias: u16,
    /// Seconds; MQTT 3.1.1 has none.
    pub(super) expiry: Option<u32>,
    pub(super) payload: Vec<u8>,
}

pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    put_length(&mut bytes, body.len());
    bytes.extend_from_slice(body);
    bytes
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    let len = u16::try_from(text.len()).expect("texts here are short");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text);
}

fn put_properties(out: &mut Vec<u8>, properties: &[u8]) {
    put_length(out, properties.len());
    out.extend_from_slice(properties);
}

/// What a CONNECT asks for.
#[derive(Debug, Clone)]
pub(super) struct Connect<'a> {
    pub(super) version: Version,
    pub(super) id: &'a str,
    /// Seconds the session outlives the connection, 0 or [`NEVER`] with MQTT 3.1.1.
    pub(super) expiry: u32,
    pub(super) clean: bool,
    /// The highest topic alias the broker may set.
    pub(super) aliases: u16,
    pub(super) will: Option<Will>,
}

/// A will with QoS 1.
#[derive(Debug, Clone)]
pub(super) struct Will {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// Seconds; MQTT 3.1.1 has none.
    pub(super) delay: u32,
}

impl Connect<'_> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_text(&mut body, b"MQTT");
        let will = if self.will.is_some() { 0b0_1100 } else { 0 };
        let flags = u8::from(self.clean) << 1 | will;
        match self.version {
            Version::V311 => body.extend_from_slice(&[4, flags, 0, 0]),
            Version::V5 => {
                body.extend_from_slice(&[5, flags, 0, 0]);
                let mut properties = vec![0x11];
                properties.extend_from_slice(&self.expiry.to_be_bytes());
                properties.push(0x22);
                properties.extend_from_slice(&self.aliases.to_be_bytes());
                put_properties(&mut body, &properties);
            }
        }
        put_text(&mut body, self.id.as_bytes());
        if let Some(will) = &self.will {
            if self.version == Version::V5 {
                let mut properties = vec![0x18];
                properties.extend_from_slice(&will.delay.to_be_bytes());
                put_properties(&mut body, &properties);
            }
            put_text(&mut body, will.topic.as_bytes());
            put_text(&mut body, &will.payload);
        }
        packet(0x10, &body)
    }
}

/// A CONNECT; the session outlives the connection by `expiry` seconds, 0 or [`NEVER`] with MQTT 3.1.1.
pub(super) fn connect(version: Version, id: &str, expiry: u32) -> Vec<u8> {
    let connect = Connect {
        version,
        id,
        expiry,
        clean: expiry == 0,
        aliases: 0,
        will: None,
    };
    connect.bytes()
}

pub(super) fn publish(version: Version, message: &Message) -> Vec<u8> {
    let flags = u8::from(message.dup) << 3 | message.qos << 1 | u8::from(message.retain);
    let mut body = Vec::new();
    put_text(&mut body, message.topic.as_bytes());
    body.extend_from_slice(&message.id.to_be_bytes());
    if version == Version::V5 {
        let mut properties = Vec::new();
        if let Some(expiry) = message.expiry {
            properties.push(EXPIRY);
            properties.extend_from_slice(&expiry.to_be_bytes());
        }
        if message.alias > 0 {
            properties.push(ALIAS);
            properties.extend_from_slice(&message.alias.to_be_bytes());
        }
        put_properties(&mut body, &properties);
    }
    body.extend_from_slice(&message.payload);
    packet(0x30 | flags, &body)
}

/// A SUBSCRIBE; the options are the QoS, and more with MQTT 5.
pub(super) fn subscribe(version: Version, filter: &str, options: u8) -> Vec<u8> {
    let mut body = vec![0, 9];
    if version == Version::V5 {
        body.push(0);
    }
    put_text(&mut body, filter.as_bytes());
    body.push(options);
    packet(0x82, &body)
}

pub(super) fn unsubscribe(version: Version, filter: &str) -> Vec<u8> {
    let mut body = vec![0, 10];
    if version == Version::V5 {
        body.push(0);
    }
    put_text(&mut body, filter.as_bytes());
    packet(0xa2, &body)
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

const EXPIRY: u8 = 0x02;
const ALIAS: u8 = 0x23;
const MOST_ALIASES: u8 = 0x22;

/// Reads numbers, the first byte the highest.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + len)?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
    )
}

/// Reads properties of so few bytes that their length is one byte; returns where they end, and those that are numbers.
fn properties(body: &[u8], at: usize) -> Option<(usize, Vec<(u8, u32)>)> {
    let length = *body.get(at).filter(|length| **length < 128)?;
    let (mut at, end) = (at + 1, at + 1 + usize::from(length));
    let mut found = Vec::new();
    while at < end {
        let name = *body.get(at)?;
        let len = match name {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => 1,
            0x13 | 0x21 | MOST_ALIASES | ALIAS => 2,
            EXPIRY | 0x11 | 0x18 | 0x27 => 4,
            _ => return None,
        };
        found.push((name, number(body, at + 1, len)?));
        at += 1 + len;
    }
    (at == end).then_some((end, found))
}

fn property(found: &[(u8, u32)], name: u8) -> Option<u32> {
    let found = found.iter().find(|(there, _)| *there == name);
    found.map(|(_, value)| *value)
}

fn parse(version: Version, first: u8, body: &[u8]) -> Option<Packet> {
    let short = |at: usize| u16::try_from(number(body, at, 2)?).ok();
    Some(match first {
        0x20 => {
            let is_v5 = version == Version::V5;
            let found = is_v5.then(|| properties(body, 2));
            let (_, found) = found.unwrap_or_default().unwrap_or_default();
            Packet::Connack {
                present: *body.first()? == 1,
                reason: *body.get(1)?,
                aliases: property(&found, MOST_ALIASES)
                    .map_or(Some(0), |most| u16::try_from(most).ok())?,
            }
        }
        PUBACK | PUBREC | PUBREL | PUBCOMP => Packet::Ack {
            first,
            id: short(0)?,
            reason: body.get(2).copied().unwrap_or_default(),
        },
        0x90 => Packet::Suback {
            reason: *body.last()?,
        },
        0xb0 => Packet::Unsuback,
        0xd0 => Packet::Pong,
        0xe0 => Packet::Disconnect,
        _ if first >> 4 == 3 => {
            let mut message = Message {
                dup: first & 8 != 0,
                qos: first >> 1 & 3,
                retain: first & 1 != 0,
                ..Message::default()
            };
            let mut at = 2 + usize::from(short(0)?);
            let topic = str::from_utf8(body.get(2..at)?).ok()?;
            topic.clone_into(&mut message.topic);
            if message.qos > 0 {
                message.id = short(at)?;
                at += 2;
            }
            if version == Version::V5 {
                let (end, found) = properties(body, at)?;
                at = end;
                message.expiry = property(&found, EXPIRY);
                let alias = property(&found, ALIAS).unwrap_or_default();
                message.alias = u16::try_from(alias).ok()?;
            }
            message.payload = body.get(at..)?.to_vec();
            Packet::Publish(message)
        }
        _ => return None,
    })
}
