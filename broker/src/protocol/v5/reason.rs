//! Reason codes of MQTT 5, and what they mean in words.

use crate::protocol::Violation;

pub(crate) const SUCCESS: u8 = 0x00;
pub(crate) const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
pub(crate) const UNSPECIFIED: u8 = 0x80;
pub(crate) const MALFORMED: u8 = 0x81;
pub(crate) const PROTOCOL_ERROR: u8 = 0x82;
pub(crate) const UNSUPPORTED_VERSION: u8 = 0x84;
pub(crate) const CLIENT_ID_NOT_VALID: u8 = 0x85;
pub(crate) const BAD_USER_NAME_OR_PASSWORD: u8 = 0x86;
pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
pub(crate) const SERVER_UNAVAILABLE: u8 = 0x88;
pub(crate) const SERVER_SHUTTING_DOWN: u8 = 0x8b;
pub(crate) const BAD_AUTHENTICATION_METHOD: u8 = 0x8c;
pub(crate) const KEEP_ALIVE_TIMEOUT: u8 = 0x8d;
pub(crate) const SESSION_TAKEN_OVER: u8 = 0x8e;
pub(crate) const TOPIC_FILTER_INVALID: u8 = 0x8f;
pub(crate) const TOPIC_NAME_INVALID: u8 = 0x90;
pub(crate) const PACKET_ID_NOT_FOUND: u8 = 0x92;
pub(crate) const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;
pub(crate) const TOPIC_ALIAS_INVALID: u8 = 0x94;
pub(crate) const PACKET_TOO_LARGE: u8 = 0x95;
pub(crate) const QUOTA_EXCEEDED: u8 = 0x97;

/// Says what a refused subscription was refused for.
pub(crate) fn in_words(reason: u8) -> Option<&'static str> {
    match reason {
        NOT_AUTHORIZED => Some("not authorized"),
        TOPIC_FILTER_INVALID => Some("the topic filter is not valid"),
        QUOTA_EXCEEDED => Some("too many subscriptions, groups or members"),
        _ => None,
    }
}

/// Tells whether a client may send this reason with DISCONNECT.
pub(super) fn a_client_may_disconnect_with(reason: u8) -> bool {
    matches!(
        reason,
        0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99
    )
}

/// Tells whether a reason may come with PUBACK or PUBREC.
pub(crate) fn is_of_puback(reason: u8) -> bool {
    matches!(
        reason,
        0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99
    )
}

/// Tells whether a reason may come with PUBREL or PUBCOMP.
pub(crate) fn is_of_pubrel(reason: u8) -> bool {
    matches!(reason, 0x00 | 0x92)
}

/// Returns the reason that names a broken rule.
pub(crate) fn of(violation: Violation) -> u8 {
    match violation {
        Violation::Length
        | Violation::Malformed
        | Violation::Text
        | Violation::Qos
        | Violation::Property => MALFORMED,
        Violation::Repeated | Violation::Protocol | Violation::Unexpected => PROTOCOL_ERROR,
        Violation::TooLarge => PACKET_TOO_LARGE,
        Violation::Topic | Violation::DollarTopic => TOPIC_NAME_INVALID,
        Violation::Filter => TOPIC_FILTER_INVALID,
        Violation::TopicAlias => TOPIC_ALIAS_INVALID,
        Violation::ReceiveMaximum => RECEIVE_MAXIMUM_EXCEEDED,
    }
}
