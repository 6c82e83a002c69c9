//! Pages of history, merged from the segments that can hold a part of it.
//!
//! Each segment is small and sorted by (order or deliverer, event time). A segment knows the first and last
//! event time in it, and an order knows its first and last segment, so an order of an hour is found in
//! a segment or two. Segments are taken by their first event time; as soon as the page is full and the
//! next segment begins after it, the page is done.

use model::Position;
use model::content_hash::ContentHash;
use rusqlite::{Connection, OptionalExtension, Row, params};
use store::{HistoryOf, HistoryQuery, Page};

use crate::error::Outcome;
use crate::reader::{foreign_cursor, limits};
use crate::{rows, sql};

/// The order of history: event time, then the sequence of storing.
type Place = (i64, i64);

/// Returns a page.
pub(crate) fn page(on: &Connection, query: &HistoryQuery) -> Outcome<Page<Position>> {
    let from = query.from.map_or(i64::MIN, model::UtcMicros::as_micros);
    let start = match &query.after {
        Some(cursor) => read_cursor(cursor, &query.of)?.max((from, -1)),
        None => (from, -1),
    };
    let end = query.to.map_or(i64::MAX, model::UtcMicros::as_micros);
    let (range_sql, history_sql, id) = match &query.of {
        HistoryOf::Order(id) => (sql::RANGE_OF_ORDER, sql::HISTORY_OF_ORDER, id.as_str()),
        HistoryOf::Deliverer(id) => (
            sql::RANGE_OF_DELIVERER,
            sql::HISTORY_OF_DELIVERER,
            id.as_str(),
        ),
    };
    // One transaction, so that all segments are seen as of the same commit.
    let snapshot = on.unchecked_transaction()?;
    let range = snapshot
        .prepare_cached(range_sql)?
        .query_row([id], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, i64>(2)?,
            ))
        })
        .optional()?;
    let (count, limit) = limits(query.limit);
    let mut found: Vec<(Place, Position)> = Vec::new();
    if let Some((number, first, last)) = range {
        let segments = snapshot
            .prepare_cached(sql::SEGMENTS)?
            .query_map(params![first, last, start.0, end], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let mut statement = snapshot.prepare_cached(history_sql)?;
        for (segment, first_us) in segments {
            // Once the page is full, only what comes before its end still matters.
            let full = (found.len() > limit).then(|| found.last()).flatten();
            let until = full.map_or(end, |((time, _), _)| time.saturating_add(1).min(end));
            if first_us >= until {
                break;
            }
            let values = params![segment, number, start.0, start.1, until, count];
            for row in statement.query_map(values, placed)? {
                found.push(row?);
            }
            found.sort_by_key(|(place, _)| *place);
            found.truncate(limit + 1);
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().map(|(place, _)| *place);
    Ok(Page {
        next_cursor: last
            .filter(|_| more)
            .map(|(time, seq)| format!("h-{:x}-{time}-{seq}", owner(&query.of))),
        items: found.into_iter().map(|(_, position)| position).collect(),
    })
}

fn placed(row: &Row<'_>) -> rusqlite::Result<(Place, Position)> {
    let position = rows::position(row)?;
    let place = (
        position.event_time.as_micros(),
        row.get(rows::POSITION_SEQ)?,
    );
    Ok((place, position))
}

/// Tells whose history a cursor belongs to.
fn owner(of: &HistoryOf) -> u64 {
    let (kind, id) = match of {
        HistoryOf::Order(id) => ("order", id.as_str()),
        HistoryOf::Deliverer(id) => ("deliverer", id.as_str()),
    };
    ContentHash::default()
        .chain(kind.as_bytes())
        .chain(id.as_bytes())
        .finish()
}

fn read_cursor(cursor: &str, of: &HistoryOf) -> Outcome<Place> {
    let mut parts = cursor.split('-');
    let (letter, hash) = (parts.next(), parts.next());
    let mut number = || parts.next().and_then(|part| part.parse::<i64>().ok());
    let place = (number(), number());
    let is_ours = letter == Some("h")
        && hash.and_then(|hash| u64::from_str_radix(hash, 16).ok()) == Some(owner(of))
        && parts.next().is_none();
    match place {
        (Some(time), Some(seq)) if is_ours => Ok((time, seq)),
        _ => Err(foreign_cursor()),
    }
}
