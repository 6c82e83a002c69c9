//! The domain: orders, deliverers, positions, fleet events, and the native wire format.
//!
//! Everything here is pure. There is no I/O, no clock and no runtime, so each rule can be tested with
//! plain values and every other room may depend on this one.
//!
//! Values are parsed once, at the edge: a [`Position`] that exists is valid, and nothing further in
//! checks it again.

pub mod content_hash;
pub mod fleet_event;
pub mod geo;
pub mod id;
pub mod native;
pub mod payload;
pub mod position;
pub mod reject;
pub mod time;
pub mod topic;

pub use fleet_event::{FleetEvent, FleetSubject};
pub use geo::{Latitude, Longitude};
pub use id::{DelivererId, OrderId};
pub use position::{DeliveryState, Discriminator, Position, RecencyKey, Source};
pub use reject::{Reject, RejectReason};
pub use time::UtcMicros;

/// One valid item of a message: what the subscriber counts, stores once, and the lake offloads once.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A deliverer's position.
    Position(Position),
    /// A fleet event; an `update` of a vehicle also carries that vehicle's position.
    FleetEvent {
        /// The event as received.
        event: FleetEvent,
        /// The position an `update` reports, when it reports one.
        position: Option<Position>,
    },
}

impl Record {
    /// Returns the position this record carries, if any.
    pub fn position(&self) -> Option<&Position> {
        match self {
            Self::Position(position) => Some(position),
            Self::FleetEvent { position, .. } => position.as_ref(),
        }
    }
}
