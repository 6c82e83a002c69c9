//! Every packet but PUBLISH: decoded and encoded by `rmqtt-codec`, under rules the crate leaves out.
//!
//! Invariant: what is accepted encodes back to the bytes it came from, so there are no trailing bytes, no
//! reserved bits and no bodies where none belong. Texts hold no NUL.

use std::num::NonZeroU16;

use bytes::{BufMut, Bytes, BytesMut};
use rmqtt_codec::error::DecodeError;
use rmqtt_codec::types::QoS;
use rmqtt_codec::v3::{Codec, ConnectAck, ConnectAckReason, Packet, SubscribeReturnCode};
use tokio_util::codec::{Decoder, Encoder};

use super::frame::{Frame, put_length};
use super::{Version, Violation, topic};

/// CONNECT's first byte.
pub(crate) const CONNECT: u8 = 0x10;
/// PUBACK's first byte.
pub(crate) const PUBACK: u8 = 0x40;
/// PINGREQ's first byte.
pub(crate) const PINGREQ: u8 = 0xc0;
/// A PINGRESP.
pub(crate) const PINGRESP: [u8; 2] = [0xd0, 0];

/// Protocol level of MQTT 3.1.1.
const LEVEL_3_1_1: u8 = 4;
/// Protocol level of MQTT 5.
const LEVEL_5: u8 = 5;

/// What a client asks for when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) clean_session: bool,
    /// Seconds; zero: none.
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<Will>,
}

/// What is published when the connection ends without DISCONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

/// Why a client is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Closed without an answer.
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("MQTT 5 is not supported")]
    Version5,
    #[error("only MQTT 3.1.1 is supported")]
    Version,
    #[error("the client id is empty without clean session, or too long")]
    ClientId,
    #[error("the broker takes no more sessions or is stopping")]
    Unavailable,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) filter: String,
    pub(crate) qos: u8,
}

/// A packet of a connected client, other than PUBLISH and PUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    Subscribe(NonZeroU16, Vec<Request>),
    Unsubscribe(NonZeroU16, Vec<String>),
    Disconnect,
}

/// Longest client id, in bytes.
const MAX_CLIENT_ID_BYTES: usize = 1024;

/// Reads a CONNECT.
///
/// # Errors
/// What to answer, if anything; see [`put_refusal`].
pub(crate) fn connect(frame: &Frame<'_>) -> Result<Connect, ConnectError> {
    if frame.first >> 4 != CONNECT >> 4 {
        return Err(Violation::Unexpected.into());
    }
    match protocol(frame.body) {
        Some((b"MQTT", LEVEL_3_1_1)) => {}
        Some((b"MQTT", LEVEL_5)) => return Err(ConnectError::Version5),
        Some((b"MQTT" | b"MQIsdp", _)) => return Err(ConnectError::Version),
        _ => return Err(Violation::Malformed.into()),
    }
    let packet = match decode(frame) {
        Err(DecodeError::InvalidClientId) => return Err(ConnectError::ClientId),
        other => other.map_err(|error| violation(&error))?,
    };
    let Packet::Connect(connect) = packet else {
        return Err(Violation::Unexpected.into());
    };
    let texts = [Some(&connect.client_id), connect.username.as_ref()];
    if texts.into_iter().flatten().any(|text| text.contains('\0')) {
        return Err(Violation::Text.into());
    }
    if connect.password.is_some() && connect.username.is_none() {
        return Err(Violation::Malformed.into());
    }
    if connect.client_id.len() > MAX_CLIENT_ID_BYTES {
        return Err(ConnectError::ClientId);
    }
    let will = connect.last_will.map(|will| {
        let topic = topic::name(will.topic.as_bytes())?.to_owned();
        if topic::is_own(&topic) {
            return Err(Violation::DollarTopic);
        }
        Ok(Will {
            topic,
            payload: will.message,
            qos: will.qos.value(),
            retain: will.retain,
        })
    });
    Ok(Connect {
        version: Version::V311,
        client_id: connect.client_id.to_string(),
        clean_session: connect.clean_session,
        keep_alive: connect.keep_alive,
        will: will.transpose()?,
    })
}

/// Reads the protocol's name and level.
fn protocol(body: &[u8]) -> Option<(&[u8], u8)> {
    let (len, rest) = body.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some((name, *rest.first()?))
}

/// Reads a packet of a connected client.
///
/// # Errors
/// When it breaks a rule or is none that a client may send here.
pub(crate) fn control(frame: &Frame<'_>) -> Result<Control, Violation> {
    match decode(frame).map_err(|error| violation(&error))? {
        Packet::Subscribe {
            packet_id,
            topic_filters,
        } => {
            let requests = topic_filters.into_iter().map(|(filter, qos)| {
                topic::requested(&filter)?;
                Ok(Request {
                    filter: filter.to_string(),
                    qos: qos.value(),
                })
            });
            let requests: Result<_, Violation> = requests.collect();
            Ok(Control::Subscribe(packet_id, requests?))
        }
        Packet::Unsubscribe {
            packet_id,
            topic_filters,
        } => {
            for filter in &topic_filters {
                topic::requested(filter)?;
            }
            let filters = topic_filters.iter().map(ToString::to_string);
            Ok(Control::Unsubscribe(packet_id, filters.collect()))
        }
        Packet::Disconnect => Ok(Control::Disconnect),
        _ => Err(Violation::Unexpected),
    }
}

/// Reads the packet id of a PUBACK.
///
/// # Errors
/// When it is malformed.
pub(crate) fn puback(frame: &Frame<'_>) -> Result<NonZeroU16, Violation> {
    let id = <[u8; 2]>::try_from(frame.body).map_err(|_| Violation::Malformed)?;
    NonZeroU16::new(u16::from_be_bytes(id)).ok_or(Violation::Malformed)
}

fn decode(frame: &Frame<'_>) -> Result<Packet, DecodeError> {
    let mut bytes = Vec::with_capacity(frame.size);
    bytes.push(frame.first);
    put_length(&mut bytes, frame.body.len());
    bytes.extend_from_slice(frame.body);
    let mut codec = Codec::default();
    let decoded = codec.decode(&mut BytesMut::from(&bytes[..]))?;
    let (packet, _) = decoded.ok_or(DecodeError::MalformedPacket)?;
    let mut again = BytesMut::with_capacity(bytes.len());
    codec
        .encode(packet.clone(), &mut again)
        .map_err(|_| DecodeError::MalformedPacket)?;
    if again == bytes {
        Ok(packet)
    } else {
        Err(DecodeError::MalformedPacket)
    }
}

fn violation(error: &DecodeError) -> Violation {
    match error {
        DecodeError::Utf8Error => Violation::Text,
        DecodeError::InvalidTopicFilter => Violation::Filter,
        DecodeError::UnsupportedPacketType => Violation::Unexpected,
        _ => Violation::Malformed,
    }
}

/// Appends the CONNACK that accepts.
pub(crate) fn put_accepted(out: &mut Vec<u8>, session_present: bool) {
    let return_code = ConnectAckReason::ConnectionAccepted;
    put(
        out,
        Packet::ConnectAck(ConnectAck {
            return_code,
            session_present,
        }),
    );
}

/// Appends the CONNACK that refuses, where the standard has one.
pub(crate) fn put_refusal(out: &mut Vec<u8>, error: ConnectError) {
    let return_code = match error {
        ConnectError::Violation(_) => return,
        // MQTT 5: no flags, reason 0x84 "unsupported protocol version", no properties.
        ConnectError::Version5 => return out.extend_from_slice(&[0x20, 3, 0, 0x84, 0]),
        ConnectError::Version => ConnectAckReason::UnacceptableProtocolVersion,
        ConnectError::ClientId => ConnectAckReason::IdentifierRejected,
        ConnectError::Unavailable => ConnectAckReason::ServiceUnavailable,
    };
    put(
        out,
        Packet::ConnectAck(ConnectAck {
            return_code,
            session_present: false,
        }),
    );
}

/// Appends a SUBACK; `None` says failure.
pub(crate) fn put_suback(out: &mut Vec<u8>, packet_id: NonZeroU16, granted: &[Option<u8>]) {
    let status = granted.iter().map(|qos| match qos {
        Some(0) => SubscribeReturnCode::Success(QoS::AtMostOnce),
        Some(_) => SubscribeReturnCode::Success(QoS::AtLeastOnce),
        None => SubscribeReturnCode::Failure,
    });
    put(
        out,
        Packet::SubscribeAck {
            packet_id,
            status: status.collect(),
        },
    );
}

/// Appends an UNSUBACK.
pub(crate) fn put_unsuback(out: &mut Vec<u8>, packet_id: NonZeroU16) {
    put(out, Packet::UnsubscribeAck { packet_id });
}

fn put(out: &mut Vec<u8>, packet: Packet) {
    let mut bytes = BytesMut::new();
    let encoded = Codec::default().encode(packet, &mut bytes);
    debug_assert!(encoded.is_ok(), "the answers made here have a form");
    out.put_slice(&bytes);
}

#[cfg(test)]
mod tests;
