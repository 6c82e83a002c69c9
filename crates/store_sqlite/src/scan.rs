//! The way out for positions: shown row by row in the order stored, without a list of them.
//!
//! Rows name their order and their deliverer by number. An id is looked up once for a call, goes into a row, and out of
//! it again for the next: no row allocates anything.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use model::{DelivererId, OrderId};
use rusqlite::{Connection, OptionalExtension};
use store::{Stored, StoredPosition};

use crate::error::{Failure, Outcome};
use crate::{rows, sql};

/// Shows the positions within bounds: after a sequence, up to a sequence, at most so many.
pub(crate) fn positions(
    on: &Connection,
    bounds: [i64; 3],
    mut show: impl FnMut(&StoredPosition),
) -> Outcome<()> {
    let mut scan = on.prepare_cached(sql::SCAN_POSITIONS)?;
    let mut get_order = on.prepare_cached(sql::GET_ORDER_ID)?;
    let mut get_deliverer = on.prepare_cached(sql::GET_DELIVERER_ID)?;
    let mut orders = Ids::<OrderId>::default();
    let mut deliverers = Ids::<DelivererId>::default();
    let mut rows = scan.query(bounds)?;
    while let Some(row) = rows.next()? {
        let (order, deliverer) = (row.get(0)?, row.get(1)?);
        // Zero, where there is no order, has no row.
        let order_id = orders.take(order, || {
            let id = get_order.query_row([order], rows::order_id_alone);
            Ok(id.optional()?)
        })?;
        let deliverer_id = deliverers.take(deliverer, || {
            let id = get_deliverer.query_row([deliverer], rows::deliverer_id_alone);
            Ok(id.optional()?)
        })?;
        let deliverer_id = deliverer_id
            .ok_or_else(|| Failure::data(format!("there is no deliverer {deliverer}")))?;
        let stored = Stored {
            writer_seq: rows::seq(row, rows::POSITION_SEQ)?,
            row: rows::position_of(row, order_id, deliverer_id)?,
        };
        show(&stored);
        orders.put_back(order, stored.row.order_id);
        deliverers.put_back(deliverer, Some(stored.row.deliverer_id));
    }
    Ok(())
}

/// Ids by their number, each here or in the row at hand.
#[derive(Debug)]
struct Ids<T>(HashMap<i64, Option<T>, BuildHasherDefault<Spread>>);

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<T> Ids<T> {
    fn take(
        &mut self,
        number: i64,
        get: impl FnOnce() -> Outcome<Option<T>>,
    ) -> Outcome<Option<T>> {
        match self.0.get_mut(&number) {
            Some(known) => Ok(known.take()),
            None => get(),
        }
    }

    fn put_back(&mut self, number: i64, id: Option<T>) {
        self.0.insert(number, id);
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
