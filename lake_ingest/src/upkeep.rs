//! The lake's upkeep: compaction of the models' tables, vacuum of all, and how their logs are kept short.
//!
//! Done under the lease of the runs, at the end of each, and by the commands `compact` and `vacuum`.

use std::sync::Arc;

use clap::Args;
use lake::compact::{CompactSummary, Compaction, compact};
use lake::delta::{LogPolicy, Table};
use lake::storage::{ObjectKey, Storage};
use lake::vacuum::{Shape, Vacuum, Vacuumed};
use lake::{LakeError, Lease};
use lake_models::Model;
use serde::{Deserialize, Serialize};
use service::{ByteSize, Clock, HumanDuration, Problems};
use store::LakeTable;

/// What may be set.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "lake_upkeep")]
pub struct UpkeepSettings {
    /// Whether runs put small files of treated and final together; raw is never rewritten [default: true]
    #[arg(long, env = "LASTMILE_LAKE_COMPACT", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", global = true, help_heading = "Upkeep of the lake")]
    pub compact: Option<bool>,
    /// Size up to which files are put together. Some twenty times as much memory is used; files below a quarter of it
    /// count as small in metrics and status [default: 64MiB]
    #[arg(
        long,
        env = "LASTMILE_LAKE_COMPACT_TARGET",
        value_name = "SIZE",
        global = true,
        help_heading = "Upkeep of the lake"
    )]
    pub compact_target: Option<ByteSize>,
    /// How long files of treated and final stay that were replaced, up to 7d, for who reads older versions by Delta. Who
    /// reads the folders as plain Parquet sees such rows twice meanwhile [default: 0s]
    #[arg(
        long,
        env = "LASTMILE_LAKE_KEEP_REPLACED",
        value_name = "TIME",
        global = true,
        help_heading = "Upkeep of the lake"
    )]
    pub keep_replaced: Option<HumanDuration>,
    /// Commits between two checkpoints of a table, 1 to 1000: a start reads a checkpoint and the commits since
    /// [default: as the table says, else 10]
    #[arg(
        long,
        env = "LASTMILE_LAKE_CHECKPOINT_EVERY",
        value_name = "N",
        global = true,
        help_heading = "Upkeep of the lake"
    )]
    pub checkpoint_every: Option<u64>,
    /// How far back a table can be read as it was, 1d or more: older commits are deleted once a checkpoint covers them
    /// [default: as the table says, else 30d]
    #[arg(
        long,
        env = "LASTMILE_LAKE_LOG_RETENTION",
        value_name = "TIME",
        global = true,
        help_heading = "Upkeep of the lake"
    )]
    pub log_retention: Option<HumanDuration>,
}

/// What holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpkeepConfig {
    /// Whether runs compact.
    pub compact: bool,
    /// Size up to which files are put together.
    pub compact_target: ByteSize,
    /// How long replaced files stay.
    pub keep_replaced: HumanDuration,
    /// Commits between checkpoints, where set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<u64>,
    /// How long commits stay, where set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_retention: Option<HumanDuration>,
}

const DAY: HumanDuration = HumanDuration::from_secs(24 * 60 * 60);
/// Removed files are named by a log for so long.
const MOST_KEPT: HumanDuration = HumanDuration::from_secs(7 * 24 * 60 * 60);
const DEFAULT_TARGET: ByteSize = ByteSize::mib(64);

/// How long a file stays that was never live, before `vacuum` takes it for one a dead run left: longer than any run
/// goes on after it has lost its lease.
const GRACE_US: i64 = 10 * 60 * 1_000_000;

pub(crate) fn micros(time: HumanDuration) -> i64 {
    i64::try_from(time.as_duration().as_micros()).unwrap_or(i64::MAX)
}

impl UpkeepSettings {
    pub(crate) fn resolve(self, problems: &mut Problems) -> UpkeepConfig {
        let config = UpkeepConfig {
            compact: self.compact.unwrap_or(true),
            compact_target: self.compact_target.unwrap_or(DEFAULT_TARGET),
            keep_replaced: self.keep_replaced.unwrap_or(HumanDuration::from_secs(0)),
            checkpoint_every: self.checkpoint_every,
            log_retention: self.log_retention,
        };
        if config.compact_target.as_u64() < 1 << 20 {
            problems.add(
                "upkeep.compact_target",
                "is below 1MiB; give for example 64MiB",
            );
        }
        if config.keep_replaced.as_duration() > MOST_KEPT.as_duration() {
            problems.add("upkeep.keep_replaced", "is above 7d; give 7d or less");
        }
        if config
            .checkpoint_every
            .is_some_and(|every| !(1..=1_000).contains(&every))
        {
            problems.add(
                "upkeep.checkpoint_every",
                "is not 1 to 1000; give for example 10",
            );
        }
        let retention = config.log_retention;
        if retention.is_some_and(|time| time.as_duration() < DAY.as_duration()) {
            problems.add("upkeep.log_retention", "is below 1d; give for example 30d");
        }
        config
    }
}

impl UpkeepConfig {
    /// Returns below how many bytes a file is small.
    pub(crate) fn small(&self) -> u64 {
        self.compact_target.as_u64() / 4
    }

    fn policy(&self) -> Option<LogPolicy> {
        if self.checkpoint_every.is_none() && self.log_retention.is_none() {
            return None;
        }
        let otherwise = LogPolicy::default();
        Some(LogPolicy {
            checkpoint_every: self.checkpoint_every.unwrap_or(otherwise.checkpoint_every),
            retention_us: self.log_retention.map_or(otherwise.retention_us, micros),
        })
    }
}

/// What the upkeep did to a table, and what it is like now.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Kept {
    /// `layer.name`.
    pub(crate) table: String,
    /// What compaction did, where it did anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compacted: Option<CompactSummary>,
    /// What vacuum did, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vacuumed: Option<Vacuumed>,
    /// Its live files.
    #[serde(flatten)]
    pub(crate) shape: Shape,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// What each run does.
    Run,
    /// Compact, whatever the settings say of runs.
    Compact,
    /// Delete what is not live.
    Vacuum,
}

/// Keeps every table of a lake in shape.
pub(crate) struct Upkeep<'a> {
    pub(crate) storage: &'a Arc<dyn Storage>,
    pub(crate) models: &'a [Model],
    pub(crate) config: &'a UpkeepConfig,
    pub(crate) lease: &'a Lease,
    pub(crate) clock: &'a dyn Clock,
}

impl Upkeep<'_> {
    /// Goes over all tables that exist; between two of them `is_stopping` may end it.
    pub(crate) async fn go(
        &self,
        task: Task,
        is_stopping: impl Fn() -> bool,
    ) -> Result<Vec<Kept>, LakeError> {
        self.lease.acquire().await?;
        let work = async {
            let mut all = Vec::new();
            let raw = LakeTable::ALL.iter();
            let raw = raw.map(|table| (format!("raw/{}", table.as_str()), None));
            let models = self.models.iter();
            let models = models.map(|model| (model.folder(), Some(model)));
            for (folder, model) in raw.chain(models) {
                if is_stopping() {
                    break;
                }
                self.lease.renew().await?;
                all.extend(self.table(&folder, model, task).await?);
            }
            Ok(all)
        };
        let outcome = self.lease.keep(work).await;
        self.lease.release().await;
        outcome
    }

    async fn table(
        &self,
        folder: &str,
        model: Option<&Model>,
        task: Task,
    ) -> Result<Option<Kept>, LakeError> {
        let Some(key) = ObjectKey::new(folder) else {
            return Ok(None);
        };
        let table = Table::new(Arc::clone(self.storage), key);
        let mut snapshot = table.load().await?;
        if !snapshot.exists() {
            return Ok(None);
        }
        let now = self.clock.now();
        if let Some(policy) = self.config.policy() {
            table.set_policy(&mut snapshot, policy, now).await?;
        }
        let mut kept = Kept {
            table: folder.replacen('/', ".", 1),
            compacted: None,
            vacuumed: None,
            shape: Shape::default(),
        };
        let compacts = task == Task::Compact || task == Task::Run && self.config.compact;
        if let Some(model) = model.filter(|_| compacts) {
            let how = Compaction {
                order: &model.order,
                target_bytes: self.config.compact_target.as_u64(),
                keep_replaced: !self.config.keep_replaced.as_duration().is_zero(),
            };
            let done = compact(&table, how, self.lease, self.clock).await?;
            if done.files_before > 0 {
                kept.compacted = Some(done);
                table.refresh(&mut snapshot).await?;
            }
        }
        if task == Task::Vacuum {
            let rule = Vacuum {
                retention_us: model.map_or(0, |_| micros(self.config.keep_replaced)),
                grace_us: GRACE_US,
            };
            kept.vacuumed = Some(table.vacuum(&snapshot, rule, now).await?);
        }
        kept.shape = Shape::of(&snapshot, self.config.small());
        Ok(Some(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_said() {
        let mut problems = Problems::new();
        let settings = UpkeepSettings {
            compact_target: Some("1KiB".parse().unwrap()),
            keep_replaced: Some("8d".parse().unwrap()),
            checkpoint_every: Some(0),
            log_retention: Some("1h".parse().unwrap()),
            ..UpkeepSettings::default()
        };
        settings.resolve(&mut problems);
        let problems = problems.to_string();
        for part in ["compact_target", "7d", "1 to 1000", "30d"] {
            assert!(problems.contains(part), "{problems}");
        }
    }

    #[test]
    fn tables_keep_their_own_log_policy_unless_one_is_set() {
        let mut problems = Problems::new();
        let unset = UpkeepSettings::default().resolve(&mut problems);
        assert_eq!((unset.policy(), unset.compact), (None, true));
        let set = UpkeepSettings {
            checkpoint_every: Some(50),
            ..UpkeepSettings::default()
        };
        let policy = set.resolve(&mut problems).policy().unwrap();
        assert_eq!(policy.checkpoint_every, 50);
        assert_eq!(policy.retention_us, LogPolicy::default().retention_us);
        assert!(problems.is_empty());
    }
}
