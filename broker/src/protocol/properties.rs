//! The properties of MQTT 5: which there are, how each lies on the wire, and where it is allowed.
//!
//! Invariant: what [`each`] has gone through to the end is well formed, has only properties that the packet may
//! have, and none twice that may be there once.

use super::Violation;
use super::frame::put_length;
use super::wire::Wire;

/// The identifiers.
pub(crate) mod id {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0b;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTH_METHOD: u8 = 0x15;
    pub(crate) const AUTH_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1a;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1c;
    pub(crate) const REASON_STRING: u8 = 0x1f;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2a;
}

/// A value, by its type on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Byte(u8),
    Two(u16),
    Four(u32),
    Variable(u32),
    Text(&'a str),
    Binary(&'a [u8]),
    Pair(&'a str, &'a str),
}

/// A property as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Property<'a> {
    pub(crate) id: u8,
    pub(crate) value: Value<'a>,
    /// Identifier and value as they lie on the wire.
    pub(crate) bytes: &'a [u8],
}

/// Some properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Set(u64);

impl Set {
    pub(crate) const fn of(ids: &[u8]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < ids.len() {
            bits |= 1 << ids[at];
            at += 1;
        }
        Self(bits)
    }

    fn has(self, id: u8) -> bool {
        id < 64 && self.0 & (1 << id) != 0
    }
}

/// What a client may send with CONNECT.
pub(crate) const OF_CONNECT: Set = Set::of(&[
    id::SESSION_EXPIRY,
    id::AUTH_METHOD,
    id::AUTH_DATA,
    id::REQUEST_PROBLEM,
    id::REQUEST_RESPONSE,
    id::RECEIVE_MAXIMUM,
    id::TOPIC_ALIAS_MAXIMUM,
    id::USER,
    id::MAXIMUM_PACKET_SIZE,
]);
/// What it may send with a will.
pub(crate) const OF_WILL: Set = Set::of(&[
    id::PAYLOAD_FORMAT,
    id::MESSAGE_EXPIRY,
    id::CONTENT_TYPE,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
    id::WILL_DELAY,
    id::USER,
]);
/// What it may send with PUBLISH. Subscription identifiers are for the other direction [MQTT-3.3.4-6].
pub(crate) const OF_PUBLISH: Set = Set::of(&[
    id::PAYLOAD_FORMAT,
    id::MESSAGE_EXPIRY,
    id::CONTENT_TYPE,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
    id::TOPIC_ALIAS,
    id::USER,
]);
/// What it may send with SUBSCRIBE.
pub(crate) const OF_SUBSCRIBE: Set = Set::of(&[id::SUBSCRIPTION_ID, id::USER]);
/// What it may send with UNSUBSCRIBE.
pub(crate) const OF_UNSUBSCRIBE: Set = Set::of(&[id::USER]);
/// What it may send with PUBACK, PUBREC, PUBREL and PUBCOMP.
pub(crate) const OF_ACK: Set = Set::of(&[id::REASON_STRING, id::USER]);
/// What it may send with DISCONNECT.
pub(crate) const OF_DISCONNECT: Set = Set::of(&[id::SESSION_EXPIRY, id::REASON_STRING, id::USER]);

/// Goes through properties, their length left out.
///
/// # Errors
/// The rule that is broken: by a property's form or place, by one that is there twice, or by what `found` says.
pub(crate) fn each<'a>(
    bytes: &'a [u8],
    allowed: Set,
    mut found: impl FnMut(Property<'a>) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let mut seen = Set(0);
    let mut wire = Wire(bytes);
    while !wire.is_empty() {
        let before = wire.0;
        let id = wire.byte()?;
        if !allowed.has(id) {
            return Err(Violation::Property);
        }
        let value = value(id, &mut wire)?;
        if seen.has(id) && id != id::USER {
            return Err(Violation::Repeated);
        }
        seen.0 |= 1 << id;
        let bytes = &before[..before.len() - wire.0.len()];
        found(Property { id, value, bytes })?;
    }
    Ok(())
}

fn value<'a>(id: u8, wire: &mut Wire<'a>) -> Result<Value<'a>, Violation> {
    Ok(match id {
        id::PAYLOAD_FORMAT
        | id::REQUEST_PROBLEM
        | id::REQUEST_RESPONSE
        | id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_AVAILABLE
        | id::SUBSCRIPTION_IDS_AVAILABLE
        | id::SHARED_AVAILABLE => match wire.byte()? {
            value @ (0 | 1) => Value::Byte(value),
            _ => return Err(Violation::Protocol),
        },
        id::SERVER_KEEP_ALIVE | id::TOPIC_ALIAS_MAXIMUM => Value::Two(wire.two()?),
        id::RECEIVE_MAXIMUM => match wire.two()? {
            0 => return Err(Violation::Protocol),
            value => Value::Two(value),
        },
        id::TOPIC_ALIAS => match wire.two()? {
            0 => return Err(Violation::TopicAlias),
            value => Value::Two(value),
        },
        id::MESSAGE_EXPIRY | id::SESSION_EXPIRY | id::WILL_DELAY => Value::Four(wire.four()?),
        id::MAXIMUM_PACKET_SIZE => match wire.four()? {
            0 => return Err(Violation::Protocol),
            value => Value::Four(value),
        },
        id::SUBSCRIPTION_ID => match wire.variable()? {
            0 => return Err(Violation::Protocol),
            value => Value::Variable(value),
        },
        id::CORRELATION_DATA | id::AUTH_DATA => Value::Binary(wire.binary()?),
        id::USER => Value::Pair(wire.text()?, wire.text()?),
        id::CONTENT_TYPE
        | id::RESPONSE_TOPIC
        | id::ASSIGNED_CLIENT_ID
        | id::AUTH_METHOD
        | id::RESPONSE_INFORMATION
        | id::SERVER_REFERENCE
        | id::REASON_STRING => Value::Text(wire.text()?),
        _ => return Err(Violation::Property),
    })
}

/// Bytes of a message expiry interval with its identifier.
const EXPIRY_BYTES: usize = 5;

/// What is kept of the properties of a message: in the log, in queues and in memory. It is the form of the wire
/// without the length; the message expiry interval is first, so that it is found at once.
///
/// Topic alias, will delay and subscription identifiers are not of the message and not in it.
pub(crate) fn keep(out: &mut Vec<u8>, property: &Property<'_>) {
    match property.id {
        id::TOPIC_ALIAS | id::WILL_DELAY | id::SUBSCRIPTION_ID => {}
        id::MESSAGE_EXPIRY => {
            out.splice(0..0, property.bytes.iter().copied());
        }
        _ => out.extend_from_slice(property.bytes),
    }
}

/// Returns kept properties with the identifiers of subscriptions behind them.
pub(crate) fn keep_with_ids(kept: &[u8], ids: &[u32]) -> Vec<u8> {
    let mut kept = kept.to_vec();
    for id in ids {
        kept.push(id::SUBSCRIPTION_ID);
        put_length(&mut kept, *id as usize);
    }
    kept
}

/// Parts kept properties into the message expiry interval, in seconds, and the others.
pub(crate) fn expiry_of(kept: &[u8]) -> (Option<u32>, &[u8]) {
    match kept.split_at_checked(EXPIRY_BYTES) {
        Some((&[id::MESSAGE_EXPIRY, a, b, c, d], others)) => {
            (Some(u32::from_be_bytes([a, b, c, d])), others)
        }
        _ => (None, kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], allowed: Set) -> Result<(), Violation> {
        each(bytes, allowed, |_| Ok(()))
    }

    #[test]
    fn each_property_has_its_place_its_form_and_its_number() {
        let cases: [(&[u8], Set, Result<(), Violation>); 14] = [
            (&[], OF_ACK, Ok(())),
            (&[0x11, 0, 0, 0, 9], OF_CONNECT, Ok(())),
            (&[0x11, 0, 0, 0], OF_CONNECT, Err(Violation::Malformed)),
            (&[0x11, 0, 0, 0, 9], OF_PUBLISH, Err(Violation::Property)),
            (&[0x7f, 0], OF_PUBLISH, Err(Violation::Property)),
            (&[0xff, 0], OF_PUBLISH, Err(Violation::Property)),
            (&[0x01, 1, 0x01, 1], OF_PUBLISH, Err(Violation::Repeated)),
            (&[0x01, 2], OF_PUBLISH, Err(Violation::Protocol)),
            (&[0x23, 0, 0], OF_PUBLISH, Err(Violation::TopicAlias)),
            (&[0x21, 0, 0], OF_CONNECT, Err(Violation::Protocol)),
            (&[0x0b, 1], OF_PUBLISH, Err(Violation::Property)),
            (&[0x0b, 0], OF_SUBSCRIBE, Err(Violation::Protocol)),
            (b"\x26\0\x01a\0\x01b\x26\0\x01a\0\x01b", OF_ACK, Ok(())),
            (b"\x1f\0\x01\0", OF_ACK, Err(Violation::Text)),
        ];
        for (bytes, allowed, expected) in cases {
            assert_eq!(check(bytes, allowed), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_expiry_is_kept_first_and_the_alias_not_at_all() {
        let bytes = b"\x26\0\x01a\0\x01b\x23\0\x07\x02\0\0\0\x05\x03\0\x01t";
        let mut kept = Vec::new();
        each(bytes, OF_PUBLISH, |property| {
            keep(&mut kept, &property);
            Ok(())
        })
        .unwrap();
        assert_eq!(kept, b"\x02\0\0\0\x05\x26\0\x01a\0\x01b\x03\0\x01t");
        let (expiry, others) = expiry_of(&kept);
        assert_eq!(expiry, Some(5));
        assert_eq!(expiry_of(others), (None, others));
    }
}
