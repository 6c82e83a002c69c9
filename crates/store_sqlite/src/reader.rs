//! Answers to the API: last positions inline, pages on blocking threads, cursors that are checked.

use async_trait::async_trait;
use model::{DelivererId, FleetEvent, OrderId, Position, Reject};
use rusqlite::{Connection, OptionalExtension, params};
use store::{Counts, ErrorKind, FleetEventQuery, HistoryQuery, Page, StoreError};

use crate::append::State;
use crate::error::{Failure, Outcome};
use crate::{SqliteStore, fleet, history, rows, sql};

/// Most items a page holds, whatever was asked for; a page is built in memory.
const MAX_PAGE: usize = 100_000;

#[async_trait]
impl store::Reader for SqliteStore {
    async fn last_by_order(&self, order_id: &OrderId) -> Result<Option<Position>, StoreError> {
        self.last(sql::GET_LAST_OF_ORDER, order_id.as_str())
    }

    async fn last_by_deliverer(
        &self,
        deliverer_id: &DelivererId,
    ) -> Result<Option<Position>, StoreError> {
        self.last(sql::GET_LAST_OF_DELIVERER, deliverer_id.as_str())
    }

    async fn history(&self, query: &HistoryQuery) -> Result<Page<Position>, StoreError> {
        let query = query.clone();
        self.inner
            .readers
            .on_a_blocking_thread("history", move |on| history::page(on, &query))
            .await
    }

    async fn fleet_events(&self, query: &FleetEventQuery) -> Result<Page<FleetEvent>, StoreError> {
        let query = query.clone();
        self.inner
            .readers
            .on_a_blocking_thread("fleet_events", move |on| fleet::page(on, &query))
            .await
    }

    async fn rejected(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<Reject>, StoreError> {
        let after = after.map(str::to_owned);
        self.inner
            .readers
            .on_a_blocking_thread("rejected", move |on| rejected(on, limit, after.as_deref()))
            .await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let state = self
            .inner
            .readers
            .with(State::load)
            .map_err(|failure| failure.during("counts"))?;
        Ok(Counts {
            positions: state.positions.cast_unsigned(),
            fleet_events: state.fleet_events.cast_unsigned(),
            rejected: state.rejected.cast_unsigned(),
            orders: state.orders.cast_unsigned(),
            deliverers: state.deliverers.cast_unsigned(),
        })
    }
}

impl SqliteStore {
    fn last(&self, sql: &str, id: &str) -> Result<Option<Position>, StoreError> {
        let read = |on: &Connection| {
            let found = on.prepare_cached(sql)?.query_row([id], rows::position);
            Ok(found.optional()?)
        };
        self.inner
            .readers
            .with(read)
            .map_err(|failure| failure.during("last"))
    }
}

/// Says that a page's cursor is none of ours.
pub(crate) fn foreign_cursor() -> Failure {
    Failure::new(
        ErrorKind::Invalid,
        "the cursor is not one this query returned; give `next_cursor` of its last page unchanged",
    )
}

/// Returns the place after a cursor made of a letter and a sequence.
pub(crate) fn read_cursor(letter: char, after: Option<&str>) -> Outcome<i64> {
    let Some(after) = after else { return Ok(0) };
    after
        .strip_prefix(letter)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|seq| seq.parse().ok())
        .filter(|seq| *seq >= 0)
        .ok_or_else(foreign_cursor)
}

/// Returns the number of rows to read for a page, one more than it holds, and the page's limit.
pub(crate) fn limits(limit: usize) -> (i64, usize) {
    let limit = limit.clamp(1, MAX_PAGE);
    (i64::try_from(limit).unwrap_or(i64::MAX) + 1, limit)
}

/// Makes a page of rows read one beyond its limit.
pub(crate) fn page<T>(letter: char, mut items: Vec<(u64, T)>, limit: usize) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().map(|(seq, _)| *seq);
    Page {
        next_cursor: last.filter(|_| more).map(|seq| format!("{letter}-{seq}")),
        items: items.into_iter().map(|(_, item)| item).collect(),
    }
}

fn rejected(on: &Connection, limit: usize, after: Option<&str>) -> Outcome<Page<Reject>> {
    let after = read_cursor('r', after)?;
    let (count, limit) = limits(limit);
    let letters = on
        .prepare_cached(sql::SCAN_REJECTED)?
        .query_map(params![after, i64::MAX, count], |row| {
            Ok((rows::seq(row, rows::OTHER_SEQ)?, rows::reject(row)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(page('r', letters, limit))
}
