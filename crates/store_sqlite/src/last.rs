//! Last positions: coalesced within a batch, then written under the guard of recency.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use model::{DeliveryState, Position, RecencyKey};
use rusqlite::{CachedStatement, Connection, params};

use crate::error::Outcome;
use crate::sql::LastSql;

/// A position about to be last, and the other id of its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) position: &'a Position,
    pub(crate) recency: RecencyKey,
    pub(crate) other_ref: i64,
}

/// The greatest candidate of each order (or deliverer) a batch brought rows of. Absent where every new
/// row is from the future. Ascending numbers, so that writing them walks the table once.
#[derive(Debug, Default)]
pub(crate) struct Touched<'a>(BTreeMap<i64, Option<Candidate<'a>>>);

impl<'a> Touched<'a> {
    /// Notes a new row and, unless it is from the future, its candidate.
    pub(crate) fn note(&mut self, number: i64, candidate: Option<Candidate<'a>>) {
        match self.0.entry(number) {
            Entry::Vacant(entry) => {
                entry.insert(candidate);
            }
            Entry::Occupied(mut entry) => {
                let held = entry.get().as_ref().map(|held| held.recency);
                if candidate.is_some_and(|new| held < Some(new.recency)) {
                    entry.insert(candidate);
                }
            }
        }
    }

    /// Writes them and returns how many got their first last position.
    pub(crate) fn write(&self, on: &Connection, sql: &LastSql, segment: i64) -> Outcome<u64> {
        let mut newer = on.prepare_cached(sql.newer)?;
        let mut first = on.prepare_cached(sql.first)?;
        let mut seen = on.prepare_cached(sql.seen)?;
        let mut firsts = 0;
        for (&number, candidate) in &self.0 {
            if let Some(candidate) = candidate {
                if set(&mut newer, number, segment, candidate)? {
                    continue;
                }
                if set(&mut first, number, segment, candidate)? {
                    firsts += 1;
                    continue;
                }
            }
            seen.execute(params![number, segment])?;
        }
        Ok(firsts)
    }
}

fn set(
    statement: &mut CachedStatement<'_>,
    number: i64,
    segment: i64,
    candidate: &Candidate<'_>,
) -> Outcome<bool> {
    let Candidate {
        position,
        recency: (event_time, discriminator),
        other_ref,
    } = candidate;
    let changed = statement.execute(params![
        number,
        segment,
        other_ref,
        event_time.as_micros(),
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
