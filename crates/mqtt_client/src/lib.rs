//! MQTT clients that keep the ack law on the client's side of the wire.
//!
//! This is the only room that knows rumqttc, whose client alone does not keep what it accepted: `publish`
//! returns once a message is queued, and a reconnect to a broker without the session forgets it
//! (measured on 0.25.1). Three clients stand between it and the other rooms:
//!
//! | client | session | promise |
//! |---|---|---|
//! | [`Publisher`] | clean | a message is kept until its PUBACK and sent again on every new connection, in order |
//! | [`Consumer`] | persistent, fixed id | a message is acknowledged only by [`Consumer::ack_through`], in order |
//! | [`LiveConsumer`] | clean, QoS 0 | the newest messages while connected; none is kept |
//!
//! Each client comes in two halves: a handle, and a task whose `run` the caller spawns, so that the
//! caller's own supervision stops it. All reconnect for ever, with a growing and jittered delay.
//!
//! All speak MQTT 3.1.1, over TCP or TLS.

mod backoff;
mod consumer;
mod live;
mod options;
mod publisher;
mod settings;
mod tls;

pub use backoff::Backoff;
pub use consumer::{
    AckHandle, AckToken, Consumer, ConsumerOptions, ConsumerStats, ConsumerTask, Link, Message,
    SubscriptionError,
};
pub use live::{LiveConsumer, LiveMessage, LiveOptions, LiveTask};
pub use options::{BrokerUrl, BrokerUrlError, ConnectOptions, Credentials};
pub use publisher::{
    NotAcked, OnAck, PublishError, Publisher, PublisherOptions, PublisherStats, PublisherTask,
    Receipt,
};
pub use settings::TlsSettings;
pub use tls::{Tls, TlsError, TlsFiles};

/// What a client's task ends with; the shape that task supervisors take.
pub type TaskResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// How sure a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::enum_variant_names,
    reason = "these are the names in the MQTT standard"
)]
pub enum Qos {
    /// QoS 0: sent once, never acknowledged.
    AtMostOnce,
    /// QoS 1: acknowledged, and sent again until it is.
    AtLeastOnce,
    /// QoS 2. Seen on received messages only: nothing here publishes or subscribes with it.
    ExactlyOnce,
}

impl From<rumqttc::QoS> for Qos {
    fn from(qos: rumqttc::QoS) -> Self {
        match qos {
            rumqttc::QoS::AtMostOnce => Self::AtMostOnce,
            rumqttc::QoS::AtLeastOnce => Self::AtLeastOnce,
            rumqttc::QoS::ExactlyOnce => Self::ExactlyOnce,
        }
    }
}
