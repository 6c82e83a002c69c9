//! Writers: who stored a row, and how far each writer's rows are proven.
//!
//! A writer is a document of `writers`. It is made before its first row, by one process, for one pipeline, and
//! given up for good at the first failure: its successor gets a new one. While it lives it appends batch after
//! batch, one at a time, and after each raises its `committed` sequences, unless somebody has `fenced` it.
//!
//! - Whatever is at or below `committed` was acknowledged by a majority before `committed` was raised, and
//!   nothing of this writer was left unanswered below it: an unanswered insertion ends the writer.
//! - Once fenced, `committed` is final, because raising it and fencing are updates of one document, and
//!   the first is guarded by the absence of the second.
//! - A number is never given to two rows: the counters live and die with the writer.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::ReturnDocument;
use serde::{Deserialize, Serialize};
use store::LakeTable;

use crate::database::{META, Store, WRITERS, answer, within};
use crate::error::{Failure, Outcome, is_duplicate};
use crate::key;

/// Identities remembered as given up by this process. Forgetting one costs the next writer that meets its
/// rows a wait, nothing else.
const REMEMBERED: usize = 64;

/// The three sequences of a writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sequences {
    pub(crate) deliverer_location: i64,
    pub(crate) fleet_event: i64,
    pub(crate) rejected: i64,
}

impl Sequences {
    pub(crate) fn of(&self, table: LakeTable) -> u64 {
        match table {
            LakeTable::DelivererLocation => self.deliverer_location,
            LakeTable::FleetEvent => self.fleet_event,
            LakeTable::Rejected => self.rejected,
        }
        .cast_unsigned()
    }

    pub(crate) fn of_mut(&mut self, table: LakeTable) -> &mut i64 {
        match table {
            LakeTable::DelivererLocation => &mut self.deliverer_location,
            LakeTable::FleetEvent => &mut self.fleet_event,
            LakeTable::Rejected => &mut self.rejected,
        }
    }
}

/// A writer's document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WriterDoc {
    #[serde(rename = "_id")]
    pub(crate) id: String,
    pub(crate) number: i64,
    pub(crate) begun: DateTime,
    pub(crate) committed: Sequences,
    #[serde(default)]
    pub(crate) fenced: bool,
    /// Signs of life given; see `pulse`.
    #[serde(default)]
    pub(crate) beats: i64,
}

/// How far another writer's rows are proven. Two that differ are a sign of life between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) committed: Sequences,
    beats: i64,
    /// `committed` will never rise again.
    pub(crate) is_final: bool,
}

impl Progress {
    /// A writer without a document can never commit: its guarded update finds nothing.
    const GONE: Self = Self {
        committed: Sequences {
            deliverer_location: 0,
            fleet_event: 0,
            rejected: 0,
        },
        beats: 0,
        is_final: true,
    };

    fn of(writer: &WriterDoc) -> Self {
        Self {
            committed: writer.committed,
            beats: writer.beats,
            is_final: writer.fenced,
        }
    }
}

/// A living identity: its name, its counters, and the server's clock when it began.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) number: i64,
    /// Last number given in each table.
    given: Sequences,
    pub(crate) committed: Sequences,
    began_us: i64,
    began: Instant,
    last_stored_us: i64,
}

impl Identity {
    /// Makes a new writer. The time is the server's, so that rows of all writers are stamped by one clock.
    pub(crate) async fn begin(store: &Store, prefix: &str) -> Outcome<Self> {
        #[derive(Deserialize)]
        struct Numbers {
            next: i64,
            now: DateTime,
        }
        let numbers = store.collection::<Numbers>(META);
        let next = doc! { "$inc": { "next": 1_i64 }, "$currentDate": { "now": true } };
        let drawn = answer(
            numbers
                .find_one_and_update(doc! { "_id": "writer_numbers" }, next)
                .upsert(true)
                .return_document(ReturnDocument::After),
        )
        .await?
        .ok_or_else(|| Failure::unavailable("no writer number was drawn"))?;
        let began = Instant::now();
        let writer = WriterDoc {
            id: format!("{prefix}-{}", drawn.next),
            number: drawn.next,
            begun: drawn.now,
            committed: Sequences::default(),
            fenced: false,
            beats: 0,
        };
        let writers = store.collection::<WriterDoc>(WRITERS);
        match within(writers.insert_one(&writer)).await? {
            // A number drawn twice: the database was restored from parts of different age.
            Err(error) if is_duplicate(&error) => {
                return Err(Failure::unavailable(format!(
                    "the writer {} exists already; the next try draws another number",
                    writer.id
                )));
            }
            outcome => outcome?,
        };
        tracing::info!(writer_id = writer.id, "a writer of the store begins");
        Ok(Self {
            id: writer.id,
            number: writer.number,
            given: Sequences::default(),
            committed: Sequences::default(),
            began_us: writer.begun.timestamp_millis() * 1_000,
            began,
            last_stored_us: 0,
        })
    }

    /// Gives the next number of a table; never the same again.
    pub(crate) fn next(&mut self, table: LakeTable) -> u64 {
        self.reserve(table, 1)
    }

    /// Gives the next `count` numbers of a table, which follow one another, and returns the first.
    pub(crate) fn reserve(&mut self, table: LakeTable, count: usize) -> u64 {
        let given = self.given.of_mut(table);
        let first = given.cast_unsigned() + 1;
        *given = given.saturating_add_unsigned(count as u64);
        first
    }

    /// Gives the next place in the order stored.
    pub(crate) fn next_stored(&mut self) -> String {
        let elapsed = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        let now = self.began_us.saturating_add(elapsed);
        self.last_stored_us = now.max(self.last_stored_us + 1);
        key::stored(self.last_stored_us, self.number)
    }

    /// Raises `committed` to `proven`; every row up to there must have been acknowledged.
    pub(crate) async fn commit(&mut self, store: &Store, proven: Sequences) -> Outcome<()> {
        let mut rise = Document::new();
        for table in LakeTable::ALL {
            if proven.of(table) > self.committed.of(table) {
                let field = format!("committed.{}", table.as_str());
                rise.insert(field, proven.of(table).cast_signed());
            }
        }
        if rise.is_empty() {
            return Ok(());
        }
        let updated = answer(
            store
                .documents(WRITERS)
                .update_one(store.tuning().guard(&self.id), doc! { "$max": rise }),
        )
        .await?;
        if updated.matched_count == 0 {
            return Err(Failure::conflict(format!(
                "another writer took over from {} before it could commit; write the batch again",
                self.id
            )));
        }
        for table in LakeTable::ALL {
            let reached = proven.of(table).max(self.committed.of(table));
            *self.committed.of_mut(table) = reached.cast_signed();
        }
        Ok(())
    }
}

/// Returns how far writers have come.
pub(crate) async fn progress(store: &Store, ids: &[&str]) -> Outcome<HashMap<String, Progress>> {
    let writers = store.collection::<WriterDoc>(WRITERS);
    let mut found = answer(writers.find(doc! { "_id": { "$in": ids } })).await?;
    let mut known: HashMap<String, Progress> = ids
        .iter()
        .map(|id| ((*id).to_owned(), Progress::GONE))
        .collect();
    while answer(found.advance()).await? {
        let writer = found.deserialize_current()?;
        known.insert(writer.id.clone(), Progress::of(&writer));
    }
    Ok(known)
}

/// Stops a writer from ever committing again and returns how far it came.
pub(crate) async fn fence(store: &Store, id: &str, by: &str) -> Outcome<Progress> {
    let writers = store.collection::<WriterDoc>(WRITERS);
    let fenced = answer(
        writers
            .find_one_and_update(
                doc! { "_id": id },
                doc! { "$set": { "fenced": true, "fenced_by": by } },
            )
            .return_document(ReturnDocument::After),
    )
    .await?;
    tracing::info!(writer_id = id, by, "took over from a writer of the store");
    Ok(fenced.map_or(Progress::GONE, |writer| Progress::of(&writer)))
}

/// The identities of one pipeline: the living one, and those it gave up.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    current: Option<Identity>,
    given_up: VecDeque<String>,
    /// How often in a row this pipeline was itself taken over from; see `claim`.
    pub(crate) times_fenced: u32,
}

impl Pipeline {
    /// Takes the living identity out, or makes one. Whoever is not able to put it back, because the append
    /// failed or was dropped, has thereby given it up.
    pub(crate) async fn take(&mut self, store: &Store, prefix: &str) -> Outcome<Identity> {
        let identity = match self.current.take() {
            Some(identity) => identity,
            None => Identity::begin(store, prefix).await?,
        };
        if self.given_up.len() == REMEMBERED {
            self.given_up.pop_front();
        }
        self.given_up.push_back(identity.id.clone());
        Ok(identity)
    }

    /// Puts the identity back after an append whose every step was acknowledged.
    pub(crate) fn put_back(&mut self, identity: Identity) {
        self.given_up.pop_back();
        self.current = Some(identity);
        self.times_fenced = 0;
    }

    /// Tells whether this pipeline gave the identity up, so that nobody is left to commit under it.
    pub(crate) fn gave_up(&self, id: &str) -> bool {
        self.given_up.iter().any(|own| own == id)
    }
}
