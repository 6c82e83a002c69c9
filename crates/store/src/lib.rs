//! What a store must do, in types; how each does it is its own affair.
//!
//! Four roles, one trait each, so that every service asks for no more than it uses:
//! [`Writer`] (subscriber), [`Reader`] (API), [`LakeSource`] (offload) and [`Store`], all of them.
//! Every implementation passes the same conformance suite.
//!
//! # The laws every store keeps
//! - **Once.** A record has an identity (see [`model::Position::discriminator`]). Writing it again, in the
//!   same batch or years later, changes nothing and is counted as a duplicate.
//! - **All or nothing, or again.** When [`Writer::append`] answers `Ok`, everything in the batch is durable.
//!   When it fails, any part of it may have been written; writing the whole batch again is always right.
//! - **Last is greatest.** The last position of an order or a deliverer is the one with the greatest
//!   [`model::Position::recency`], whatever the order of arrival. A point from the future beyond the
//!   configured skew is kept in history and never becomes last.
//! - **Sequences are proven.** Every new row carries the writer that stored it and that writer's sequence:
//!   ascending, unique, never used again, perhaps with gaps. Rows up to a writer's committed sequence are
//!   all visible and will never change in number, so the lake may take them; see [`LakeSource::writers`].

pub mod conformance;
pub mod error;
pub mod lake_source;
pub mod reader;
pub mod writer;

pub use error::{ErrorKind, StoreError};
pub use lake_source::{
    LakeSource, LakeTable, SharedVisitor, Stored, StoredFleetEvent, StoredPosition, StoredReject,
    Visitor, Window, WindowState, WriterProgress,
};
pub use reader::{Counts, FleetEventQuery, HistoryOf, HistoryQuery, Page, Reader};
pub use writer::{Appended, Batch, SourceCursor, Writer};

/// How far beyond its receipt a point may be dated and still become last, unless configured otherwise:
/// 5 minutes, more than the clock of a phone with a network is ever off.
pub const DEFAULT_MAX_FUTURE_SKEW_US: i64 = 5 * 60 * 1_000_000;

/// A whole store.
pub trait Store: Writer + Reader + LakeSource {}

impl<T: Writer + Reader + LakeSource> Store for T {}
