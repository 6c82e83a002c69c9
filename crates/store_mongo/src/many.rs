//! Many updates in few commands: the bulk write of MongoDB 8.0 where the server has it, `update` with many
//! statements before.
//!
//! Statements are independent of one another and run in any order. All of them are guarded, so running one
//! twice does what running it once does.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use mongodb::Namespace;
use mongodb::bson::{Bson, Document, doc, serialize_to_bson};
use mongodb::error::ErrorKind as Driver;
use mongodb::options::{UpdateOneModel, WriteModel};
use serde::Deserialize;

use crate::database::{Store, answer, within};
use crate::error::{DUPLICATE_KEY, Failure, Outcome};

/// Statements in one command. The server takes 100,000, but a reply may not name more than 16 MB of errors,
/// and a command should not hold others up.
const STATEMENTS: usize = 1_000;
/// Commands under way at once.
const COMMANDS: usize = 2;

/// One guarded update: a document is replaced by what a stage of a pipeline makes of it, or of nothing when
/// none is found.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(crate) collection: &'static str,
    pub(crate) filter: Document,
    pub(crate) stage: Document,
}

/// Runs updates and returns the indexes of those that were to insert a document whose `_id` exists.
pub(crate) async fn run(store: &Store, updates: &[Update]) -> Outcome<Vec<usize>> {
    let mut by_collection: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, update) in updates.iter().enumerate() {
        let collection = if store.has_bulk_write() {
            ""
        } else {
            update.collection
        };
        by_collection.entry(collection).or_default().push(index);
    }
    let mut commands: Vec<BoxFuture<'_, Outcome<Vec<usize>>>> = Vec::new();
    for (name, indexes) in &by_collection {
        for part in indexes.chunks(STATEMENTS) {
            commands.push(if store.has_bulk_write() {
                bulk(store, updates, part).boxed()
            } else {
                command(store, name, updates, part).boxed()
            });
        }
    }
    let refused: Vec<Vec<usize>> = stream::iter(commands)
        .buffer_unordered(COMMANDS)
        .try_collect()
        .await?;
    Ok(refused.into_iter().flatten().collect())
}

async fn bulk(store: &Store, updates: &[Update], part: &[usize]) -> Outcome<Vec<usize>> {
    let models: Vec<WriteModel> = part
        .iter()
        .map(|&index| {
            let update = &updates[index];
            UpdateOneModel::builder()
                .namespace(Namespace::new(store.database().name(), update.collection))
                .filter(update.filter.clone())
                .update(vec![update.stage.clone()])
                .upsert(true)
                .build()
                .into()
        })
        .collect();
    let written = store
        .client()
        .bulk_write(models)
        .ordered(false)
        .write_concern(store.tuning().durable());
    let Err(error) = within(written).await? else {
        return Ok(Vec::new());
    };
    if let Driver::BulkWrite(errors) = &*error.kind {
        let only_duplicates = errors.write_concern_errors.is_empty()
            && std::error::Error::source(&error).is_none()
            && errors
                .write_errors
                .values()
                .all(|one| one.code == DUPLICATE_KEY);
        if only_duplicates {
            let refused = errors.write_errors.keys();
            return Ok(refused.filter_map(|&i| part.get(i).copied()).collect());
        }
    }
    Err(error.into())
}

/// The part of an answer to `update` that tells failures.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    #[serde(default)]
    write_errors: Vec<StatementError>,
    write_concern_error: Option<Document>,
}

#[derive(Debug, Deserialize)]
struct StatementError {
    index: i64,
    code: i32,
    #[serde(default)]
    errmsg: String,
}

async fn command(
    store: &Store,
    name: &str,
    updates: &[Update],
    part: &[usize],
) -> Outcome<Vec<usize>> {
    let statements: Vec<Bson> = part
        .iter()
        .map(|&index| {
            let Update { filter, stage, .. } = &updates[index];
            Bson::Document(doc! { "q": filter.clone(), "u": [stage.clone()], "upsert": true })
        })
        .collect();
    let concern = serialize_to_bson(&store.tuning().durable())
        .map_err(|error| Failure::data(format!("the write concern has no form: {error}")))?;
    let command = doc! {
        "update": name,
        "updates": statements,
        "ordered": false,
        "writeConcern": concern,
    };
    let reply = answer(store.database().run_command(command)).await?;
    let reply: Reply = mongodb::bson::deserialize_from_document(reply)
        .map_err(|error| Failure::unavailable(format!("no answer to an update: {error}")))?;
    if let Some(concern) = reply.write_concern_error {
        let message = concern.get_str("errmsg").unwrap_or_default();
        return Err(Failure::unavailable(format!(
            "not written by a majority: {message}"
        )));
    }
    let mut refused = Vec::new();
    for error in reply.write_errors {
        if error.code != DUPLICATE_KEY {
            return Err(Failure::of_document(error.code, &error.errmsg));
        }
        let index = usize::try_from(error.index).ok().and_then(|i| part.get(i));
        refused.extend(index.copied());
    }
    Ok(refused)
}
