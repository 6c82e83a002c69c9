//! MQTT 5: every packet a client may send but PUBLISH, read by our own code.
//!
//! ADR 0001 says why the crate reads these for MQTT 3.1.1 only. Invariants: a packet that is accepted has no bytes left
//! over, no reserved bits, no property that is not of its kind or there twice, and only texts without NUL. The tests
//! hold what is accepted to the meaning the crate gives it.
//!
//! What goes the other way is in [`answers`], reasons are in [`reason`].

pub(crate) mod answers;
pub(crate) mod reason;

use std::num::NonZeroU16;

use bytes::Bytes;

use super::control::{Connect, ConnectError, Control, MAX_CLIENT_ID_BYTES, Request, Will};
use super::frame::Frame;
use super::properties::{self, Value, id};
use super::wire::Wire;
use super::{Version, Violation, topic};

/// Session expiry interval of a session that does not expire.
pub(crate) const NEVER: u32 = u32::MAX;
/// First byte of SUBSCRIBE.
const SUBSCRIBE: u8 = 0x82;
/// First byte of UNSUBSCRIBE.
const UNSUBSCRIBE: u8 = 0xa2;
/// First byte of DISCONNECT.
const DISCONNECT: u8 = 0xe0;

/// Flags of CONNECT.
mod flag {
    pub(super) const RESERVED: u8 = 1;
    pub(super) const CLEAN_START: u8 = 1 << 1;
    pub(super) const WILL: u8 = 1 << 2;
    pub(super) const WILL_QOS: u8 = 0b11 << 3;
    pub(super) const WILL_RETAIN: u8 = 1 << 5;
    pub(super) const PASSWORD: u8 = 1 << 6;
    pub(super) const USERNAME: u8 = 1 << 7;
}

/// Reads the rest of a CONNECT, from the flags on.
///
/// # Errors
/// What to answer.
pub(crate) fn connect(mut wire: Wire<'_>) -> Result<Connect, ConnectError> {
    let flags = wire.byte()?;
    let has = |flag| flags & flag != 0;
    let will_qos = (flags & flag::WILL_QOS) >> 3;
    let will_is_told = has(flag::WILL_QOS) || has(flag::WILL_RETAIN);
    if has(flag::RESERVED) || will_qos > 2 || (will_is_told && !has(flag::WILL)) {
        return Err(Violation::Malformed.into());
    }
    let mut connect = Connect {
        clean_start: has(flag::CLEAN_START),
        keep_alive: wire.two()?,
        ..Connect::new(Version::V5)
    };
    connect_properties(&mut connect, wire.properties()?)?;
    wire.text()?.clone_into(&mut connect.client_id);
    if has(flag::WILL) {
        let (qos, retain) = (will_qos, has(flag::WILL_RETAIN));
        connect.will = Some(will(&mut wire, qos, retain)?);
    }
    if has(flag::USERNAME) {
        connect.username = Some(wire.text()?.to_owned());
    }
    if has(flag::PASSWORD) {
        connect.password = Some(Bytes::copy_from_slice(wire.binary()?));
    }
    wire.end()?;
    if connect.authenticates {
        return Err(ConnectError::AuthMethod);
    }
    if connect.client_id.len() > MAX_CLIENT_ID_BYTES {
        return Err(ConnectError::ClientId);
    }
    Ok(connect)
}

/// Reads no more of a CONNECT than the size of the largest packet the client takes, as far as it can be read.
pub(crate) fn limit_of(mut wire: Wire<'_>) -> usize {
    let mut connect = Connect::new(Version::V5);
    let mut read = || {
        let (_flags, _keep_alive) = (wire.byte()?, wire.two()?);
        connect_properties(&mut connect, wire.properties()?)
    };
    match read() {
        // What was read before the rule was broken counts.
        Ok(()) | Err(_) => connect.packet_bytes,
    }
}

fn connect_properties(connect: &mut Connect, bytes: &[u8]) -> Result<(), Violation> {
    let mut has_auth_data = false;
    properties::each(bytes, properties::OF_CONNECT, |property| {
        match (property.id, property.value) {
            (id::SESSION_EXPIRY, Value::Four(seconds)) => connect.session_expiry = seconds,
            (id::RECEIVE_MAXIMUM, Value::Two(most)) => connect.receive_maximum = most,
            (id::MAXIMUM_PACKET_SIZE, Value::Four(bytes)) => {
                connect.packet_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            }
            (id::TOPIC_ALIAS_MAXIMUM, Value::Two(most)) => connect.aliases = most,
            (id::REQUEST_PROBLEM, Value::Byte(byte)) => connect.wants_reasons = byte == 1,
            (id::REQUEST_RESPONSE, Value::Byte(byte)) => connect.wants_response = byte == 1,
            (id::AUTH_METHOD, _) => connect.authenticates = true,
            (id::AUTH_DATA, _) => has_auth_data = true,
            _ => {}
        }
        Ok(())
    })?;
    // Data without a method [MQTT 3.1.2.11.10].
    if has_auth_data && !connect.authenticates {
        return Err(Violation::Protocol);
    }
    Ok(())
}

fn will(wire: &mut Wire<'_>, qos: u8, retain: bool) -> Result<Will, Violation> {
    let (mut kept, mut delay) = (Vec::new(), 0);
    properties::each(wire.properties()?, properties::OF_WILL, |property| {
        match (property.id, property.value) {
            (id::WILL_DELAY, Value::Four(seconds)) => delay = seconds,
            (id::RESPONSE_TOPIC, Value::Text(text)) => topic::response(text)?,
            _ => {}
        }
        properties::keep(&mut kept, &property);
        Ok(())
    })?;
    let topic = topic::name(wire.binary()?)?.to_owned();
    if topic::is_own(&topic) {
        return Err(Violation::DollarTopic);
    }
    Ok(Will {
        topic,
        payload: Bytes::copy_from_slice(wire.binary()?),
        qos,
        retain,
        delay,
        properties: kept.into(),
    })
}

/// Reads a packet of a connected client.
///
/// # Errors
/// When it breaks a rule or is none that a client may send here.
pub(crate) fn control(frame: &Frame<'_>) -> Result<Control, Violation> {
    let wire = Wire(frame.body);
    match frame.first {
        SUBSCRIBE => subscribe(wire),
        UNSUBSCRIBE => unsubscribe(wire),
        DISCONNECT => disconnect(wire),
        // Reserved flags and packets that have no body are malformed otherwise [MQTT-2.1.3-1]; the rest is out of place.
        first if first & 0xf != 0 => Err(Violation::Malformed),
        first if matches!(first >> 4, 0 | 0x6 | 0x8 | 0xa | 0xc | 0xe) => Err(Violation::Malformed),
        _ => Err(Violation::Unexpected),
    }
}

fn packet_id(wire: &mut Wire<'_>) -> Result<NonZeroU16, Violation> {
    NonZeroU16::new(wire.two()?).ok_or(Violation::Malformed)
}

fn subscribe(mut wire: Wire<'_>) -> Result<Control, Violation> {
    let packet_id = packet_id(&mut wire)?;
    let mut number = None;
    properties::each(wire.properties()?, properties::OF_SUBSCRIBE, |property| {
        if let Value::Variable(value) = property.value {
            number = Some(value);
        }
        Ok(())
    })?;
    let mut requests = Vec::new();
    while !wire.is_empty() {
        let filter = wire.text()?.to_owned();
        topic::requested(&filter)?;
        let options = wire.byte()?;
        let (qos, handling) = (options & 0b11, (options >> 4) & 0b11);
        // [MQTT-3.8.3-5]
        if options & 0b1100_0000 != 0 {
            return Err(Violation::Malformed);
        }
        // 3.8.3.1 calls these protocol errors.
        if qos == 3 || handling == 3 {
            return Err(Violation::Protocol);
        }
        let no_local = options & 0b100 != 0;
        // [MQTT-3.8.3-4]
        if no_local && filter.starts_with("$share/") {
            return Err(Violation::Protocol);
        }
        requests.push(Request {
            filter,
            qos,
            no_local,
            retain_as_published: options & 0b1000 != 0,
            retain_handling: handling,
            id: number,
        });
    }
    if requests.is_empty() {
        return Err(Violation::Protocol);
    }
    Ok(Control::Subscribe(packet_id, requests))
}

fn unsubscribe(mut wire: Wire<'_>) -> Result<Control, Violation> {
    let packet_id = packet_id(&mut wire)?;
    let properties = wire.properties()?;
    properties::each(properties, properties::OF_UNSUBSCRIBE, |_| Ok(()))?;
    let mut filters = Vec::new();
    while !wire.is_empty() {
        let filter = wire.text()?;
        topic::requested(filter)?;
        filters.push(filter.to_owned());
    }
    if filters.is_empty() {
        return Err(Violation::Protocol);
    }
    Ok(Control::Unsubscribe(packet_id, filters))
}

fn disconnect(mut wire: Wire<'_>) -> Result<Control, Violation> {
    let reason = if wire.is_empty() { 0 } else { wire.byte()? };
    if !reason::a_client_may_disconnect_with(reason) {
        return Err(Violation::Malformed);
    }
    let mut session_expiry = None;
    if !wire.is_empty() {
        let properties = wire.properties()?;
        properties::each(properties, properties::OF_DISCONNECT, |property| {
            if let Value::Four(seconds) = property.value {
                session_expiry = Some(seconds);
            }
            Ok(())
        })?;
    }
    wire.end()?;
    Ok(Control::Disconnect {
        reason,
        session_expiry,
    })
}

/// Reads a PUBACK, PUBREC, PUBREL or PUBCOMP: its packet id and its reason, which is `known`.
///
/// # Errors
/// When it breaks a rule.
pub(crate) fn acknowledgement(
    body: &[u8],
    known: impl Fn(u8) -> bool,
) -> Result<(NonZeroU16, u8), Violation> {
    let mut wire = Wire(body);
    let packet_id = packet_id(&mut wire)?;
    let reason = if wire.is_empty() { 0 } else { wire.byte()? };
    if !known(reason) {
        return Err(Violation::Malformed);
    }
    if !wire.is_empty() {
        properties::each(wire.properties()?, properties::OF_ACK, |_| Ok(()))?;
    }
    wire.end()?;
    Ok((packet_id, reason))
}

#[cfg(test)]
mod tests;
