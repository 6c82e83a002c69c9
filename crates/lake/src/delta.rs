//! Delta tables: reading their log and committing to it.
//!
//! Only what this lake needs: protocol reader 1 / writer 2, JSON commits, classic checkpoints, partition values, row
//! counts and application transactions. Every engine that reads Delta reads these. The protocol is
//! <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>.
//!
//! Invariant: a commit is one object created if absent, so each version has one author. A transaction id
//! does not keep Delta from taking the same commit twice; [`Table::commit`] therefore looks at the newest
//! log before every attempt.
//!
//! Not done here: deciding which files a table has; see [`crate::compact`].

mod action;
mod checkpoint;
mod commit;
mod log;
mod properties;
mod schema;
mod short;
mod snapshot;

pub use action::{Add, Format, Metadata};
pub use commit::{Commit, Committed};
pub use log::Table;
pub use properties::LogPolicy;
pub use schema::{arrow_schema, schema_string};
pub use snapshot::Snapshot;
