//! MQTT on the wire: frames, packets, topics and filters. Pure: no I/O, no clock.
//!
//! Invariant: whatever leaves this module as decoded obeys the standard's rules for its shape, so nothing
//! inside the broker checks again. Input that breaks a rule is a [`Violation`], never a panic.
//!
//! Not done here: what a packet means for a connection or a session.

pub(crate) mod control;
pub(crate) mod filter_index;
pub(crate) mod frame;
pub(crate) mod properties;
pub(crate) mod publish;
pub(crate) mod topic;
pub(crate) mod v5;
pub(crate) mod wire;

/// The version a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// A rule of the protocol, or a limit of this broker, that a client broke. Its connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("the packet's length is encoded in more than four bytes")]
    Length,
    #[error("the packet is larger than the limit")]
    TooLarge,
    #[error("the packet is malformed")]
    Malformed,
    #[error("a text is not UTF-8 or contains the character NUL")]
    Text,
    #[error("the topic is empty or contains a wildcard")]
    Topic,
    #[error("a topic filter breaks the rules")]
    Filter,
    #[error("topics that begin with $ are the broker's own")]
    DollarTopic,
    #[error("the quality of service is 3, or DUP is set with quality of service 0")]
    Qos,
    #[error("a packet came that is not allowed at this point")]
    Unexpected,
    #[error("a property is unknown or not allowed in its packet")]
    Property,
    #[error("a property that may be there once is there twice")]
    Repeated,
    #[error("a value breaks the protocol")]
    Protocol,
    #[error("the topic alias is zero, above the maximum or unknown")]
    TopicAlias,
    #[error("more messages are on their way than the receive maximum allows")]
    ReceiveMaximum,
}
