//! Delta tables: reading their log and committing to it.
//!
//! Only what this lake needs: protocol reader 1 / writer 2, JSON commits, partition values, row counts and
//! application transactions. Every engine that reads Delta reads these. The protocol is
//! <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>.
//!
//! Invariant: a commit is one object created if absent, so each version has one author. A transaction id
//! does not keep Delta from taking the same commit twice; [`Table::commit`] therefore looks at the newest
//! log before every attempt.
//!
//! Not done here: checkpoints, compaction and vacuum.

mod action;
mod log;
mod schema;

pub use action::{Add, Format, Metadata};
pub use log::{Commit, Committed, Snapshot, Table};
pub use schema::{arrow_schema, schema_string};
