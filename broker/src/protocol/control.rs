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
use super::wire::Wire;
use super::{Version, Violation, topic, v5};

/// CONNECT's first byte.
pub(crate) const CONNECT: u8 = 0x10;
/// PUBACK's first byte.
pub(crate) const PUBACK: u8 = 0x40;
/// PUBREC's first byte.
pub(crate) const PUBREC: u8 = 0x50;
/// PUBREL's first byte.
pub(crate) const PUBREL: u8 = 0x62;
/// PUBCOMP's first byte.
pub(crate) const PUBCOMP: u8 = 0x70;
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
    /// Whether an older session is to be forgotten.
    pub(crate) clean_start: bool,
    /// For how many seconds the session outlives the connection; [`v5::NEVER`] for ever. MQTT 3.1.1 knows only 0, a
    /// clean session, and for ever.
    pub(crate) session_expiry: u32,
    /// Seconds; zero: none.
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<Will>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Bytes>,
    /// Most messages with QoS 1 and 2 that may be on their way to the client.
    pub(crate) receive_maximum: u16,
    /// Largest packet the client takes.
    pub(crate) packet_bytes: usize,
    /// Highest topic alias the client takes.
    pub(crate) aliases: u16,
    /// Whether acknowledgements may say their reason in words.
    pub(crate) wants_reasons: bool,
    /// Whether the client wants response information.
    pub(crate) wants_response: bool,
    /// Whether it named a method of enhanced authentication.
    pub(crate) authenticates: bool,
}

impl Connect {
    /// What holds where the packet says nothing.
    pub(crate) fn new(version: Version) -> Self {
        Self {
            version,
            client_id: String::new(),
            clean_start: false,
            session_expiry: 0,
            keep_alive: 0,
            will: None,
            username: None,
            password: None,
            receive_maximum: u16::MAX,
            packet_bytes: usize::MAX,
            aliases: 0,
            wants_reasons: true,
            wants_response: false,
            authenticates: false,
        }
    }
}

/// What is published when the connection ends without DISCONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Seconds from the connection's end.
    pub(crate) delay: u32,
    /// In the form of [`super::properties::keep`].
    pub(crate) properties: Bytes,
}

/// Why a client is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Closed without an answer.
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("only MQTT 3.1.1 and 5 are supported")]
    Version,
    #[error("the client id is too long, or empty without clean session")]
    ClientId,
    #[error("the authentication method is not supported")]
    AuthMethod,
    #[error("the broker takes no more sessions or is stopping")]
    Unavailable,
    #[error("the user name or the password is wrong")]
    Credentials,
    #[error("the client is not authorised")]
    NotAuthorized,
    #[error("the client takes only packets smaller than what it would be answered")]
    PacketSize,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) filter: String,
    pub(crate) qos: u8,
    /// Whether what the client itself publishes is not for it.
    pub(crate) no_local: bool,
    /// Whether messages keep their RETAIN flag.
    pub(crate) retain_as_published: bool,
    /// When retained messages come: 0 always, 1 if the subscription is new, 2 never.
    pub(crate) retain_handling: u8,
    /// The subscription's identifier.
    pub(crate) id: Option<u32>,
}

/// A packet of a connected client, other than PUBLISH and PUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    Subscribe(NonZeroU16, Vec<Request>),
    Unsubscribe(NonZeroU16, Vec<String>),
    Disconnect {
        /// A reason code of MQTT 5; 0 is a normal end.
        reason: u8,
        /// A new session expiry interval, in seconds.
        session_expiry: Option<u32>,
    },
}

/// Longest client id, in bytes.
pub(crate) const MAX_CLIENT_ID_BYTES: usize = 1024;

/// Reads a CONNECT.
///
/// # Errors
/// What to answer, if anything; see [`put_refusal`].
pub(crate) fn connect(frame: &Frame<'_>) -> Result<Connect, ConnectError> {
    if frame.first >> 4 != CONNECT >> 4 {
        return Err(Violation::Unexpected.into());
    }
    if frame.first != CONNECT {
        return Err(Violation::Malformed.into());
    }
    match protocol(frame.body) {
        Some((b"MQTT", LEVEL_3_1_1, _)) => {}
        Some((b"MQTT", LEVEL_5, rest)) => return v5::connect(Wire(rest)),
        Some((b"MQTT" | b"MQIsdp", ..)) => return Err(ConnectError::Version),
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
            delay: 0,
            properties: Bytes::new(),
        })
    });
    let session_expiry = if connect.clean_session { 0 } else { v5::NEVER };
    Ok(Connect {
        client_id: connect.client_id.to_string(),
        clean_start: connect.clean_session,
        session_expiry,
        keep_alive: connect.keep_alive,
        will: will.transpose()?,
        username: connect.username.map(|name| name.to_string()),
        password: connect.password,
        wants_reasons: false,
        ..Connect::new(Version::V311)
    })
}

/// Returns the version in which a first packet is to be answered: 5 if it says so.
pub(crate) fn version_of(body: &[u8]) -> Version {
    match protocol(body) {
        Some((b"MQTT", LEVEL_5, _)) => Version::V5,
        _ => Version::V311,
    }
}

/// Returns the size of the largest packet that a client takes, from its first packet and as far as that can be read:
/// not even a refusal is larger.
pub(crate) fn limit_of(body: &[u8]) -> usize {
    match protocol(body) {
        Some((b"MQTT", LEVEL_5, rest)) => v5::limit_of(Wire(rest)),
        _ => usize::MAX,
    }
}

/// Reads the protocol's name and level.
fn protocol(body: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let (len, rest) = body.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    let (level, rest) = rest.split_first()?;
    Some((name, *level, rest))
}

/// Reads a packet of a connected client.
///
/// # Errors
/// When it breaks a rule or is none that a client may send here.
pub(crate) fn control(version: Version, frame: &Frame<'_>) -> Result<Control, Violation> {
    if version == Version::V5 {
        return v5::control(frame);
    }
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
                    no_local: false,
                    retain_as_published: false,
                    retain_handling: 0,
                    id: None,
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
        Packet::Disconnect => Ok(Control::Disconnect {
            reason: 0,
            session_expiry: None,
        }),
        _ => Err(Violation::Unexpected),
    }
}

/// Reads the packet id of a PUBACK, whatever its reason: the client has the message or does not want it.
///
/// # Errors
/// When it is malformed.
pub(crate) fn puback(version: Version, frame: &Frame<'_>) -> Result<NonZeroU16, Violation> {
    if version == Version::V5 && frame.body.len() != 2 {
        return v5::acknowledgement(frame.body, v5::reason::is_of_puback).map(|(id, _)| id);
    }
    let id = <[u8; 2]>::try_from(frame.body).map_err(|_| Violation::Malformed)?;
    NonZeroU16::new(u16::from_be_bytes(id)).ok_or(Violation::Malformed)
}

/// Reads a PUBREC: its packet id, and whether the client does not want the message.
///
/// # Errors
/// When it is malformed.
pub(crate) fn pubrec(version: Version, frame: &Frame<'_>) -> Result<(NonZeroU16, bool), Violation> {
    if version == Version::V5 && frame.body.len() != 2 {
        let read = v5::acknowledgement(frame.body, v5::reason::is_of_puback);
        return read.map(|(id, reason)| (id, reason >= v5::reason::UNSPECIFIED));
    }
    puback(version, frame).map(|id| (id, false))
}

/// Reads the packet id of a PUBREL or PUBCOMP.
///
/// # Errors
/// When it is malformed.
pub(crate) fn pubrel(version: Version, frame: &Frame<'_>) -> Result<NonZeroU16, Violation> {
    if version == Version::V5 && frame.body.len() != 2 {
        return v5::acknowledgement(frame.body, v5::reason::is_of_pubrel).map(|(id, _)| id);
    }
    puback(version, frame)
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
///
/// With MQTT 5 it is not larger than `limit`.
pub(crate) fn put_refusal(version: Version, out: &mut Vec<u8>, error: ConnectError, limit: usize) {
    if version == Version::V5 {
        let reason = match error {
            ConnectError::Violation(violation) => v5::reason::of(violation),
            ConnectError::Version => v5::reason::UNSUPPORTED_VERSION,
            ConnectError::ClientId => v5::reason::CLIENT_ID_NOT_VALID,
            ConnectError::AuthMethod => v5::reason::BAD_AUTHENTICATION_METHOD,
            ConnectError::Unavailable => v5::reason::SERVER_UNAVAILABLE,
            ConnectError::Credentials => v5::reason::BAD_USER_NAME_OR_PASSWORD,
            ConnectError::NotAuthorized => v5::reason::NOT_AUTHORIZED,
            ConnectError::PacketSize => v5::reason::of(Violation::TooLarge),
        };
        return v5::answers::put_refused(out, reason, &error.to_string(), limit);
    }
    let return_code = match error {
        ConnectError::Violation(_) | ConnectError::AuthMethod | ConnectError::PacketSize => return,
        ConnectError::Version => ConnectAckReason::UnacceptableProtocolVersion,
        ConnectError::ClientId => ConnectAckReason::IdentifierRejected,
        ConnectError::Unavailable => ConnectAckReason::ServiceUnavailable,
        ConnectError::Credentials => ConnectAckReason::BadUserNameOrPassword,
        ConnectError::NotAuthorized => ConnectAckReason::NotAuthorized,
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
        Some(1) => SubscribeReturnCode::Success(QoS::AtLeastOnce),
        Some(_) => SubscribeReturnCode::Success(QoS::ExactlyOnce),
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
