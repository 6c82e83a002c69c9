//! Which orders a deliverer carried, hour by hour: what leads from a deliverer to its history.
//!
//! History lies by order. One small document for each deliverer, hour of event time, order and day of receipt says
//! where a deliverer's positions are; it has nothing but its `_id` and when it may expire. It is written before the
//! batch is committed, duplicates of positions included, because the attempt that stored those may have died
//! in between. So what [`store::Writer::append`] acknowledged is found by its deliverer.
//!
//! A process remembers what it knows to be written, so that of a deliverer at work one document an hour is
//! written for each order. Forgetting costs an insertion that finds the document there, nothing else.
//!
//! Nothing deletes them but the expiry of positions: a purge could not tell whether a writer that remembers the
//! document is about to store another position for it. One that leads to nothing costs its reader one empty range.

use model::Position;
use mongodb::bson::{DateTime, RawDocumentBuf, serialize_to_raw_document_buf};
use serde::{Deserialize, Serialize};

use crate::database::{CARRIED, Store};
use crate::error::{Failure, Outcome};
use crate::insert::insert_documents;
use crate::key::Carried;
use crate::memory::Memory;
use crate::rows::split;

/// Documents in one command.
const CHUNK: usize = 1_000;

/// A document about to be written.
#[derive(Debug, Serialize)]
struct NewDoc<'a> {
    #[serde(rename = "_id")]
    id: &'a str,
    received_before: DateTime,
}

/// A document read.
#[derive(Debug, Deserialize)]
pub(crate) struct CarriedDoc {
    #[serde(rename = "_id")]
    pub(crate) id: String,
}

/// Writes what the positions of a batch say of who carried what. Neighbours should be of one order.
pub(crate) async fn write<'a>(
    store: &Store,
    positions: impl Iterator<Item = &'a Position>,
) -> Outcome<()> {
    if store.tuning().omit_carried {
        return Ok(());
    }
    let new = unknown(&mut store.carried(), positions);
    for part in new.chunks(CHUNK) {
        let documents = part
            .iter()
            .map(|(id, before)| {
                let received_before = *before;
                serialize_to_raw_document_buf(&NewDoc {
                    id,
                    received_before,
                })
                .map_err(|error| Failure::data(format!("no document of {id:?}: {error}")))
            })
            .collect::<Outcome<Vec<RawDocumentBuf>>>()?;
        // Those that are there already are as good.
        insert_documents(store, CARRIED, &documents).await?;
    }
    let mut memory = store.carried();
    for (id, _) in new {
        memory.learn(id);
    }
    Ok(())
}

/// Returns the `_id`s of documents not known to be written, each once, and when they may begin to age.
fn unknown<'a>(
    memory: &mut Memory,
    positions: impl Iterator<Item = &'a Position>,
) -> Vec<(String, DateTime)> {
    let mut new = Vec::new();
    let mut before = None;
    for carried in positions.filter_map(Carried::of) {
        if before == Some(carried) {
            continue;
        }
        before = Some(carried);
        let id = carried.id();
        if !memory.knows(&id) {
            new.push((id, split(carried.received_before()).0));
        }
    }
    new.sort_unstable();
    new.dedup();
    new
}

#[cfg(test)]
mod tests {
    use store::conformance::build::position;

    use super::*;
    use crate::key::{DAY_US, HOUR_US};

    #[test]
    fn each_hour_order_and_day_is_written_once() {
        let mut memory = Memory::default();
        let mut points: Vec<Position> = Vec::new();
        for (order, hour) in [(Some("a"), 0), (Some("b"), 0), (None, 0), (Some("a"), 1)] {
            points.extend((0..3).map(|i| position(order, "d", hour * HOUR_US + i, None)));
        }
        let mut late = position(Some("a"), "d", 0, Some(9));
        late.received_time = late.received_time.saturating_add_micros(DAY_US);
        points.push(late);
        let new = unknown(&mut memory, points.iter());
        assert_eq!(new.len(), 4, "{new:?}");
        for (id, _) in new {
            memory.learn(id);
        }
        assert_eq!(unknown(&mut memory, points.iter()), []);
    }
}
