//! Ids to numbers: the row of an order or a deliverer, made when it is first seen.
//!
//! Numbers are given once and never change, so what another process gave stays right in this cache. The
//! cache holds two generations of bounded size: when the young one is full, it becomes the old one and the
//! old one goes. An id that is in use is always in one of them.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Outcome;
use crate::sql;

/// Ids in a generation; about 30 MB for two generations of both kinds with ids of 36 bytes.
const GENERATION: usize = 1 << 16;

/// The number that stands for "no order".
pub(crate) const NO_ORDER: i64 = 0;

#[derive(Debug, Default)]
pub(crate) struct Interner {
    orders: Generations,
    deliverers: Generations,
}

impl Interner {
    /// Returns the number of an order, and makes its row when it is new, from `segment` on.
    pub(crate) fn order(&mut self, on: &Connection, id: &str, segment: i64) -> Outcome<i64> {
        self.orders
            .number(on, id, segment, sql::FIND_ORDER, sql::ADD_ORDER)
    }

    /// Returns the number of a deliverer, and makes its row when it is new, from `segment` on.
    pub(crate) fn deliverer(&mut self, on: &Connection, id: &str, segment: i64) -> Outcome<i64> {
        self.deliverers
            .number(on, id, segment, sql::FIND_DELIVERER, sql::ADD_DELIVERER)
    }

    /// Forgets everything, because numbers of a transaction that failed are not given after all.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Box<str>, i64>,
    old: HashMap<Box<str>, i64>,
}

impl Generations {
    fn number(
        &mut self,
        on: &Connection,
        id: &str,
        segment: i64,
        find: &str,
        add: &str,
    ) -> Outcome<i64> {
        if let Some(&number) = self.young.get(id) {
            return Ok(number);
        }
        let number = match self.old.get(id) {
            Some(&number) => number,
            None => find_or_add(on, id, segment, find, add)?,
        };
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id.into(), number);
        Ok(number)
    }
}

fn find_or_add(on: &Connection, id: &str, segment: i64, find: &str, add: &str) -> Outcome<i64> {
    let found = on
        .prepare_cached(find)?
        .query_row([id], |row| row.get(0))
        .optional()?;
    if let Some(number) = found {
        return Ok(number);
    }
    Ok(on.prepare_cached(add)?.insert(params![id, segment])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_when_generations_pass() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql::SCHEMA).unwrap();
        let mut interner = Interner::default();
        let first = interner.order(&connection, "first", 0).unwrap();
        for i in 0..2 * GENERATION + 2 {
            interner.order(&connection, &format!("o{i}"), 0).unwrap();
        }
        assert!(interner.orders.young.len() + interner.orders.old.len() <= 2 * GENERATION);
        assert_eq!(interner.order(&connection, "first", 7).unwrap(), first);
        assert_ne!(first, NO_ORDER);
    }
}
