//! The way out for positions: shown row by row in the order stored, without a list of them.
//!
//! Rows name their order and their deliverer by number. An id is looked up once for a call, goes into a row, and out of
//! it again for the next: no row allocates anything.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use rusqlite::{CachedStatement, Connection, Row};
use store::{Stored, StoredPosition};

use crate::error::{Failure, Outcome};
use crate::{rows, sql};

/// Ids looked up together: numbers are given out in order, so neighbours are asked for soon.
const NEIGHBOURS: i64 = 16;

/// Shows the positions within bounds: after a sequence, up to a sequence, at most so many.
pub(crate) fn positions(
    on: &Connection,
    bounds: [i64; 3],
    mut show: impl FnMut(&StoredPosition),
) -> Outcome<()> {
    let mut scan = on.prepare_cached(sql::SCAN_POSITIONS)?;
    let mut orders = Ids::new(on.prepare_cached(sql::GET_ORDER_IDS)?, rows::order_id_at);
    let mut deliverers = Ids::new(
        on.prepare_cached(sql::GET_DELIVERER_IDS)?,
        rows::deliverer_id_at,
    );
    let mut rows = scan.query(bounds)?;
    while let Some(row) = rows.next()? {
        // Zero, where there is no order, has no id.
        let order_id = orders.get(row.get(0)?)?;
        let number = row.get(1)?;
        let deliverer_id = deliverers.get(number)?;
        let Some(deliverer) = deliverer_id.take() else {
            return Err(Failure::data(format!("there is no deliverer {number}")));
        };
        let stored = Stored {
            writer_seq: rows::seq(row, rows::POSITION_SEQ)?,
            row: rows::position_of(row, order_id.take(), deliverer)?,
        };
        show(&stored);
        *order_id = stored.row.order_id;
        *deliverer_id = Some(stored.row.deliverer_id);
    }
    Ok(())
}

/// Ids by their number, each here or in the row at hand. There are at most [`NEIGHBOURS`] for each row of a call, which
/// the caller bounds.
struct Ids<'a, T> {
    known: HashMap<i64, Option<T>, BuildHasherDefault<Spread>>,
    /// Numbers and ids from a number up to another, exclusive.
    select: CachedStatement<'a>,
    read: fn(&Row<'_>, usize) -> rusqlite::Result<T>,
}

impl<'a, T> Ids<'a, T> {
    fn new(select: CachedStatement<'a>, read: fn(&Row<'_>, usize) -> rusqlite::Result<T>) -> Self {
        Self {
            known: HashMap::default(),
            select,
            read,
        }
    }

    /// Returns the place of an id; it holds nothing when no id has the number.
    fn get(&mut self, number: i64) -> Outcome<&mut Option<T>> {
        if !self.known.contains_key(&number) {
            let mut rows = self
                .select
                .query([number, number.saturating_add(NEIGHBOURS)])?;
            while let Some(row) = rows.next()? {
                let id = (self.read)(row, 1)?;
                self.known.entry(row.get(0)?).or_insert(Some(id));
            }
        }
        Ok(self.known.entry(number).or_default())
    }
}

/// Hashes numbers that this store gave out itself, one after the other, so that nobody can choose them.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_i64((*byte).into());
        }
    }

    fn write_i64(&mut self, number: i64) {
        // 2^64 by the golden ratio: neighbours land far from each other, in the high bits as in the low ones.
        let mixed = (self.0 ^ number.cast_unsigned()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
