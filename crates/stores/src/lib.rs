//! Which store a program uses: its settings, opening it, and waiting for it.
//!
//! A program names its store by settings alone: an `SQLite` file in the data directory unless a MongoDB is
//! named ([`Settings`]). [`Config`] opens it, and knows how long each kind is worth waiting for: an `SQLite`
//! file that is not there is a mistake after two minutes, a MongoDB that is away is an outage, however
//! long.
//!
//! Invariant: the MongoDB URI may hold a password and is never printed, logged, or part of an error;
//! [`shown_uri`] is what people see.
//!
//! What this room does not do: it stores nothing and knows no query. Feature `mongodb` (on by default) brings
//! the MongoDB driver; without it only `SQLite` is left, and naming a MongoDB is a wrong setting.

mod backoff;
mod config;
mod open;
mod settings;
mod uri;
mod watched;

#[cfg(feature = "mongodb")]
mod mongo;
#[cfg(not(feature = "mongodb"))]
#[path = "no_mongo.rs"]
mod mongo;

pub use config::{Config, Kind, MongoConfig};
pub use open::SQLITE_WAIT;
pub use settings::{Decided, Settings};
pub use uri::shown_uri;
pub use watched::Watched;
