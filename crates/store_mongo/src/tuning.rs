//! What only tests choose: the older way of writing, a broken guard, and stops at named points.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};

/// A place in an append where a test may stop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Rows and last positions are acknowledged, nothing is committed.
    BeforeCommit,
    /// Other writers were fenced, their rows are not yet taken over.
    BeforeClaim,
}

type Stop = dyn Fn(Point) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

type Watch = dyn Fn(&str, &Document) + Send + Sync;

/// Choices for tests.
#[derive(Clone, Default)]
pub struct Tuning {
    /// Whether to use the bulk write of MongoDB 8.0; otherwise what the server offers decides.
    pub bulk_write: Option<bool>,
    /// Lets a fenced writer commit, which breaks the store: a negative control.
    pub ignore_fences: bool,
    /// Lets one server acknowledge a write before its journal has it: a negative control.
    pub acknowledge_early: bool,
    /// Gives no signs of life, as a process that was stopped.
    pub silent: bool,
    /// Takes fewer rows over by one command: a negative control.
    pub rows_a_claim: Option<usize>,
    /// Takes rows over whoever holds them by then: a negative control.
    pub claim_unguarded: bool,
    /// Writes no lists of the rows stored: a negative control.
    pub omit_lists: bool,
    /// Writes nothing of what deliverers carried: a negative control.
    pub omit_carried: bool,
    /// Called with the name and the body of each command before it is sent.
    pub watch: Option<Arc<Watch>>,
    /// Called at each [`Point`]; the append goes on when its future is done.
    pub stop: Option<Arc<Stop>>,
}

impl fmt::Debug for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tuning")
            .field("bulk_write", &self.bulk_write)
            .field("ignore_fences", &self.ignore_fences)
            .field("acknowledge_early", &self.acknowledge_early)
            .field("silent", &self.silent)
            .field("rows_a_claim", &self.rows_a_claim)
            .field("claim_unguarded", &self.claim_unguarded)
            .field("omit_lists", &self.omit_lists)
            .field("omit_carried", &self.omit_carried)
            .finish_non_exhaustive()
    }
}

impl Tuning {
    /// Returns the guard of a writer's own updates.
    pub(crate) fn guard(&self, id: &str) -> Document {
        if self.ignore_fences {
            doc! { "_id": id }
        } else {
            doc! { "_id": id, "fenced": { "$ne": true } }
        }
    }

    /// Returns what every write waits for.
    pub(crate) fn durable(&self) -> WriteConcern {
        let (w, journal) = if self.acknowledge_early {
            (Acknowledgment::Nodes(1), false)
        } else {
            (Acknowledgment::Majority, true)
        };
        WriteConcern::builder().w(w).journal(journal).build()
    }

    pub(crate) async fn reach(&self, point: Point) {
        if let Some(stop) = &self.stop {
            stop(point).await;
        }
    }
}
