//! Running models: what to compute anew, checking it, replacing the partitions that differ.
//!
//! Invariant: a model's table changes by one Delta commit or not at all, and only when every declared check
//! holds. The commit records, as application transactions, how far each input was read and which text of
//! the model made it; that is how the next run knows what changed, and that an unchanged input needs no work.
//!
//! Results go to a temporary folder first, one file per partition, named by their content. Partitions whose
//! file is live already are left alone. Files no longer live are deleted right after the commit, because the
//! folders are also read as plain Parquet; a run that dies in between is tidied by the next.
//!
//! Not done here: raw is never written.

mod checks;
mod spool;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use lake::delta::{Add, Commit, Snapshot};
use lake::storage::Storage;
use lake::{LakeError, Lease, Root, hive};
use serde::Serialize;
use service::Clock;

use crate::declaration::{Model, Scope};
use crate::error::ModelError;
use crate::session::{self, Loaded};
use spool::{Spool, Spooled};

/// Records the fingerprint of a model's text.
const TEXT: &str = "lastmile/model";

/// What became of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelOutcome {
    /// An input does not exist yet.
    NoInput,
    /// Neither inputs nor model changed.
    Unchanged,
    /// It ran; the partitions it wrote may be none.
    Ran,
}

/// What a run did to one model's table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelSummary {
    /// `layer.name`.
    pub model: String,
    /// What became of it.
    pub outcome: ModelOutcome,
    /// Rows computed.
    pub rows: u64,
    /// Partitions written anew.
    pub partitions_written: u64,
    /// Partitions computed and found the same.
    pub partitions_unchanged: u64,
    /// Partitions that have no rows any more.
    pub partitions_removed: u64,
    /// Bytes written.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Runs models on a lake.
#[derive(Debug)]
pub struct Runner {
    root: Root,
    storage: Arc<dyn Storage>,
    lease: Lease,
    clock: Arc<dyn Clock>,
}

impl Runner {
    /// Makes a runner that works under `lease`.
    pub fn new(root: Root, lease: Lease, clock: Arc<dyn Clock>) -> Self {
        Self {
            storage: root.open(),
            root,
            lease,
            clock,
        }
    }

    /// Runs models one after another, in the order given, and tells `done` of each.
    ///
    /// # Errors
    /// The first failure; the models before it stand. [`LakeError::LeaseHeld`] while another runner works.
    ///
    /// # Cancel safety
    /// Dropping the future is like a crash: the next run goes on, once the lease has run out.
    pub async fn run(
        &self,
        models: &[Model],
        mut done: impl FnMut(&ModelSummary) + Send,
    ) -> Result<Vec<ModelSummary>, ModelError> {
        self.lease.acquire().await?;
        let mut summaries = Vec::new();
        let work = async {
            for model in models {
                let summary = self.run_model(model).await?;
                done(&summary);
                summaries.push(summary);
            }
            Ok(())
        };
        let outcome = self.lease.keep(work).await;
        self.lease.release().await;
        outcome.map(|()| summaries)
    }

    async fn run_model(&self, model: &Model) -> Result<ModelSummary, ModelError> {
        let begun = Instant::now();
        self.lease.renew().await?;
        let mut summary = ModelSummary {
            model: model.full_name(),
            outcome: ModelOutcome::Unchanged,
            rows: 0,
            partitions_written: 0,
            partitions_unchanged: 0,
            partitions_removed: 0,
            bytes: 0,
            seconds: 0.0,
        };
        let mut target = session::load(&self.storage, &model.full_name()).await?;
        let mut inputs = Vec::new();
        for name in &model.inputs {
            inputs.push((name.as_str(), session::load(&self.storage, name).await?));
        }
        self.tidy(&target).await?;
        if inputs.iter().any(|(_, input)| !input.snapshot.exists()) {
            summary.outcome = ModelOutcome::NoInput;
        } else if let Some(changed) = self.changed(model, &target.snapshot, &inputs).await? {
            summary.outcome = ModelOutcome::Ran;
            let spool = Spool::new(model)?;
            let context = self.context(model, &inputs, &changed)?;
            let result = spool.fill(&context, model, &self.lease).await?;
            checks::all_hold(&context, model, &result).await?;
            self.publish(model, &mut target, &inputs, &changed, result, &mut summary)
                .await?;
            self.tidy(&target).await?;
        }
        summary.seconds = begun.elapsed().as_secs_f64();
        Ok(summary)
    }

    /// Returns what has to be computed anew, or `None` when nothing changed.
    async fn changed(
        &self,
        model: &Model,
        target: &Snapshot,
        inputs: &[(&str, Loaded)],
    ) -> Result<Option<Changed>, ModelError> {
        let same_text = target.transactions.get(TEXT) == Some(&model.fingerprint());
        let read = |name: &str| {
            let read = target.transactions.get(&input_transaction(name)).copied();
            read.and_then(|read| u64::try_from(read).ok())
        };
        let unread: Vec<_> = inputs
            .iter()
            .filter(|(name, input)| read(name) != Some(input.snapshot.commits))
            .collect();
        if same_text && unread.is_empty() {
            return Ok(None);
        }
        if !same_text || model.scope == Scope::History {
            return Ok(Some(Changed::All));
        }
        let mut partitions = BTreeSet::new();
        for (name, input) in unread {
            let Some(from) = read(name) else {
                return Ok(Some(Changed::All));
            };
            let changes = input.table.changed_since(from, &input.snapshot).await;
            match changes {
                Ok(changes) => partitions.extend(
                    changes
                        .iter()
                        .map(|values| partition_value(&input.snapshot, values)),
                ),
                // Commits that old may be gone, into a checkpoint.
                Err(LakeError::Log { .. }) => return Ok(Some(Changed::All)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(Changed::Partitions(partitions)))
    }

    fn context(
        &self,
        model: &Model,
        inputs: &[(&str, Loaded)],
        changed: &Changed,
    ) -> Result<datafusion::prelude::SessionContext, ModelError> {
        let failed = |source| ModelError::Run {
            model: model.full_name(),
            source: Box::new(source),
        };
        let context = session::session(&self.storage).map_err(failed)?;
        for (name, input) in inputs {
            let keep = |values: &BTreeMap<_, _>| {
                changed.has(partition_value(&input.snapshot, values).as_deref())
            };
            if let Some(provider) = input.provider(&self.root, keep)? {
                context.register_table(*name, provider).map_err(failed)?;
            }
        }
        Ok(context)
    }

    async fn publish(
        &self,
        model: &Model,
        target: &mut Loaded,
        inputs: &[(&str, Loaded)],
        changed: &Changed,
        result: Spooled,
        summary: &mut ModelSummary,
    ) -> Result<(), ModelError> {
        // Live files of the partitions at hand; those the result does not have again are replaced.
        let of_value = |add: &Add| {
            add.partition_values
                .get(&model.partition)
                .cloned()
                .flatten()
        };
        let mut removes: BTreeSet<String> = target
            .snapshot
            .files
            .values()
            .filter(|add| changed.has(of_value(add).as_deref()))
            .map(|add| add.path.clone())
            .collect();
        let before: BTreeSet<_> = removes
            .iter()
            .filter_map(|path| target.snapshot.files.get(path))
            .map(of_value)
            .collect();
        let mut adds = Vec::new();
        for file in &result.files {
            summary.rows += file.rows;
            let folder = hive::folder(&model.partition, file.partition.as_deref());
            let path = format!("{folder}/{}", file.name);
            if removes.remove(&path) {
                summary.partitions_unchanged += 1;
                continue;
            }
            self.lease.renew().await?;
            let content = spool::read(&file.path).await?;
            let size = content.len() as u64;
            self.storage
                .put(&target.table.key(&path)?, content)
                .await
                .map_err(LakeError::from)?;
            summary.partitions_written += 1;
            summary.bytes += size;
            adds.push(Add {
                path,
                partition_values: [(model.partition.clone(), file.partition.clone())].into(),
                size,
                modification_time: self.clock.now().as_micros() / 1_000,
                data_change: true,
                stats: Some(Add::stats_of(file.rows)),
                tags: None,
            });
        }
        let after: BTreeSet<_> = result
            .files
            .iter()
            .map(|file| file.partition.clone())
            .collect();
        summary.partitions_removed = before.difference(&after).count() as u64;
        let mut transactions = vec![(TEXT.to_owned(), model.fingerprint())];
        transactions.extend(inputs.iter().map(|(name, input)| {
            (
                input_transaction(name),
                input.snapshot.commits.cast_signed(),
            )
        }));
        let commit = Commit {
            operation: "WRITE",
            schema: &result.schema,
            now: self.clock.now(),
            adds,
            removes: removes.into_iter().collect(),
            transactions,
            once: false,
        };
        target.table.commit(&mut target.snapshot, &commit).await?;
        Ok(())
    }

    /// Deletes files that are not live: replaced ones, and those of a run that died before its commit.
    async fn tidy(&self, target: &Loaded) -> Result<(), ModelError> {
        let listed = self.storage.list(target.table.folder()).await;
        for object in listed.map_err(LakeError::from)? {
            let folder = format!("{}/", target.table.folder());
            let path = object
                .key
                .as_str()
                .strip_prefix(&folder)
                .unwrap_or_default();
            let is_data = path.ends_with(".parquet") && !path.starts_with("_delta_log/");
            if is_data && !target.snapshot.files.contains_key(path) {
                let deleted = self.storage.delete(&object.key).await;
                deleted.map_err(LakeError::from)?;
            }
        }
        Ok(())
    }
}

fn input_transaction(name: &str) -> String {
    format!("lastmile/input/{name}")
}

/// Returns the value of a table's first partition column.
fn partition_value(
    snapshot: &Snapshot,
    values: &BTreeMap<String, Option<String>>,
) -> Option<String> {
    let column = snapshot.metadata.as_ref()?.partition_columns.first()?;
    values.get(column).cloned().flatten()
}

/// What has to be computed anew.
#[derive(Debug)]
enum Changed {
    /// Everything.
    All,
    /// These partitions.
    Partitions(BTreeSet<Option<String>>),
}

impl Changed {
    fn has(&self, partition: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Partitions(values) => values.contains(&partition.map(str::to_owned)),
        }
    }
}
