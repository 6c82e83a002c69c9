//! What an MQTT broker must remember of its clients besides the messages: durable, small and bounded.
//!
//! - Which QoS 2 messages of a publisher were not released yet, so that a message sent again is not taken twice.
//! - Which packet ids stand for which records on the way to a subscriber with QoS 2, so that each arrives once.
//! - Retained messages, which of them are on their way to a subscriber with QoS 2, and wills that are still to be
//!   published.
//!
//! # Where it lies
//! In a journal of changes, which is an [`ingest_log::Log`] of its own beside the log of the messages: it has that
//! log's group commit, CRCs, torn tail and crash tests. [`Store`] keeps the state in memory and writes each [`Change`]
//! to the journal; who depends on a change waits for the [`ingest_log::Commit`] that [`Store::change`] returns.
//!
//! # Two logs, one truth
//! That a message was taken, and with which packet id, is in the message's own record, so it cannot be half true.
//! The journal holds a digest of that up to a *mark*: what lies below the mark in the messages' log is in the
//! journal, and opening reads the messages from the mark on. [`Store::checkpoint`] moves the mark; the messages' log
//! keeps everything from the durable mark on ([`ingest_log::Cursors::hold`]), so the part to be read is there, and is
//! as long as what came between two checkpoints.
//!
//! # Bounds
//! | what | bound | at the bound |
//! |---|---|---|
//! | unreleased ids of a client | 65,535, there are no more | |
//! | ids on the way to a client | its window | it is sent no more |
//! | records done with above a place | the windows of those who read there | as above |
//! | retained messages on their way | the windows of those they go to | as above |
//! | retained messages, wills | the broker's | the broker's |
//! | the journal | twice what is alive, and [`store::SLACK_BYTES`] | entities are written again and old segments go |
//! | changes not durable | `max_pending_bytes` of the journal | [`Error::Busy`]: the connection ends |
//!
//! # What it does not do
//! It knows no sockets, no time and no packets; what a retained message and a will are made of is the broker's.

mod change;
#[cfg(test)]
mod crash_tests;
mod image;
mod recovery;
pub mod store;

pub use change::{Change, KEPT};
pub use image::{Client, Group, Incoming, Outgoing, Retained};
pub use store::{Error, Floor, Store};
