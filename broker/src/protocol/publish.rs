//! PUBLISH, the hot packet: read from and written to plain slices, without allocation.
//!
//! ADR 0001 says why this one packet is not left to the crate. The tests hold both to the same meaning.

use std::num::NonZeroU16;

use super::properties::{self, Value, id};
use super::wire::Wire;
use super::{Violation, frame, topic};

/// A PUBLISH that borrows from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: &'a str,
    /// Zero with QoS 0, never zero otherwise.
    pub(crate) packet_id: u16,
    /// What MQTT 5 passes on, in the form of [`properties::keep`]; empty with MQTT 3.1.1.
    pub(crate) properties: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// What goes with a PUBLISH of MQTT 5 to one client besides the message's own properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extra<'a> {
    /// With an alias that the client knows the topic is left out.
    pub(crate) alias: Option<Alias>,
    /// What is left of the message expiry interval, in seconds.
    pub(crate) expiry: Option<u32>,
    /// The identifiers of the subscriptions it is for.
    pub(crate) ids: &'a [u32],
}

/// A number for a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alias {
    /// It is told together with the topic.
    New(NonZeroU16),
    Known(NonZeroU16),
}

/// Packet type in the upper half of the first byte.
pub(crate) const TYPE: u8 = 0x30;
/// Largest QoS.
const EXACTLY_ONCE: u8 = 2;

/// Reads the body of a PUBLISH; `first` is the first byte of the packet.
///
/// # Errors
/// When a rule is broken; the topic is a valid topic name afterwards, and may begin with `$`.
pub(crate) fn decode(first: u8, body: &[u8]) -> Result<Publish<'_>, Violation> {
    let (dup, qos, retain) = (first & 0b1000 != 0, (first >> 1) & 0b11, first & 1 != 0);
    if qos > EXACTLY_ONCE || (qos == 0 && dup) {
        return Err(Violation::Qos);
    }
    let (topic_len, rest) = body.split_first_chunk().ok_or(Violation::Malformed)?;
    let topic_len = usize::from(u16::from_be_bytes(*topic_len));
    let (topic, rest) = rest
        .split_at_checked(topic_len)
        .ok_or(Violation::Malformed)?;
    let topic = topic::name(topic)?;
    let (packet_id, payload) = if qos == 0 {
        (0, rest)
    } else {
        let (id, payload) = rest.split_first_chunk().ok_or(Violation::Malformed)?;
        (u16::from_be_bytes(*id), payload)
    };
    if qos > 0 && packet_id == 0 {
        return Err(Violation::Malformed);
    }
    Ok(Publish {
        dup,
        qos,
        retain,
        topic,
        packet_id,
        properties: &[],
        payload,
    })
}

/// Reads the body of a PUBLISH of MQTT 5; also returns its topic alias.
///
/// Without an alias the topic is a valid topic name; with one it is that, or empty. What is kept of the
/// properties is borrowed from the body where it lies there in the right form, and from `kept` otherwise.
///
/// # Errors
/// When a rule is broken.
pub(crate) fn decode_v5<'a>(
    first: u8,
    body: &'a [u8],
    kept: &'a mut Vec<u8>,
) -> Result<(Publish<'a>, Option<NonZeroU16>), Violation> {
    let (dup, qos, retain) = (first & 0b1000 != 0, (first >> 1) & 0b11, first & 1 != 0);
    if qos > EXACTLY_ONCE || (qos == 0 && dup) {
        return Err(Violation::Qos);
    }
    let mut wire = Wire(body);
    let topic = wire.binary()?;
    let packet_id = if qos == 0 { 0 } else { wire.two()? };
    if qos > 0 && packet_id == 0 {
        return Err(Violation::Malformed);
    }
    let properties = wire.properties()?;
    let mut alias = None;
    let mut in_form = true;
    let mut at = 0;
    properties::each(properties, properties::OF_PUBLISH, |property| {
        match (property.id, property.value) {
            (id::TOPIC_ALIAS, Value::Two(number)) => {
                alias = NonZeroU16::new(number);
                in_form = false;
            }
            (id::MESSAGE_EXPIRY, _) => in_form &= at == 0,
            (id::RESPONSE_TOPIC, Value::Text(text)) => topic::response(text)?,
            _ => {}
        }
        at += property.bytes.len();
        Ok(())
    })?;
    let topic = match alias {
        Some(_) if topic.is_empty() => "",
        None if topic.is_empty() => return Err(Violation::Protocol),
        _ => topic::name(topic)?,
    };
    let properties = if in_form {
        properties
    } else {
        kept.clear();
        properties::each(properties, properties::OF_PUBLISH, |property| {
            properties::keep(kept, &property);
            Ok(())
        })?;
        &kept[..]
    };
    let publish = Publish {
        dup,
        qos,
        retain,
        topic,
        packet_id,
        properties,
        payload: wire.0,
    };
    Ok((publish, alias))
}

/// Appends a PUBLISH. Its topic came from a packet or a log record, so it fits 16 bits of length.
pub(crate) fn encode(out: &mut Vec<u8>, publish: &Publish<'_>) {
    let Ok(topic_len) = u16::try_from(publish.topic.len()) else {
        debug_assert!(false, "a topic has at most 65,535 bytes");
        return;
    };
    let id_len = if publish.qos > 0 { 2 } else { 0 };
    let length = 2 + publish.topic.len() + id_len + publish.payload.len();
    out.reserve(5 + length);
    let flags = u8::from(publish.dup) << 3 | publish.qos << 1 | u8::from(publish.retain);
    out.push(TYPE | flags);
    frame::put_length(out, length);
    out.extend_from_slice(&topic_len.to_be_bytes());
    out.extend_from_slice(publish.topic.as_bytes());
    if publish.qos > 0 {
        out.extend_from_slice(&publish.packet_id.to_be_bytes());
    }
    out.extend_from_slice(publish.payload);
}

/// Returns the bytes a PUBLISH of MQTT 5 takes behind its fixed header, and those of its properties.
fn lengths_v5(publish: &Publish<'_>, extra: &Extra<'_>) -> (usize, usize) {
    let topic_len = match extra.alias {
        Some(Alias::Known(_)) => 0,
        _ => publish.topic.len(),
    };
    let id_len = if publish.qos > 0 { 2 } else { 0 };
    let ids = extra
        .ids
        .iter()
        .map(|id| 1 + frame::length_size(*id as usize));
    let properties_len = extra.alias.map_or(0, |_| 3)
        + extra.expiry.map_or(0, |_| 5)
        + publish.properties.len()
        + ids.sum::<usize>();
    let prefix = frame::length_size(properties_len);
    let length = 2 + topic_len + id_len + prefix + properties_len + publish.payload.len();
    (length, properties_len)
}

/// Returns the size of a PUBLISH of MQTT 5.
pub(crate) fn size_v5(publish: &Publish<'_>, extra: &Extra<'_>) -> usize {
    let (length, _) = lengths_v5(publish, extra);
    1 + frame::length_size(length) + length
}

/// Appends a PUBLISH of MQTT 5. The properties of `publish` are without an expiry interval: that is in `extra`.
pub(crate) fn encode_v5(out: &mut Vec<u8>, publish: &Publish<'_>, extra: &Extra<'_>) {
    let topic = match extra.alias {
        Some(Alias::Known(_)) => "",
        _ => publish.topic,
    };
    let Ok(topic_len) = u16::try_from(topic.len()) else {
        debug_assert!(false, "a topic has at most 65,535 bytes");
        return;
    };
    let (length, properties_len) = lengths_v5(publish, extra);
    out.reserve(5 + length);
    let flags = u8::from(publish.dup) << 3 | publish.qos << 1 | u8::from(publish.retain);
    out.push(TYPE | flags);
    frame::put_length(out, length);
    out.extend_from_slice(&topic_len.to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    if publish.qos > 0 {
        out.extend_from_slice(&publish.packet_id.to_be_bytes());
    }
    frame::put_length(out, properties_len);
    if let Some(expiry) = extra.expiry {
        out.push(id::MESSAGE_EXPIRY);
        out.extend_from_slice(&expiry.to_be_bytes());
    }
    if let Some(Alias::New(alias) | Alias::Known(alias)) = extra.alias {
        out.push(id::TOPIC_ALIAS);
        out.extend_from_slice(&alias.get().to_be_bytes());
    }
    out.extend_from_slice(publish.properties);
    for number in extra.ids {
        out.push(id::SUBSCRIPTION_ID);
        frame::put_length(out, *number as usize);
    }
    out.extend_from_slice(publish.payload);
}

/// Appends a PUBREC.
pub(crate) fn encode_received(out: &mut Vec<u8>, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[0x50, 2, high, low]);
}

/// Appends a PUBACK, which without a reason has the same form in both versions.
pub(crate) fn encode_ack(out: &mut Vec<u8>, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[0x40, 2, high, low]);
}

#[cfg(test)]
mod tests;
