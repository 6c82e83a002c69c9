//! Rows that were there already: duplicates, or orphans to take over.
//!
//! A row found under its `_id` is a duplicate when it is *proven*: its writer's `committed` has reached its
//! sequence. If it is not, it was inserted by an append that has not committed yet, or never will: its process
//! was killed, or it failed and gave its identity up. Such an orphan is in no window of the lake and would never
//! be, and the message that brought it was not acknowledged; so whoever brings the message again sees to it:
//!
//! 1. Wait for the other writer to commit, as long as it gives signs of life and a moment longer, unless nobody
//!    is left to.
//! 2. Fence it. Its `committed` is then final, and what it leaves unproven is nobody's.
//! 3. Take its rows over, a thousand by one command: `{w: old, s: old}`, which no other row ever was, becomes
//!    `{w: me, s: a fresh number}`; a row that is something else by then stays as it is. Of several that try one
//!    finds a row as it was; the others look again.
//!
//! A row that was taken over is new to its batch: the attempt that inserted it was never counted.
//!
//! Why this comes to an end, whatever the size of a batch. A writer at work is not fenced, because it gives signs
//! of life (see `pulse`), and its work is bounded: by its commands, each of which is answered or given up in a set
//! time. One that waits gives none, so of writers that wait for one another one loses patience, goes on, and
//! is then at work itself. A server too slow to take signs of life in time lets living writers be fenced; but
//! the older is the more impatient one, and each doubles its patience whenever it was fenced, up to more than a
//! minute, so one of them comes through.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use store::LakeTable;
use tokio::time::Instant;

use crate::database::{Store, answer, rows_of};
use crate::error::{Failure, Outcome};
use crate::identity::{self, Identity, Pipeline, Progress};
use crate::insert::{Numbered, Rows, insert};
use crate::lists;
use crate::pulse::Pulse;
use crate::rows::Held;
use crate::tuning::Point;

/// How long a writer that may be alive is waited for after its last sign of life: a few of their intervals.
const PATIENCE: Duration = Duration::from_millis(700);
/// How much longer by a younger writer.
const YOUNGER: u32 = 3;
/// Most doublings of patience.
const DOUBLINGS: u32 = 5;
/// Between two looks at the other writer.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// Looks before the batch is given back: each time somebody else moved a row meanwhile.
const LOOKS: usize = 8;
/// Rows asked for in one query, and taken over by one command.
const IDS: usize = 1_000;

/// What there is to know of a contested row.
enum Verdict {
    Proven,
    Mine(u64),
    Orphan { writer: String, seq: i64 },
    Unproven { writer: String, seq: i64 },
    Gone,
}

/// The rows of one table that were there already, being looked into.
pub(crate) struct Contest<'a> {
    pub(crate) store: &'a Store,
    pub(crate) rows: &'a dyn Rows,
    pub(crate) identity: &'a mut Identity,
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) pulse: &'a Pulse,
}

/// A writer waited for.
struct Awaited {
    /// The sequence it has to commit.
    needed: u64,
    /// Its last sign of life, and when that was seen.
    progress: Option<Progress>,
    seen: Instant,
}

impl Contest<'_> {
    /// Decides about every contested row and returns those that are new to this batch, with their sequences.
    /// The others are duplicates.
    pub(crate) async fn settle(mut self, contested: Vec<Numbered>) -> Outcome<Vec<Numbered>> {
        let mut open: Vec<usize> = contested.into_iter().map(|(index, _)| index).collect();
        let mut taken: HashMap<usize, u64> = HashMap::new();
        let mut new = Vec::new();
        let mut known: HashMap<String, Progress> = HashMap::new();
        for _ in 0..LOOKS {
            if open.is_empty() {
                return Ok(new);
            }
            let held = self.holders(&open).await?;
            let mut writers: Vec<&str> = held.values().map(|row| row.w.as_str()).collect();
            writers.sort_unstable();
            writers.dedup();
            writers.retain(|id| {
                *id != self.identity.id && known.get(*id).is_none_or(|known| !known.is_final)
            });
            if !writers.is_empty() {
                known.extend(identity::progress(self.store, &writers).await?);
            }
            let mut unproven = HashMap::new();
            for row in held.values() {
                if let Verdict::Unproven { writer, seq } = self.judge(Some(row), None, &known) {
                    let awaited = unproven.entry(writer).or_insert_with_key(|writer| Awaited {
                        needed: 0,
                        progress: known.get(writer).copied(),
                        seen: Instant::now(),
                    });
                    awaited.needed = awaited.needed.max(seq.cast_unsigned());
                }
            }
            if !unproven.is_empty() {
                let outwait = self.outwait(unproven);
                known.extend(self.pulse.still_during(outwait).await?);
                self.store.tuning().reach(Point::BeforeClaim).await;
            }
            let (mut claims, mut missing) = (Vec::new(), Vec::new());
            for index in open.drain(..) {
                let row = held.get(self.rows.id(index));
                match self.judge(row, taken.get(&index).copied(), &known) {
                    Verdict::Proven => {}
                    Verdict::Mine(seq) => new.push((index, seq)),
                    Verdict::Orphan { writer, seq } => claims.push((index, writer, seq)),
                    // It came to be unproven only in this look: look again.
                    Verdict::Unproven { writer, .. } => {
                        return Err(Failure::unavailable(format!(
                            "the writer {writer} was neither awaited nor fenced"
                        )));
                    }
                    Verdict::Gone => missing.push((index, self.identity.next(self.rows.table()))),
                }
            }
            open.extend(claims.iter().map(|(index, ..)| *index));
            self.claim(claims, &mut taken).await?;
            let there = insert(self.store, self.rows, &missing, &self.identity.id).await?;
            let there: HashSet<usize> = there.into_iter().map(|(index, _)| index).collect();
            new.extend(
                missing
                    .into_iter()
                    .filter(|(index, _)| !there.contains(index)),
            );
            open.extend(there);
        }
        if open.is_empty() {
            return Ok(new);
        }
        Err(Failure::unavailable(format!(
            "{} rows kept changing hands; write the batch again",
            open.len()
        )))
    }

    fn judge(
        &self,
        row: Option<&Held>,
        taken: Option<u64>,
        known: &HashMap<String, Progress>,
    ) -> Verdict {
        let Some(row) = row else { return Verdict::Gone };
        let (writer, seq) = (row.w.clone(), row.s);
        let table = self.rows.table();
        let reached = |committed: u64| seq.cast_unsigned() <= committed;
        if writer == self.identity.id {
            // Only a number whose update was acknowledged is settled; see `claim`.
            return match taken {
                Some(taken) if taken == seq.cast_unsigned() => Verdict::Mine(taken),
                _ if reached(self.identity.committed.of(table)) => Verdict::Proven,
                _ => Verdict::Orphan { writer, seq },
            };
        }
        match known.get(&writer) {
            Some(known) if reached(known.committed.of(table)) => Verdict::Proven,
            Some(known) if known.is_final => Verdict::Orphan { writer, seq },
            _ => Verdict::Unproven { writer, seq },
        }
    }

    /// Returns who holds the rows now. What is newest is read, not what a majority has: a row that was in the
    /// way of an insertion must be seen. That it may yet be rolled back does no harm. If it is proven, a
    /// majority has it; if not, it is taken over by an update that only succeeds where the row is.
    async fn holders(&self, open: &[usize]) -> Outcome<HashMap<String, Held>> {
        let collection = self.store.newest::<Held>(rows_of(self.rows.table()));
        let mut held = HashMap::with_capacity(open.len());
        for part in open.chunks(IDS) {
            let ids: Vec<&str> = part.iter().map(|&index| self.rows.id(index)).collect();
            // One more than there are, so that the first answer is known to be the last.
            let size = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX);
            let mut found = answer(
                collection
                    .find(doc! { "_id": { "$in": ids } })
                    .projection(doc! { "w": 1, "s": 1 })
                    .batch_size(size),
            )
            .await?;
            while answer(found.advance()).await? {
                let row = found.deserialize_current()?;
                held.insert(row.id.clone(), row);
            }
        }
        Ok(held)
    }

    /// Waits until writers have committed what is needed or are fenced, and fences those that have given no
    /// sign of life for too long.
    async fn outwait(
        &self,
        mut waiting: HashMap<String, Awaited>,
    ) -> Outcome<HashMap<String, Progress>> {
        let table: LakeTable = self.rows.table();
        let mut settled = HashMap::new();
        loop {
            let given_up = waiting
                .iter()
                .filter(|(id, awaited)| awaited.seen.elapsed() >= self.patience(id))
                .map(|(id, _)| id.clone());
            for id in given_up.collect::<Vec<_>>() {
                let progress = identity::fence(self.store, &id, &self.identity.id).await?;
                waiting.remove(&id);
                settled.insert(id, progress);
            }
            if waiting.is_empty() {
                return Ok(settled);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            let ids: Vec<&str> = waiting.keys().map(String::as_str).collect();
            for (id, progress) in identity::progress(self.store, &ids).await? {
                let Some(awaited) = waiting.get_mut(&id) else {
                    continue;
                };
                if progress.is_final || progress.committed.of(table) >= awaited.needed {
                    waiting.remove(&id);
                    settled.insert(id, progress);
                } else if awaited.progress != Some(progress) {
                    awaited.progress = Some(progress);
                    awaited.seen = Instant::now();
                }
            }
        }
    }

    fn patience(&self, other: &str) -> Duration {
        if self.pipeline.gave_up(other) {
            return Duration::ZERO;
        }
        let number = other.rsplit('-').next().and_then(|n| n.parse::<i64>().ok());
        let younger = number.is_some_and(|number| number < self.identity.number);
        let doubled = PATIENCE * 2_u32.pow(self.pipeline.times_fenced.min(DOUBLINGS));
        if younger { doubled * YOUNGER } else { doubled }
    }

    /// Takes orphans over. Whether it worked is seen at the next look: only a row that then bears the number
    /// given here, by an update acknowledged by a majority, is ours.
    async fn claim(
        &mut self,
        orphans: Vec<(usize, String, i64)>,
        taken: &mut HashMap<usize, u64>,
    ) -> Outcome<()> {
        if orphans.is_empty() {
            return Ok(());
        }
        let table = self.rows.table();
        let mut by_writer: BTreeMap<String, Vec<(usize, i64)>> = BTreeMap::new();
        for (index, writer, seq) in orphans {
            by_writer.entry(writer).or_default().push((index, seq));
        }
        let mut changes = Vec::new();
        let mut numbered: Vec<Numbered> = Vec::new();
        for (writer, rows) in by_writer {
            tracing::info!(
                writer_id = self.identity.id,
                from = writer,
                rows = rows.len(),
                table = table.as_str(),
                "rows of an interrupted write are taken over"
            );
            for part in rows.chunks(self.store.tuning().rows_a_claim.unwrap_or(IDS)) {
                let first = self.identity.reserve(table, part.len());
                numbered.extend(part.iter().map(|(index, _)| *index).zip(first..));
                changes.push(self.change(&writer, part, first));
            }
        }
        taken.extend(numbered.iter().copied());
        let collection = self.store.documents(rows_of(table));
        let changing = async {
            for (filter, change) in changes {
                answer(collection.update_many(filter, vec![doc! { "$set": change }])).await?;
            }
            Ok(())
        };
        let listing = lists::write(self.store, self.rows, &numbered, &self.identity.id);
        futures_util::try_join!(changing, listing)?;
        Ok(())
    }

    /// Returns which rows to change and how: each to its place in this part, counted from `first`. The rows are
    /// named by their `_id` alone, which every server finds at once; the guard is in the change.
    fn change(&self, from: &str, part: &[(usize, i64)], first: u64) -> (Document, Document) {
        let ids: Vec<&str> = part.iter().map(|&(index, _)| self.rows.id(index)).collect();
        let seqs: Vec<Bson> = part.iter().map(|&(_, seq)| seq.into()).collect();
        let is_from = doc! { "$eq": ["$w", { "$literal": from }] };
        let held = if self.store.tuning().claim_unguarded {
            Bson::from(true)
        } else {
            doc! { "$and": [is_from, { "$in": ["$s", seqs.clone()] }] }.into()
        };
        let fresh = doc! { "$add": [first.cast_signed(), { "$indexOfArray": [seqs, "$s"] }] };
        let mine = doc! { "$literal": &self.identity.id };
        let change = doc! {
            "w": { "$cond": [held.clone(), mine, "$w"] },
            "s": { "$cond": [held, fresh, "$s"] },
        };
        (doc! { "_id": { "$in": ids } }, change)
    }
}
