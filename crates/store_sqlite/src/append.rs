//! One batch, one transaction: rows, last positions, dead letters, counters and the log cursor.

use model::{DeliveryState, FleetEvent, Position, Record, Reject, UtcMicros};
use rusqlite::{CachedStatement, Connection, Row, Transaction, TransactionBehavior, params};
use store::{Appended, Batch};

use crate::error::Outcome;
use crate::intern::{Interner, NO_ORDER};
use crate::last::{Candidate, Touched};
use crate::sql;

/// The counters of the file, read and written within each transaction.
#[derive(Debug, Default, Clone)]
pub(crate) struct State {
    pub(crate) writer_id: String,
    pub(crate) positions_seq: i64,
    pub(crate) fleet_events_seq: i64,
    pub(crate) rejected_seq: i64,
    pub(crate) positions: i64,
    pub(crate) fleet_events: i64,
    pub(crate) rejected: i64,
    pub(crate) orders: i64,
    pub(crate) deliverers: i64,
}

impl State {
    pub(crate) fn load(on: &Connection) -> Outcome<Self> {
        let read = |row: &Row<'_>| {
            Ok(Self {
                writer_id: row.get(0)?,
                positions_seq: row.get(1)?,
                fleet_events_seq: row.get(2)?,
                rejected_seq: row.get(3)?,
                positions: row.get(4)?,
                fleet_events: row.get(5)?,
                rejected: row.get(6)?,
                orders: row.get(7)?,
                deliverers: row.get(8)?,
            })
        };
        Ok(on.prepare_cached(sql::STATE)?.query_row([], read)?)
    }

    pub(crate) fn save(&self, on: &Connection) -> Outcome<()> {
        on.prepare_cached(sql::SAVE_STATE)?.execute(params![
            self.positions_seq,
            self.fleet_events_seq,
            self.rejected_seq,
            self.positions,
            self.fleet_events,
            self.rejected,
            self.orders,
            self.deliverers,
        ])?;
        Ok(())
    }
}

/// Stores a batch. After an error nothing of it is stored.
pub(crate) fn append(
    connection: &mut Connection,
    interner: &mut Interner,
    batch: &Batch,
    max_future_skew_us: i64,
) -> Outcome<Appended> {
    let outcome = (|| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut writing = Writing {
            state: State::load(&transaction)?,
            on: &transaction,
            interner,
            max_future_skew_us,
            appended: Appended::default(),
        };
        writing.batch(batch)?;
        let appended = writing.appended;
        transaction.commit()?;
        Ok(appended)
    })();
    if outcome.is_err() {
        interner.forget();
    }
    if let Ok(appended) = &outcome {
        debug_assert_eq!(
            appended.stored + appended.duplicate + appended.rejected,
            batch.len() as u64,
            "an item of the batch was not counted"
        );
    }
    outcome
}

/// A position on its way into the table.
struct Incoming<'a> {
    position: &'a Position,
    order_ref: i64,
    deliverer_ref: i64,
    /// Its fleet event is the item that counts.
    is_part_of_event: bool,
}

struct Writing<'a> {
    on: &'a Transaction<'a>,
    interner: &'a mut Interner,
    state: State,
    max_future_skew_us: i64,
    appended: Appended,
}

impl Writing<'_> {
    fn batch(&mut self, batch: &Batch) -> Outcome<()> {
        let incoming = self.records(&batch.records)?;
        self.positions(incoming)?;
        for reject in &batch.rejects {
            self.reject(reject)?;
        }
        if let Some(cursor) = &batch.cursor {
            self.on
                .prepare_cached(sql::MOVE_CURSOR)?
                .execute(params![cursor.source, cursor.next.cast_signed()])?;
        }
        self.state.save(self.on)
    }

    /// Stores fleet events and returns the positions, sorted for the indexes.
    fn records<'a>(&mut self, records: &'a [Record]) -> Outcome<Vec<Incoming<'a>>> {
        let segment = segment_of(self.state.positions_seq + 1);
        let mut incoming = Vec::with_capacity(records.len());
        for record in records {
            let (position, is_part_of_event) = match record {
                Record::Position(position) => (position, false),
                Record::FleetEvent { event, position } => {
                    // A duplicate's position was stored with the first of them, all or nothing.
                    if !self.fleet_event(event)? {
                        continue;
                    }
                    let Some(position) = position else { continue };
                    (position, true)
                }
            };
            let order_ref = match &position.order_id {
                Some(id) => self.interner.order(self.on, id.as_str(), segment)?,
                None => NO_ORDER,
            };
            let id = position.deliverer_id.as_str();
            incoming.push(Incoming {
                position,
                order_ref,
                deliverer_ref: self.interner.deliverer(self.on, id, segment)?,
                is_part_of_event,
            });
        }
        // Neighbours in the indexes are then written together, and the lake reads nearly sorted rows.
        incoming.sort_by_key(|one| (one.deliverer_ref, one.position.event_time));
        Ok(incoming)
    }

    fn positions(&mut self, incoming: Vec<Incoming<'_>>) -> Outcome<()> {
        let mut add = self.on.prepare_cached(sql::ADD_POSITION)?;
        let (mut orders, mut deliverers) = (Touched::default(), Touched::default());
        let mut segments = Vec::new();
        for one in incoming {
            let recency = one.position.recency();
            let seq = self.state.positions_seq + 1;
            let is_new = add_position(&mut add, seq, &one, recency.1)?;
            if !one.is_part_of_event {
                self.count(is_new);
            }
            if !is_new {
                continue;
            }
            self.state.positions_seq = seq;
            self.state.positions += 1;
            widen(&mut segments, segment_of(seq), recency.0);
            let may_be_last = !one.position.is_from_the_future(self.max_future_skew_us);
            let candidate = |other_ref| {
                may_be_last.then_some(Candidate {
                    position: one.position,
                    recency,
                    other_ref,
                })
            };
            deliverers.note(one.deliverer_ref, candidate(one.order_ref));
            if one.order_ref != NO_ORDER {
                orders.note(one.order_ref, candidate(one.deliverer_ref));
            }
        }
        let segment = segment_of(self.state.positions_seq);
        let new_orders = orders.write(self.on, &sql::LAST_OF_ORDER, segment)?;
        let new_deliverers = deliverers.write(self.on, &sql::LAST_OF_DELIVERER, segment)?;
        self.state.orders += new_orders.cast_signed();
        self.state.deliverers += new_deliverers.cast_signed();
        for (segment, first, last) in segments {
            self.on
                .prepare_cached(sql::WIDEN_SEGMENT)?
                .execute(params![segment, first.as_micros(), last.as_micros()])?;
        }
        Ok(())
    }

    fn fleet_event(&mut self, event: &FleetEvent) -> Outcome<bool> {
        let seq = self.state.fleet_events_seq + 1;
        let changed = self
            .on
            .prepare_cached(sql::ADD_FLEET_EVENT)?
            .execute(params![
                seq,
                event.organization_id,
                event.on.as_str(),
                event.event.as_str(),
                event.entity_id,
                event.at.as_micros(),
                event.received_time.as_micros(),
                event.data,
                event.discriminator(),
            ])?;
        self.count(changed > 0);
        if changed > 0 {
            self.state.fleet_events_seq = seq;
            self.state.fleet_events += 1;
        }
        Ok(changed > 0)
    }

    fn reject(&mut self, reject: &Reject) -> Outcome<()> {
        let seq = self.state.rejected_seq + 1;
        let changed = self.on.prepare_cached(sql::ADD_REJECT)?.execute(params![
            seq,
            reject.defect.reason.as_str(),
            reject.defect.detail,
            reject.topic,
            reject.payload,
            reject.received_time.as_micros(),
            reject.item,
            reject.log_seq.map(u64::cast_signed),
            identity(reject),
        ])?;
        if changed > 0 {
            self.state.rejected_seq = seq;
            self.state.rejected += 1;
            self.appended.rejected += 1;
        } else {
            self.appended.duplicate += 1;
        }
        Ok(())
    }

    fn count(&mut self, is_new: bool) {
        if is_new {
            self.appended.stored += 1;
        } else {
            self.appended.duplicate += 1;
        }
    }
}

fn add_position(
    add: &mut CachedStatement<'_>,
    seq: i64,
    one: &Incoming<'_>,
    discriminator: i64,
) -> Outcome<bool> {
    let position = one.position;
    let changed = add.execute(params![
        seq,
        segment_of(seq),
        one.order_ref,
        one.deliverer_ref,
        position.event_time.as_micros(),
        discriminator,
        position.received_time.as_micros(),
        position.lat.degrees(),
        position.lon.degrees(),
        position.delivery_state.as_ref().map(DeliveryState::as_str),
        position.speed_mps,
        position.heading_deg,
        position.accuracy_m,
        position.altitude_m,
        position.battery,
        position.source.as_str(),
    ])?;
    Ok(changed > 0)
}

/// Returns the segment a sequence belongs to.
pub(crate) fn segment_of(seq: i64) -> i64 {
    seq >> sql::SEGMENT_SHIFT
}

/// Sequences ascend, so only the last segment can be the one to widen.
fn widen(segments: &mut Vec<(i64, UtcMicros, UtcMicros)>, segment: i64, time: UtcMicros) {
    match segments.last_mut() {
        Some((number, first, last)) if *number == segment => {
            *first = time.min(*first);
            *last = time.max(*last);
        }
        _ => segments.push((segment, time, time)),
    }
}

/// Returns the key of a dead letter.
fn identity(reject: &Reject) -> [u8; 16] {
    let [first, second] = reject.identity().map(u64::to_le_bytes);
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&first);
    identity[8..].copy_from_slice(&second);
    identity
}
