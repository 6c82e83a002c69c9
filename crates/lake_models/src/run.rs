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
//! What is computed anew: with scope `partition` the partitions whose values had rows added or removed in an
//! input's log since it was last read, everything after a change in a lookup, with scope `history`, after a
//! change of the model's text, and where the log does not say. A raw table nothing was ever offloaded to is empty.
//!
//! Not done here: raw is never written.

mod checks;
mod spool;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use datafusion::prelude::SessionContext;
use lake::delta::{Add, Commit, Snapshot};
use lake::storage::Storage;
use lake::vacuum::Vacuum;
use lake::{LakeError, Lease, Root, hive};
use serde::Serialize;
use service::Clock;
use store::LakeTable;

use crate::declaration::{Model, Scope};
use crate::error::ModelError;
use crate::session::{self, Loaded};
pub(crate) use spool::schema_of;
use spool::{Spool, Spooled};

/// A table a model reads.
struct Input<'a> {
    name: &'a str,
    /// Whether it is read whole, whatever is computed.
    is_whole: bool,
    loaded: Loaded,
}

/// Records the fingerprint of a model's text.
const TEXT: &str = "lastmile/model";

/// What became of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelOutcome {
    /// Nothing was offloaded yet, or a model it reads never ran.
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
    /// Partitions that are computed whether their inputs changed or not.
    anew: BTreeSet<String>,
    keep_replaced_us: i64,
}

impl Runner {
    /// Makes a runner that works under `lease`.
    pub fn new(root: Root, lease: Lease, clock: Arc<dyn Clock>) -> Self {
        Self {
            storage: root.open(),
            root,
            lease,
            clock,
            anew: BTreeSet::new(),
            keep_replaced_us: 0,
        }
    }

    /// Lets every run compute these dates anew, also where no input changed.
    #[must_use]
    pub fn with_dates(mut self, dates: impl IntoIterator<Item = String>) -> Self {
        self.anew = dates.into_iter().collect();
        self
    }

    /// Lets files that were replaced stay for so many microseconds, up to seven days: for who reads older versions by
    /// Delta. Who reads the folders as plain Parquet sees their rows twice meanwhile. Default 0.
    #[must_use]
    pub fn with_replaced_kept(mut self, us: i64) -> Self {
        self.keep_replaced_us = us;
        self
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

    /// Tells whether anything was ever offloaded, when the inputs at hand do not.
    async fn has_begun(&self, inputs: &[Input<'_>]) -> Result<bool, ModelError> {
        if inputs.iter().any(|input| input.loaded.snapshot.exists()) {
            return Ok(true);
        }
        for table in LakeTable::ALL {
            let raw = session::load(&self.storage, &session::raw_name(table)).await?;
            if raw.snapshot.exists() {
                return Ok(true);
            }
        }
        Ok(false)
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
        for name in model.reads() {
            inputs.push(Input {
                name,
                is_whole: model.lookups.iter().any(|lookup| lookup == name),
                loaded: session::load(&self.storage, name).await?,
            });
        }
        self.tidy(&target).await?;
        let is_there = |input: &Input<'_>| {
            input.loaded.snapshot.exists() || session::raw(input.name).is_some()
        };
        if !inputs.iter().all(is_there) || !self.has_begun(&inputs).await? {
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
        inputs: &[Input<'_>],
    ) -> Result<Option<Changed>, ModelError> {
        if target.transactions.get(TEXT) != Some(&model.fingerprint()) {
            return Ok(Some(Changed::All));
        }
        if !self.anew.is_empty() && model.scope == Scope::History {
            return Ok(Some(Changed::All));
        }
        let mut partitions: BTreeSet<_> = self.anew.iter().cloned().map(Some).collect();
        for input in inputs {
            let read = target.transactions.get(&input_transaction(input.name));
            let Some(from) = read.and_then(|read| u64::try_from(*read).ok()) else {
                return Ok(Some(Changed::All));
            };
            let snapshot = &input.loaded.snapshot;
            let changes = match input.loaded.table.changed_since(from, snapshot).await {
                Ok(changes) => changes,
                // Commits that old may be gone, into a checkpoint.
                Err(LakeError::Log { .. }) => return Ok(Some(Changed::All)),
                Err(error) => return Err(error.into()),
            };
            if !changes.is_empty() && (input.is_whole || model.scope == Scope::History) {
                return Ok(Some(Changed::All));
            }
            let values = changes.iter();
            partitions.extend(values.map(|values| partition_value(snapshot, values)));
        }
        Ok((!partitions.is_empty()).then_some(Changed::Partitions(partitions)))
    }

    fn context(
        &self,
        model: &Model,
        inputs: &[Input<'_>],
        changed: &Changed,
    ) -> Result<SessionContext, ModelError> {
        let failed = |source| ModelError::Run {
            model: model.full_name(),
            source: Box::new(source),
        };
        let context = session::session(&self.storage).map_err(failed)?;
        for input in inputs {
            let keep = |values: &BTreeMap<_, _>| {
                let value = partition_value(&input.loaded.snapshot, values);
                input.is_whole || changed.has(value.as_deref())
            };
            let provider = match input.loaded.provider(&self.root, keep)? {
                Some(provider) => Some(provider),
                None => session::raw(input.name)
                    .map(|schema| session::without_rows(&schema))
                    .transpose()
                    .map_err(failed)?,
            };
            if let Some(provider) = provider {
                context
                    .register_table(input.name, provider)
                    .map_err(failed)?;
            }
        }
        Ok(context)
    }

    async fn publish(
        &self,
        model: &Model,
        target: &mut Loaded,
        inputs: &[Input<'_>],
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
        transactions.extend(inputs.iter().map(|input| {
            let commits = input.loaded.snapshot.commits.cast_signed();
            (input_transaction(input.name), commits)
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
        // On the version that was read, or not at all: what is replaced follows from what was live.
        let snapshot = &mut target.snapshot;
        self.lease.renew().await?;
        target.table.commit_at(snapshot, &commit).await?;
        Ok(())
    }

    /// Deletes files that are not live: replaced ones, and those of a run that died before its commit.
    async fn tidy(&self, target: &Loaded) -> Result<(), ModelError> {
        let rule = Vacuum {
            retention_us: self.keep_replaced_us,
            grace_us: 0,
        };
        let (table, now) = (&target.table, self.clock.now());
        self.lease.renew().await?;
        table.vacuum(&target.snapshot, rule, now).await?;
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
