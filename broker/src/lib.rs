//! The broker: a durable MQTT front over the ingest log, and a live copy through an embedded rumqttd.
//!
//! # Promises
//! - A PUBACK leaves after the group commit that holds the message, in the order of publishing.
//! - A persistent session is served from the log: at least once, in order, from its lowest unacknowledged
//!   message, through restarts and crashes of client and broker.
//! - QoS 2 is exactly once both ways through restarts and crashes, for sessions that outlive their connection;
//!   [`session_state`] keeps what that takes. Retained messages are kept through them too.
//! - A shared subscription, `$share/<group>/<filter>`, is served from the log too: each message to one member,
//!   and what a member did not acknowledge before it left to another.
//! - A clean session gets a live copy, best effort; what a slow one misses is counted.
//! - Nothing is evicted: when the log has no room, clients are not read.
//!
//! # Ways through the code
//! [`start`] binds and spawns. `connection` is one task per client; its hot path, `connection::intake`, turns
//! every packet of a read into one batch of records. `protocol` is MQTT on the wire. `session` serves persistent
//! sessions, `fanout` the clean ones, `share` the groups of shared subscriptions. `listen` brings clients in over TCP,
//! TLS and WebSocket, `access` knows users and rules.
//!
//! # Not here
//! Payloads are not looked at.

/// Waits for the first of several futures; in this crate's own tests and in its fuzz target the one written first goes
/// first, so that a run repeats itself.
#[cfg(any(test, feature = "fuzzing"))]
macro_rules! select {
    ($($branches:tt)*) => { tokio::select! { biased; $($branches)* } };
}
#[cfg(not(any(test, feature = "fuzzing")))]
macro_rules! select {
    ($($branches:tt)*) => { tokio::select! { $($branches)* } };
}

mod access;
pub mod commands;
mod condition;
mod connection;
mod expiry;
mod fanout;
mod limits;
mod listen;
mod metrics;
mod protocol;
mod retained;
mod sabotage;
mod server;
mod session;
mod settings;
mod share;
#[cfg(any(test, feature = "fuzzing"))]
mod simulation;
mod sys;
mod takeover;
mod wills;

/// What the fuzz target runs: in its builds and in tests only.
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing {
    pub use crate::simulation::fuzz::{Harness, samples};
}

pub use access::FileError;
pub use listen::tls::TlsError;
pub use server::{Error, Handle, start};
pub use settings::{
    AccessConfig, AccessSettings, Config, LimitConfig, LimitSettings, ListenerSettings, Listeners,
    LogSync, SessionConfig, SessionSettings, Settings,
};
