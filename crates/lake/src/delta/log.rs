//! The log of one table: read into a snapshot, extended by commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::UtcMicros;
use serde_json::json;

use super::action::Line;
use super::commit::{Commit, Committed, text};
use super::properties::LogPolicy;
use super::snapshot::Snapshot;
use crate::error::LakeError;
use crate::storage::{Creation, ObjectKey, Storage};

/// How often a commit is tried when others keep taking the version.
const MAX_ATTEMPTS: u32 = 20;

/// One Delta table of the lake.
#[derive(Debug, Clone)]
pub struct Table {
    storage: Arc<dyn Storage>,
    folder: ObjectKey,
}

impl Table {
    /// Names a table by its folder.
    pub fn new(storage: Arc<dyn Storage>, folder: ObjectKey) -> Self {
        Self { storage, folder }
    }

    /// Returns the folder below the lake's root.
    pub fn folder(&self) -> &ObjectKey {
        &self.folder
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.storage.as_ref()
    }

    /// Returns the key of a file by the path its log has.
    ///
    /// # Errors
    /// [`LakeError::Log`] when the path leaves the table's folder.
    pub fn key(&self, path: &str) -> Result<ObjectKey, LakeError> {
        self.folder
            .join(path)
            .ok_or_else(|| self.wrong(0, format!("the path {path:?} is not below the table")))
    }

    /// Reads the log: the newest checkpoint that is whole, and the commits since.
    ///
    /// # Errors
    /// [`LakeError::Storage`], or [`LakeError::Log`] when the log is damaged or not of this kind.
    pub async fn load(&self) -> Result<Snapshot, LakeError> {
        let mut from = None;
        let pointer = self.pointer().await?;
        if let Some(Some(pointer)) = &pointer {
            from = self.read_checkpoint(pointer.version).await?;
        }
        if from.is_none() && pointer.is_some() {
            from = self.newest_checkpoint().await?;
        }
        let mut snapshot = from.unwrap_or_default();
        self.refresh(&mut snapshot).await?;
        if snapshot.exists() {
            return Ok(snapshot);
        }
        // There is no first commit. Either there is no table yet, or its log was cleaned up and what names its
        // checkpoint is gone.
        if let Some(mut snapshot) = self.newest_checkpoint().await? {
            self.refresh(&mut snapshot).await?;
            return Ok(snapshot);
        }
        let listed = self.listed().await?;
        if let Some((key, _)) = listed.commits.values().next() {
            let detail = format!("it begins at {key} and not at its first commit");
            return Err(self.wrong(0, detail));
        }
        if listed.others > 0 || !listed.checkpoints.is_empty() {
            let detail = "it has neither a commit nor a checkpoint that can be read";
            return Err(self.wrong(0, detail.to_owned()));
        }
        Ok(snapshot)
    }

    /// Reads the newest checkpoint that is whole, whatever names it.
    async fn newest_checkpoint(&self) -> Result<Option<Snapshot>, LakeError> {
        for version in self.listed().await?.checkpoints.into_keys().rev() {
            if let Some(snapshot) = self.read_checkpoint(version).await? {
                return Ok(Some(snapshot));
            }
        }
        Ok(None)
    }

    /// Reads the commits that came after a snapshot.
    ///
    /// # Errors
    /// As [`Table::load`].
    pub async fn refresh(&self, snapshot: &mut Snapshot) -> Result<(), LakeError> {
        while let Some(content) = self.read_commit(snapshot.commits).await? {
            for line in self.lines(snapshot.commits, &content)? {
                let applied = snapshot.apply(line);
                applied.map_err(|detail| self.wrong(snapshot.commits, detail))?;
            }
            snapshot.commits += 1;
        }
        Ok(())
    }

    /// Returns the partition values whose rows changed in the commits from version `from` on.
    ///
    /// # Errors
    /// As [`Table::load`]; [`LakeError::Log`] also when one of the commits is gone into a checkpoint.
    pub async fn changed_since(
        &self,
        from: u64,
        snapshot: &Snapshot,
    ) -> Result<Vec<BTreeMap<String, Option<String>>>, LakeError> {
        let mut changed = Vec::new();
        for version in from..snapshot.commits {
            let Some(content) = self.read_commit(version).await? else {
                return Err(self.wrong(version, "the commit is gone".to_owned()));
            };
            for line in self.lines(version, &content)? {
                let values = match line {
                    Line { add: Some(add), .. } if add.data_change => Some(add.partition_values),
                    Line {
                        remove: Some(remove),
                        ..
                    } if remove.data_change => remove.partition_values,
                    _ => None,
                };
                changed.extend(values);
            }
        }
        changed.sort();
        changed.dedup();
        Ok(changed)
    }

    /// Commits, whatever others commit meanwhile, and leaves `snapshot` at the result. Writes a checkpoint when the
    /// table's properties say that one is due.
    ///
    /// # Errors
    /// As [`Table::load`], and [`LakeError::Contended`]. The commit may have been made then; making it again
    /// with [`Commit::once`] is right.
    pub async fn commit(
        &self,
        snapshot: &mut Snapshot,
        commit: &Commit<'_>,
    ) -> Result<Committed, LakeError> {
        let content = |snapshot: &Snapshot| {
            if commit.once && commit.is_recorded(snapshot) {
                return Ok(None);
            }
            commit.render(self.folder.as_str(), snapshot).map(Some)
        };
        self.extend(snapshot, commit.now, content).await
    }

    /// Commits as the version that follows `snapshot`, or not at all: for changes that follow from what is live.
    ///
    /// # Errors
    /// As [`Table::commit`]; [`LakeError::Contended`] when others committed since the snapshot was read. Read it anew
    /// then, and see what is left to do.
    pub async fn commit_at(
        &self,
        snapshot: &mut Snapshot,
        commit: &Commit<'_>,
    ) -> Result<(), LakeError> {
        let base = snapshot.commits;
        let content = |snapshot: &Snapshot| {
            if snapshot.commits != base {
                return Ok(None);
            }
            commit.render(self.folder.as_str(), snapshot).map(Some)
        };
        match self.extend(snapshot, commit.now, content).await? {
            Committed::Now => Ok(()),
            Committed::Before => Err(LakeError::Contended {
                table: self.folder.to_string(),
                attempts: 1,
            }),
        }
    }

    /// Sets how the table's log is kept short, unless that is so already or there is no table yet.
    ///
    /// # Errors
    /// As [`Table::commit`].
    pub async fn set_policy(
        &self,
        snapshot: &mut Snapshot,
        policy: LogPolicy,
        now: UtcMicros,
    ) -> Result<Committed, LakeError> {
        let content = |snapshot: &Snapshot| {
            let Some(mut metadata) = snapshot.metadata.clone() else {
                return Ok(None);
            };
            if LogPolicy::of(Some(&metadata)) == policy {
                return Ok(None);
            }
            policy.put(&mut metadata.configuration);
            let info = json!({
                "timestamp": now.as_micros() / 1_000,
                "operation": "SET TBLPROPERTIES",
                "operationParameters": { "properties": metadata.configuration },
            });
            let lines = [
                Line {
                    commit_info: Some(info),
                    ..Line::default()
                },
                Line {
                    meta_data: Some(metadata),
                    ..Line::default()
                },
            ];
            text(&lines).map(Some)
        };
        self.extend(snapshot, now, content).await
    }

    /// Adds a version to the log; `content` is asked what it holds, or `None` when nothing is left to be done.
    async fn extend(
        &self,
        snapshot: &mut Snapshot,
        now: UtcMicros,
        content: impl Fn(&Snapshot) -> Result<Option<Bytes>, String>,
    ) -> Result<Committed, LakeError> {
        for _ in 0..MAX_ATTEMPTS {
            self.refresh(snapshot).await?;
            let version = snapshot.commits;
            let content = content(snapshot).map_err(|detail| self.wrong(version, detail))?;
            let Some(content) = content else {
                return Ok(Committed::Before);
            };
            let key = self.commit_key(version)?;
            if self.storage.put_if_absent(&key, content).await? == Creation::Created {
                self.still_the_end(version).await?;
                self.refresh(snapshot).await?;
                self.keep_short(snapshot, now).await;
                return Ok(Committed::Now);
            }
        }
        Err(LakeError::Contended {
            table: self.folder.to_string(),
            attempts: MAX_ATTEMPTS,
        })
    }

    /// Sees that a version just created is part of the log. It is not when this process slept for so long that the
    /// version was made and cleaned up meanwhile: the name was free again, and nobody will read what has it now.
    async fn still_the_end(&self, version: u64) -> Result<(), LakeError> {
        match self.pointer().await?.flatten() {
            Some(newest) if newest.version > version => {
                let newest = newest.version;
                let detail = format!("others have come to {newest}, and cleaned up, meanwhile");
                Err(self.wrong(version, detail))
            }
            _ => Ok(()),
        }
    }

    fn lines(&self, version: u64, content: &[u8]) -> Result<Vec<Line>, LakeError> {
        let lines = content.split(|byte| *byte == b'\n');
        lines
            .filter(|line| !line.trim_ascii().is_empty())
            .map(|line| {
                serde_json::from_slice(line).map_err(|e| self.wrong(version, e.to_string()))
            })
            .collect()
    }

    async fn read_commit(&self, version: u64) -> Result<Option<Bytes>, LakeError> {
        Ok(self.storage.get(&self.commit_key(version)?).await?)
    }

    fn commit_key(&self, version: u64) -> Result<ObjectKey, LakeError> {
        self.log_key(&format!("{version:020}.json"))
    }

    pub(super) fn log_key(&self, name: &str) -> Result<ObjectKey, LakeError> {
        self.key(&format!("_delta_log/{name}"))
    }

    pub(crate) fn wrong(&self, version: u64, detail: String) -> LakeError {
        LakeError::Log {
            table: self.folder.to_string(),
            version,
            detail,
        }
    }
}
