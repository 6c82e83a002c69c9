//! One batch: rows with what leads to them, last positions, the commit of the writer, the cursor; in that order.
//!
//! The commit is what makes the rows of the batch exist for the lake, and the cursor follows it, so that a
//! cursor never stands beyond rows that are not proven. Nothing is undone after a failure: what was written is
//! found again by the attempt that writes the batch anew (see `claim`).

use std::collections::HashSet;

use model::{FleetEvent, Position, Record, Reject, UtcMicros};
use mongodb::bson::{RawDocumentBuf, doc, serialize_to_raw_document_buf};
use serde::Serialize;
use store::{Appended, Batch, LakeTable, SourceCursor};

use crate::claim::Contest;
use crate::database::{CURSORS, Store, answer};
use crate::error::{Failure, Outcome};
use crate::identity::{Identity, Pipeline, Sequences};
use crate::insert::{Numbered, Rows, insert};
use crate::pulse::Pulse;
use crate::rows::{FleetEventRow, Place, PositionRow, RejectRow};
use crate::tuning::Point;
use crate::{carried, key, last, lists};

fn document(row: &impl Serialize) -> Outcome<RawDocumentBuf> {
    serialize_to_raw_document_buf(row)
        .map_err(|error| Failure::data(format!("a row does not fit a document: {error}")))
}

/// A position on its way in.
struct Incoming<'a> {
    id: String,
    position: &'a Position,
    /// Its fleet event is the item that counts.
    is_part_of_event: bool,
}

struct Positions<'a>(Vec<Incoming<'a>>);

impl Rows for Positions<'_> {
    fn table(&self) -> LakeTable {
        LakeTable::DelivererLocation
    }

    fn chunk(&self) -> usize {
        lists::ROWS
    }

    fn id(&self, index: usize) -> &str {
        &self.0[index].id
    }

    fn received(&self, index: usize) -> Option<UtcMicros> {
        Some(self.0[index].position.received_time)
    }

    fn document(&self, index: usize, place: Place<'_>) -> Outcome<RawDocumentBuf> {
        let one = &self.0[index];
        document(&PositionRow::of_history(one.position, &one.id, place))
    }
}

/// Another row on its way in, with its place in the order stored.
struct Other<'a, T> {
    id: String,
    stored: String,
    row: &'a T,
}

struct FleetEvents<'a>(Vec<Other<'a, FleetEvent>>);

impl Rows for FleetEvents<'_> {
    fn table(&self) -> LakeTable {
        LakeTable::FleetEvent
    }

    fn chunk(&self) -> usize {
        512
    }

    fn id(&self, index: usize) -> &str {
        &self.0[index].id
    }

    fn received(&self, _: usize) -> Option<UtcMicros> {
        None
    }

    fn document(&self, index: usize, place: Place<'_>) -> Outcome<RawDocumentBuf> {
        let one = &self.0[index];
        document(&FleetEventRow::new(one.row, &one.id, &one.stored, place))
    }
}

struct Rejects<'a>(Vec<Other<'a, Reject>>);

impl Rows for Rejects<'_> {
    fn table(&self) -> LakeTable {
        LakeTable::Rejected
    }

    /// Dead letters may be as large as messages.
    fn chunk(&self) -> usize {
        64
    }

    fn id(&self, index: usize) -> &str {
        &self.0[index].id
    }

    fn received(&self, _: usize) -> Option<UtcMicros> {
        None
    }

    fn document(&self, index: usize, place: Place<'_>) -> Outcome<RawDocumentBuf> {
        let one = &self.0[index];
        document(&RejectRow::new(one.row, &one.id, &one.stored, place))
    }
}

/// A batch sorted out: each row once.
struct Sorted<'a> {
    positions: Positions<'a>,
    fleet_events: FleetEvents<'a>,
    rejects: Rejects<'a>,
    /// Items that repeat another one of the batch.
    repeated: u64,
}

impl<'a> Sorted<'a> {
    fn new(batch: &'a Batch, identity: &mut Identity) -> Self {
        let mut positions = Vec::with_capacity(batch.records.len());
        let mut fleet_events = Vec::new();
        let mut rejects = Vec::new();
        let (mut event_ids, mut reject_ids) = (HashSet::new(), HashSet::new());
        let mut repeated = 0;
        for record in &batch.records {
            if let Record::FleetEvent { event, .. } = record {
                let id = key::fleet_event(event);
                if event_ids.insert(id.clone()) {
                    fleet_events.push(Other {
                        id,
                        stored: identity.next_stored(),
                        row: event,
                    });
                } else {
                    repeated += 1;
                }
            }
            // The position of a repeated event too: it is told apart by its own identity.
            if let Some(position) = record.position() {
                positions.push(Incoming {
                    id: key::position(position),
                    position,
                    is_part_of_event: matches!(record, Record::FleetEvent { .. }),
                });
            }
        }
        for row in &batch.rejects {
            let id = key::reject(row);
            if reject_ids.insert(id.clone()) {
                let stored = identity.next_stored();
                rejects.push(Other { id, stored, row });
            } else {
                repeated += 1;
            }
        }
        // Neighbours in the server's trees are then written together, by one command, and equal ones meet.
        positions.sort_by(|a, b| a.id.cmp(&b.id));
        positions.dedup_by(|later, first| {
            let same = later.id == first.id;
            if same && !later.is_part_of_event {
                repeated += 1;
            }
            same
        });
        Self {
            positions: Positions(positions),
            fleet_events: FleetEvents(fleet_events),
            rejects: Rejects(rejects),
            repeated,
        }
    }
}

/// Gives numbers to the first `count` rows of a table.
fn number(identity: &mut Identity, table: LakeTable, count: usize) -> Vec<Numbered> {
    (0..count)
        .map(|index| (index, identity.next(table)))
        .collect()
}

/// Returns the rows that are new: those just inserted, and those taken over.
async fn settle(
    numbered: Vec<Numbered>,
    contested: Vec<Numbered>,
    contest: Contest<'_>,
) -> Outcome<Vec<Numbered>> {
    if contested.is_empty() {
        return Ok(numbered);
    }
    let there: HashSet<usize> = contested.iter().map(|(index, _)| *index).collect();
    let taken = contest.settle(contested).await?;
    let inserted = numbered
        .into_iter()
        .filter(|(index, _)| !there.contains(index));
    Ok(inserted.chain(taken).collect())
}

/// Stores the rows of a batch under an identity. After an error the identity is not to be used again.
pub(crate) async fn append(
    store: &Store,
    identity: &mut Identity,
    pipeline: &Pipeline,
    pulse: &Pulse,
    batch: &Batch,
    max_future_skew_us: i64,
) -> Outcome<Appended> {
    let sorted = Sorted::new(batch, identity);
    let rows: [&dyn Rows; 3] = [&sorted.positions, &sorted.fleet_events, &sorted.rejects];
    let counts = [
        sorted.positions.0.len(),
        sorted.fleet_events.0.len(),
        sorted.rejects.0.len(),
    ];
    let [positions, fleet_events, rejects] =
        [0, 1, 2].map(|i| number(identity, rows[i].table(), counts[i]));
    let writer = identity.id.as_str();
    let moved = sorted.positions.0.iter().map(|one| one.position);
    let (contested_positions, contested_events, contested_rejects, (), ()) = futures_util::try_join!(
        insert(store, rows[0], &positions, writer),
        insert(store, rows[1], &fleet_events, writer),
        insert(store, rows[2], &rejects, writer),
        carried::write(store, moved.clone()),
        last::write(store, moved, max_future_skew_us),
    )?;
    let mut proven = Sequences::default();
    let mut new = Vec::with_capacity(3);
    for (rows, numbered, contested) in [
        (rows[0], positions, contested_positions),
        (rows[1], fleet_events, contested_events),
        (rows[2], rejects, contested_rejects),
    ] {
        let contest = Contest {
            store,
            rows,
            identity: &mut *identity,
            pipeline,
            pulse,
        };
        let found = settle(numbered, contested, contest).await?;
        let greatest = found.iter().map(|(_, seq)| *seq).max().unwrap_or(0);
        *proven.of_mut(rows.table()) = greatest.cast_signed();
        new.push(found);
    }
    store.tuning().reach(Point::BeforeCommit).await;
    identity.commit(store, proven).await?;
    let counted = new[0].iter().filter(|(index, _)| {
        let one = sorted.positions.0.get(*index);
        one.is_some_and(|one| !one.is_part_of_event)
    });
    let (stored, rejected) = (counted.count() + new[1].len(), new[2].len());
    let appended = Appended {
        stored: stored as u64,
        rejected: rejected as u64,
        duplicate: (batch.len() - stored - rejected) as u64,
    };
    debug_assert!(sorted.repeated <= appended.duplicate);
    Ok(appended)
}

/// Moves a source's cursor forward, never back.
pub(crate) async fn move_cursor(store: &Store, cursor: &SourceCursor) -> Outcome<()> {
    let next = doc! { "$max": { "next": cursor.next.cast_signed() } };
    let cursors = store.documents(CURSORS);
    answer(
        cursors
            .update_one(doc! { "_id": &cursor.source }, next)
            .upsert(true),
    )
    .await?;
    Ok(())
}
