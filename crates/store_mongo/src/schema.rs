//! Indexes and the schema record: made where absent, checked where present.

use std::collections::HashMap;
use std::time::Duration;

use mongodb::IndexModel;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::ErrorKind as Driver;
use mongodb::options::IndexOptions;
use serde::{Deserialize, Serialize};

use crate::database::{
    CARRIED, FLEET_EVENTS, META, POSITION_LISTS, POSITIONS, REJECTED, Store, WINDOWS, answer,
    within,
};
use crate::error::{Failure, Outcome, is_duplicate};

/// The version of what this program writes.
const VERSION: i64 = 2;
/// Name of the indexes that let positions, and what leads to them, expire.
const TTL: &str = "expiry";
/// How much later what leads to positions expires: more than clocks of those that stamp a receipt ever differ.
const LATER: Duration = Duration::from_hours(24);
/// Code of a collection that does not exist yet.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// Every index but that of `_id` and those of expiry. Positions have none, because each would cost as much as the
/// row itself: see `lists` and `carried`.
fn indexes() -> Vec<(&'static str, &'static str, Document)> {
    vec![
        (FLEET_EVENTS, "by_writer", doc! { "w": 1, "s": 1 }),
        (FLEET_EVENTS, "by_storing", doc! { "stored": 1 }),
        (
            FLEET_EVENTS,
            "by_entity",
            doc! { "entity_id": 1, "stored": 1 },
        ),
        (FLEET_EVENTS, "by_event", doc! { "event": 1, "stored": 1 }),
        (REJECTED, "by_writer", doc! { "w": 1, "s": 1 }),
        (REJECTED, "by_storing", doc! { "stored": 1 }),
        (
            WINDOWS,
            "by_writer",
            doc! { "table": 1, "writer_id": 1, "after": 1 },
        ),
    ]
}

/// Checks the schema and makes what is absent.
pub(crate) async fn prepare(store: &Store, ttl: Option<Duration>) -> Outcome<()> {
    version(store).await?;
    let mut known = HashMap::new();
    for (collection, name, keys) in indexes() {
        if !known.contains_key(collection) {
            known.insert(collection, list(store, collection).await?);
        }
        match known[collection].iter().find(|index| index.name == name) {
            Some(index) if same_keys(&index.keys, &keys) => {}
            Some(index) => return Err(differs(collection, name, &index.keys, &keys)),
            None => create(store, collection, name, keys, None).await?,
        }
    }
    let later = ttl.map(|ttl| match ttl {
        Duration::ZERO => ttl,
        ttl => ttl.saturating_add(LATER),
    });
    for (collection, field, ttl) in [
        (POSITIONS, "received_time", ttl),
        (POSITION_LISTS, "received_before", later),
        (CARRIED, "received_before", later),
    ] {
        let known = list(store, collection).await?;
        let there = known.iter().find(|index| index.name == TTL);
        expire(store, collection, doc! { field: 1 }, there, ttl).await?;
    }
    Ok(())
}

fn differs(collection: &str, name: &str, there: &Document, ours: &Document) -> Failure {
    Failure::data(format!(
        "the index {name} of {collection} has the keys {there}, not {ours}; drop it, and it is made anew \
         at the next start"
    ))
}

/// Same fields in the same order with the same directions, whatever the type of the numbers.
fn same_keys(there: &Document, ours: &Document) -> bool {
    let plain = |keys: &Document| -> Vec<(String, Option<i64>)> {
        let number = |value: &Bson| match value {
            Bson::Int32(n) => Some(i64::from(*n)),
            Bson::Int64(n) => Some(*n),
            Bson::Double(n) if (*n - 1.0).abs() < f64::EPSILON => Some(1),
            _ => None,
        };
        keys.iter()
            .map(|(name, value)| (name.clone(), number(value)))
            .collect()
    };
    plain(there) == plain(ours)
}

#[derive(Debug, Serialize, Deserialize)]
struct Schema {
    #[serde(rename = "_id")]
    id: String,
    version: i64,
}

async fn version(store: &Store) -> Outcome<()> {
    let meta = store.collection::<Schema>(META);
    let ours = Schema {
        id: "schema".to_owned(),
        version: VERSION,
    };
    let there = answer(meta.find_one(doc! { "_id": &ours.id })).await?;
    let version = match there {
        Some(schema) => schema.version,
        None => match within(meta.insert_one(&ours)).await? {
            Ok(_) => VERSION,
            // Another process was faster.
            Err(error) if is_duplicate(&error) => {
                let there = answer(meta.find_one(doc! { "_id": &ours.id })).await?;
                there.map_or(VERSION, |schema| schema.version)
            }
            Err(error) => return Err(error.into()),
        },
    };
    let advice = match version {
        VERSION => return Ok(()),
        // Before the first release.
        1 => {
            "it cannot be converted: name another database, or drop this one once the lake has all of it"
        }
        _ => "run the program that wrote it, or a newer one",
    };
    Err(Failure::data(format!(
        "the database {} has schema version {version}; this program knows {VERSION}: {advice}",
        store.database().name()
    )))
}

/// An index as the server describes it.
#[derive(Debug)]
struct Known {
    name: String,
    keys: Document,
    expires_after: Option<Duration>,
}

async fn list(store: &Store, collection: &str) -> Outcome<Vec<Known>> {
    let indexes = store.documents(collection);
    let mut found = match within(indexes.list_indexes()).await? {
        Ok(found) => found,
        Err(error) => match &*error.kind {
            Driver::Command(command) if command.code == NAMESPACE_NOT_FOUND => {
                return Ok(Vec::new());
            }
            _ => return Err(error.into()),
        },
    };
    let mut known = Vec::new();
    while answer(found.advance()).await? {
        let model = found.deserialize_current()?;
        let options = model.options.unwrap_or_default();
        known.push(Known {
            name: options.name.unwrap_or_default(),
            keys: model.keys,
            expires_after: options.expire_after,
        });
    }
    Ok(known)
}

async fn create(
    store: &Store,
    collection: &str,
    name: &str,
    keys: Document,
    expires_after: Option<Duration>,
) -> Outcome<()> {
    let mut options = IndexOptions::builder().name(name.to_owned()).build();
    options.expire_after = expires_after;
    let model = IndexModel::builder().keys(keys).options(options).build();
    // No limit of time: on a large collection this takes as long as it takes.
    store.documents(collection).create_index(model).await?;
    tracing::info!(collection, index = name, "made an index");
    Ok(())
}

/// Sets, changes or removes the expiry of a collection.
async fn expire(
    store: &Store,
    collection: &str,
    keys: Document,
    there: Option<&Known>,
    ttl: Option<Duration>,
) -> Outcome<()> {
    match (there, ttl) {
        (None, None) => Ok(()),
        (Some(there), None) => {
            tracing::info!(
                collection,
                after = ?there.expires_after,
                "the database deletes documents by age, as another start asked for; start once with a time of 0 \
                 to end that"
            );
            Ok(())
        }
        (None, Some(Duration::ZERO)) => Ok(()),
        (Some(_), Some(Duration::ZERO)) => {
            answer(store.documents(collection).drop_index(TTL)).await?;
            Ok(())
        }
        (None, Some(ttl)) => create(store, collection, TTL, keys, Some(whole_seconds(ttl))).await,
        (Some(there), Some(_)) if !same_keys(&there.keys, &keys) => {
            Err(differs(collection, TTL, &there.keys, &keys))
        }
        (Some(there), Some(ttl)) if there.expires_after == Some(whole_seconds(ttl)) => Ok(()),
        (Some(_), Some(ttl)) => {
            let seconds = i64::try_from(whole_seconds(ttl).as_secs()).unwrap_or(i64::MAX);
            let change = doc! {
                "collMod": collection,
                "index": { "name": TTL, "expireAfterSeconds": seconds },
            };
            answer(store.database().run_command(change)).await?;
            Ok(())
        }
    }
}

/// The server counts in seconds, up to 2^31 - 1; a part of one is rounded up, so that nothing goes early.
fn whole_seconds(ttl: Duration) -> Duration {
    let up = u64::from(ttl.subsec_nanos() > 0);
    Duration::from_secs(
        ttl.as_secs()
            .saturating_add(up)
            .min(i32::MAX.unsigned_abs().into()),
    )
}
