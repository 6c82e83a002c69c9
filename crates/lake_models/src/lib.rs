//! The lake's models and queries, on DataFusion: the only heavy build of the workspace.
//!
//! | module | owns |
//! |---|---|
//! | [`mod@catalog`] | what tables there are, told by the declarations alone |
//! | [`declaration`] | reading a model's SQL file and its header |
//! | [`run`] | running models: what to compute anew, checking it, replacing partitions |
//! | [`mod@query`] | one SQL statement over every table of the lake |
//! | [`table`] | a Delta table as DataFusion sees it |
//!
//! Models are the files under `models/`; they are plain SQL that Spark runs unchanged, with functions of Spark's
//! that DataFusion lacks added here. A model reads the live
//! files of its inputs' logs and its result replaces whole partitions in one Delta commit, only where rows
//! differ, and only when every declared check holds.
//!
//! What this crate does not do: it never writes raw; it does not compact or vacuum.

pub mod catalog;
pub mod declaration;
pub mod error;
mod functions;
mod memory;
mod object_store;
pub mod query;
pub mod run;
mod session;
pub mod table;

pub use catalog::{Definition, catalog};
pub use declaration::{Layer, Model, Scope, builtin};
pub use error::ModelError;
pub use query::{Rows, query};
pub use run::{ModelOutcome, ModelSummary, Runner};
