//! A deliverer's history: what it reported without an order, and of each order it carried the hours in which it did.
//!
//! Each of these is a range of `_id`, in order of time; together they are merged, hour by hour, until the page is
//! full and the next hour begins after its end. Hours in which nothing was carried are never looked at, and
//! what an order's other deliverers reported in such an hour is read and left out. In memory are a page and the
//! answer to one query.

use std::collections::BTreeMap;

use model::{Position, UtcMicros};
use mongodb::bson::{Document, doc};
use store::HistoryQuery;

use super::of_range;
use crate::carried::CarriedDoc;
use crate::database::{CARRIED, Store};
use crate::error::{Failure, Outcome};
use crate::key::{self, Carried, HOUR_US};
use crate::page;
use crate::reader::read;

/// Fewest rows asked for at once: pages of few rows should not cost many queries where an order has changed hands.
const ROWS: usize = 255;
/// Hours and orders asked for at once.
const ENTRIES: usize = 1_000;

/// Returns the first positions after the cursor, at most one more than `limit`.
pub(super) async fn first(
    store: &Store,
    deliverer: &str,
    query: &HistoryQuery,
    after: Option<String>,
    limit: usize,
) -> Outcome<Vec<Position>> {
    let place = |id: String| -> Outcome<_> {
        let time = key::event_time(&id).ok_or_else(page::foreign_cursor)?;
        Ok((time, id))
    };
    let after = after.map(place).transpose()?;
    let since = after.as_ref().map(|(time, _)| *time).max(query.from);
    let mut merge = Merge {
        store,
        deliverer,
        after,
        size: limit + 1,
        found: BTreeMap::new(),
    };
    let since = since.unwrap_or_default();
    let alone = key::without_order(deliverer);
    merge.take(&alone, since, query.to).await?;
    merge.take_carried(since, query.to).await?;
    Ok(merge.found.into_values().collect())
}

/// Returns the instant `micros` later, unless time has ended by then.
fn later(time: UtcMicros, micros: i64) -> Option<UtcMicros> {
    UtcMicros::new(time.as_micros() + micros)
}

/// Returns the earlier of two ends; none is the end of time.
fn earlier(one: Option<UtcMicros>, other: Option<UtcMicros>) -> Option<UtcMicros> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The first rows of a history so far, by event time and `_id`.
struct Merge<'a> {
    store: &'a Store,
    deliverer: &'a str,
    after: Option<(UtcMicros, String)>,
    /// Rows wanted; what is beyond them is dropped.
    size: usize,
    found: BTreeMap<(UtcMicros, String), Position>,
}

impl Merge<'_> {
    /// Returns the instant before which rows still matter.
    fn end(&self, to: Option<UtcMicros>) -> Option<UtcMicros> {
        let last = self.found.last_key_value();
        let full = last.filter(|_| self.found.len() >= self.size);
        earlier(full.and_then(|((time, _), _)| later(*time, 1)), to)
    }

    fn put(&mut self, position: Position) {
        let place = (position.event_time, key::position(&position));
        if self.after.as_ref().is_some_and(|after| place <= *after) {
            return;
        }
        self.found.insert(place, position);
        if self.found.len() > self.size {
            self.found.pop_last();
        }
    }

    /// Merges what every order it carried says of `since <= event_time < to`.
    async fn take_carried(&mut self, since: UtcMicros, to: Option<UtcMicros>) -> Outcome<()> {
        let carried = self.store.collection::<CarriedDoc>(CARRIED);
        let mut from = doc! { "$gte": Carried::from(self.deliverer, since) };
        let mut before = String::new();
        loop {
            from.insert("$lt", Carried::to(self.deliverer, self.end(to)));
            let found = carried.find(doc! { "_id": from }).sort(doc! { "_id": 1 });
            let entries = read(found, ENTRIES).await?;
            for entry in &entries {
                let (hour, order) = Carried::read(&entry.id).ok_or_else(|| {
                    Failure::data(format!("what was carried has the _id {:?}", entry.id))
                })?;
                // By day of receipt there may be several.
                let this = key::track_from(order, Some(hour));
                if this == before {
                    continue;
                }
                before = this;
                let end = self.end(to);
                if end.is_some_and(|end| end <= hour) {
                    return Ok(());
                }
                let end = earlier(end, later(hour, HOUR_US));
                self.take(order, hour.max(since), end).await?;
            }
            match entries.last() {
                Some(last) if entries.len() > ENTRIES => from = doc! { "$gt": &last.id },
                _ => return Ok(()),
            }
        }
    }

    /// Merges this deliverer's rows of a track.
    async fn take(&mut self, track: &str, since: UtcMicros, to: Option<UtcMicros>) -> Outcome<()> {
        let rows = self.size.max(ROWS);
        let mut from = self.from(track, since);
        loop {
            from.insert("$lt", key::track_to(track, self.end(to)));
            let found = of_range(self.store, doc! { "_id": from }, rows).await?;
            let is_all = found.len() <= rows;
            let last = found.last().map(key::position);
            for position in found {
                if position.deliverer_id.as_str() == self.deliverer {
                    self.put(position);
                }
            }
            match last {
                Some(last) if !is_all => from = doc! { "$gt": last },
                _ => return Ok(()),
            }
        }
    }

    /// Returns where to begin in a track: at an instant, and after the cursor, which may be of another track.
    fn from(&self, track: &str, since: UtcMicros) -> Document {
        let first = key::track_from(track, Some(since));
        match &self.after {
            Some((time, id)) if *time == since => {
                if id.starts_with(&first) {
                    doc! { "$gt": id }
                } else if *id < first {
                    doc! { "$gte": first }
                } else {
                    let next = since.saturating_add_micros(1);
                    doc! { "$gte": key::track_from(track, Some(next)) }
                }
            }
            _ => doc! { "$gte": first },
        }
    }
}
