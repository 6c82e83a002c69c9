//! Fleet events: what happened to a vehicle or an operating period.

use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::UtcMicros;
use crate::content_hash::ContentHash;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FleetSubject {
    /// `vehicle`.
    Vehicle,
    /// `operating_period`.
    OperatingPeriod,
}

/// What happened; each subject knows some of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FleetAction {
    /// `register`, of a vehicle.
    Register,
    /// `update`, of a vehicle: it reports its position.
    Update,
    /// `deregister`, of a vehicle.
    Deregister,
    /// `create`, of an operating period.
    Create,
    /// `delete`, of an operating period.
    Delete,
}

macro_rules! named {
    ($type:ident: $($variant:ident = $name:literal),+) => {
        impl $type {
            /// Returns the word used on the wire and in the stores.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
        impl FromStr for $type {
            type Err = UnknownWord;
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word { $($name => Ok(Self::$variant),)+ _ => Err(UnknownWord) }
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

/// The word has no meaning here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown word")]
pub struct UnknownWord;

named!(FleetSubject: Vehicle = "vehicle", OperatingPeriod = "operating_period");
named!(FleetAction:
    Register = "register", Update = "update", Deregister = "deregister",
    Create = "create", Delete = "delete");

impl FleetAction {
    /// Tells whether this can happen to `subject`.
    pub fn applies_to(self, subject: FleetSubject) -> bool {
        match self {
            Self::Register | Self::Update | Self::Deregister => subject == FleetSubject::Vehicle,
            Self::Create | Self::Delete => subject == FleetSubject::OperatingPeriod,
        }
    }
}

/// One fleet event. `data` is kept as the JSON text that was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetEvent {
    /// The organisation that runs the fleet.
    pub organization_id: Box<str>,
    /// What the event is about.
    pub on: FleetSubject,
    /// What happened.
    pub event: FleetAction,
    /// Identifies the vehicle or operating period (`data.id`).
    pub entity_id: Box<str>,
    /// When it happened, by the sender's clock.
    pub at: UtcMicros,
    /// When the broker took the message.
    pub received_time: UtcMicros,
    /// The event's `data`, JSON text as received.
    pub data: Box<str>,
}

impl FleetEvent {
    /// Returns the last component of this event's identity, a hash of what was reported.
    ///
    /// Two events with the same organisation, subject, entity, action, time and discriminator are one
    /// event delivered twice.
    pub fn discriminator(&self) -> i64 {
        ContentHash::default()
            .chain(self.data.as_bytes())
            .finish()
            .cast_signed()
    }
}
