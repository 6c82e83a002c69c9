//! Keeping a log short: checkpoints when they are due, and the end of commits they cover.
//!
//! Nothing here is needed for a table to be right. So a failure is told in the log of this program, and the next
//! commit tries again.

use std::collections::BTreeMap;

use model::UtcMicros;

use super::checkpoint::{self, POINTER, Pointer};
use super::log::Table;
use super::properties::{LogPolicy, REMOVED_RETENTION_US};
use super::snapshot::Snapshot;
use crate::error::LakeError;
use crate::storage::ObjectKey;

impl Table {
    /// Writes a checkpoint when one is due, and deletes old commits it covers.
    pub(super) async fn keep_short(&self, snapshot: &mut Snapshot, now: UtcMicros) {
        let policy = LogPolicy::of(snapshot.metadata.as_ref());
        let covered = snapshot.checkpoint.map_or(0, |version| version + 1);
        if snapshot.commits.saturating_sub(covered) < policy.checkpoint_every {
            return;
        }
        let done = async {
            self.write_checkpoint(snapshot, now).await?;
            self.clean(snapshot, now).await
        };
        if let Err(error) = done.await {
            tracing::warn!(
                table = %self.folder(),
                error = %service::ErrorChain(&error),
                "the log could not be kept short, the next commit tries again"
            );
        }
    }

    /// Writes a checkpoint of a snapshot and lets `_last_checkpoint` name it, unless that names a later one.
    ///
    /// # Errors
    /// [`LakeError::Storage`], or [`LakeError::Log`] for a snapshot of no commit.
    pub async fn write_checkpoint(
        &self,
        snapshot: &mut Snapshot,
        now: UtcMicros,
    ) -> Result<(), LakeError> {
        let Some(version) = snapshot.commits.checked_sub(1) else {
            return Err(self.wrong(0, "there is nothing to make a checkpoint of".to_owned()));
        };
        let removed_since = now.as_micros().saturating_sub(REMOVED_RETENTION_US) / 1_000;
        snapshot
            .removed
            .retain(|_, remove| remove.deletion_timestamp.unwrap_or_default() >= removed_since);
        let encoded = checkpoint::encode(snapshot, removed_since);
        let (content, pointer) = encoded.map_err(|detail| self.wrong(version, detail))?;
        let storage = self.storage();
        storage
            .put(&self.log_key(&checkpoint::file_name(version))?, content)
            .await?;
        let newest = self.pointer().await?.flatten();
        if newest.is_none_or(|newest| newest.version < version) {
            let content = pointer.to_bytes();
            let content = content.map_err(|detail| self.wrong(version, detail))?;
            storage.put(&self.log_key(POINTER)?, content).await?;
        }
        snapshot.checkpoint = Some(version);
        Ok(())
    }

    /// Reads what names the newest checkpoint: `None` when nothing does, `Some(None)` when it is of no use.
    pub(super) async fn pointer(&self) -> Result<Option<Option<Pointer>>, LakeError> {
        let content = self.storage().get(&self.log_key(POINTER)?).await?;
        Ok(content.map(|content| Pointer::parse(&content)))
    }

    /// Reads a version's checkpoint; `None` when it is absent or of no use, which is told in the log.
    pub(super) async fn read_checkpoint(
        &self,
        version: u64,
    ) -> Result<Option<Snapshot>, LakeError> {
        let key = self.log_key(&checkpoint::file_name(version))?;
        let content = self.storage().get(&key).await?;
        let read = match content {
            None => Err("it is not there".to_owned()),
            Some(content) => checkpoint::decode(version, content),
        };
        match read {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(detail) => {
                tracing::warn!(table = %self.folder(), version, detail, "a checkpoint is passed over");
                Ok(None)
            }
        }
    }

    /// Deletes commits and checkpoints that are older than the table keeps its history. What is younger can be read
    /// afterwards as before: the checkpoint it starts from stays, and is read before anything goes.
    async fn clean(&self, snapshot: &Snapshot, now: UtcMicros) -> Result<(), LakeError> {
        let policy = LogPolicy::of(snapshot.metadata.as_ref());
        let until = now.as_micros().saturating_sub(policy.retention_us);
        let listed = self.listed().await?;
        let old =
            |(_, (_, modified)): &(&u64, &(ObjectKey, UtcMicros))| modified.as_micros() < until;
        let Some((&oldest_kept, _)) = listed.commits.iter().take_while(old).last() else {
            return Ok(());
        };
        let newest = snapshot.checkpoint.unwrap_or_default();
        let base = listed.checkpoints.range(..=oldest_kept.min(newest));
        let Some((&base, _)) = base.last() else {
            return Ok(());
        };
        let checkpoints = listed.checkpoints.range(..base).map(|(_, key)| key);
        let commits = listed.commits.range(..base).map(|(_, (key, _))| key);
        let gone: Vec<_> = checkpoints.chain(commits).collect();
        if gone.is_empty() || self.read_checkpoint(base).await?.is_none() {
            return Ok(());
        }
        for key in &gone {
            self.storage().delete(key).await?;
        }
        tracing::info!(table = %self.folder(), up_to = base, objects = gone.len(), "old commits deleted");
        Ok(())
    }

    /// Lists the log.
    pub(super) async fn listed(&self) -> Result<Listed, LakeError> {
        let log = self.folder().join("_delta_log");
        let log = log.ok_or_else(|| self.wrong(0, "the folder has no name".to_owned()))?;
        let mut listed = Listed::default();
        for object in self.storage().list(&log).await? {
            let name = object.key.as_str().rsplit('/').next().unwrap_or_default();
            let (version, rest) = name.split_once('.').unwrap_or((name, ""));
            let version = (version.len() == 20).then(|| version.parse::<u64>().ok());
            match (version.flatten(), rest) {
                (Some(version), "json") => {
                    let commit = (object.key, object.modified);
                    listed.commits.insert(version, commit);
                }
                (Some(version), "checkpoint.parquet") => {
                    listed.checkpoints.insert(version, object.key);
                }
                _ => listed.others += 1,
            }
        }
        Ok(listed)
    }
}

/// What a log holds, by version.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) commits: BTreeMap<u64, (ObjectKey, UtcMicros)>,
    pub(super) checkpoints: BTreeMap<u64, ObjectKey>,
    pub(super) others: usize,
}
