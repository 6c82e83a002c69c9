//! The log of one table: replayed into a snapshot, extended by commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::UtcMicros;
use model::content_hash::ContentHash;
use serde_json::{Value, json};

use super::action::{Add, Format, Line, Metadata, Protocol, Remove, Txn};
use super::schema::schema_string;
use crate::entity::TableSchema;
use crate::error::LakeError;
use crate::storage::{Creation, ObjectKey, Storage};

/// Readers and writers of these versions understand all this lake writes.
const PROTOCOL: Protocol = Protocol {
    min_reader_version: 1,
    min_writer_version: 2,
};

/// How often a commit is tried when others keep taking the version.
const MAX_ATTEMPTS: u32 = 20;

/// One Delta table of the lake.
#[derive(Debug, Clone)]
pub struct Table {
    storage: Arc<dyn Storage>,
    folder: ObjectKey,
}

/// A table as of one version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of commits, that is, the version of the next one. 0: there is no table yet.
    pub commits: u64,
    /// The table itself; there is one from the first commit on.
    pub metadata: Option<Metadata>,
    /// The live files by path.
    pub files: BTreeMap<String, Add>,
    /// The last version of each application transaction.
    pub transactions: BTreeMap<String, i64>,
}

impl Snapshot {
    /// Tells whether the table exists.
    pub fn exists(&self) -> bool {
        self.commits > 0
    }

    /// Returns the rows the live files state; those without a count add nothing.
    pub fn rows(&self) -> u64 {
        self.files.values().filter_map(Add::rows).sum()
    }

    /// Returns the bytes of the live files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|add| add.size).sum()
    }
}

/// What a commit changes.
#[derive(Debug, Clone)]
pub struct Commit<'a> {
    /// Named in the history, for example `WRITE`.
    pub operation: &'static str,
    /// The schema the table shall have.
    pub schema: &'a TableSchema,
    /// When, by the caller's clock.
    pub now: UtcMicros,
    /// New files.
    pub adds: Vec<Add>,
    /// Paths that are no longer live.
    pub removes: Vec<String>,
    /// Application transactions recorded with it.
    pub transactions: Vec<(String, i64)>,
    /// Whether the commit is done already when its first transaction was recorded with this version or a
    /// later one.
    pub once: bool,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// This call made it.
    Now,
    /// An earlier one had: nothing was written.
    Before,
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

    /// Returns the key of a file by the path its log has.
    ///
    /// # Errors
    /// [`LakeError::Log`] when the path leaves the table's folder.
    pub fn key(&self, path: &str) -> Result<ObjectKey, LakeError> {
        self.folder
            .join(path)
            .ok_or_else(|| self.wrong(0, format!("the path {path:?} is not below the table")))
    }

    /// Reads the log from its beginning.
    ///
    /// # Errors
    /// [`LakeError::Storage`], or [`LakeError::Log`] when the log is damaged or not of this kind.
    pub async fn load(&self) -> Result<Snapshot, LakeError> {
        let mut snapshot = Snapshot::default();
        self.refresh(&mut snapshot).await?;
        if !snapshot.exists() {
            let log = self.folder.join("_delta_log");
            let log = log.ok_or_else(|| self.wrong(0, "the folder has no name".to_owned()))?;
            if let Some(first) = self.storage.list(&log).await?.first() {
                let detail = format!("it begins at {} and not at its first commit", first.key);
                return Err(self.wrong(0, detail));
            }
        }
        Ok(snapshot)
    }

    /// Reads the commits that came after a snapshot.
    ///
    /// # Errors
    /// As [`Table::load`].
    pub async fn refresh(&self, snapshot: &mut Snapshot) -> Result<(), LakeError> {
        while let Some(content) = self.read_commit(snapshot.commits).await? {
            for line in self.lines(snapshot.commits, &content)? {
                self.apply(snapshot, line)?;
            }
            snapshot.commits += 1;
        }
        Ok(())
    }

    /// Returns the partition values whose rows changed in the commits from version `from` on.
    ///
    /// # Errors
    /// As [`Table::load`].
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

    /// Commits, whatever others commit meanwhile, and leaves `snapshot` at the result.
    ///
    /// # Errors
    /// As [`Table::load`], and [`LakeError::Contended`]. The commit may have been made then; making it again
    /// with [`Commit::once`] is right.
    pub async fn commit(
        &self,
        snapshot: &mut Snapshot,
        commit: &Commit<'_>,
    ) -> Result<Committed, LakeError> {
        for _ in 0..MAX_ATTEMPTS {
            self.refresh(snapshot).await?;
            if commit.once && is_recorded(snapshot, commit) {
                return Ok(Committed::Before);
            }
            let content = self.render(snapshot, commit)?;
            let key = self.commit_key(snapshot.commits)?;
            if self.storage.put_if_absent(&key, content).await? == Creation::Created {
                self.refresh(snapshot).await?;
                return Ok(Committed::Now);
            }
        }
        Err(LakeError::Contended {
            table: self.folder.to_string(),
            attempts: MAX_ATTEMPTS,
        })
    }

    fn render(&self, snapshot: &Snapshot, commit: &Commit<'_>) -> Result<Bytes, LakeError> {
        let millis = commit.now.as_micros() / 1_000;
        let mut lines = vec![Line {
            commit_info: Some(json!({
                "timestamp": millis,
                "operation": commit.operation,
                "operationParameters": {
                    "mode": if commit.removes.is_empty() { "Append" } else { "Overwrite" },
                },
                "engineInfo": concat!("lastmile/", env!("CARGO_PKG_VERSION")),
            })),
            ..Line::default()
        }];
        if !snapshot.exists() {
            lines.push(Line {
                protocol: Some(PROTOCOL),
                ..Line::default()
            });
        }
        let metadata = self.metadata(snapshot, commit, millis)?;
        if snapshot.metadata.as_ref() != Some(&metadata) {
            lines.push(Line {
                meta_data: Some(metadata),
                ..Line::default()
            });
        }
        lines.extend(commit.transactions.iter().map(|(app_id, version)| Line {
            txn: Some(Txn {
                app_id: app_id.clone(),
                version: *version,
                last_updated: Some(millis),
            }),
            ..Line::default()
        }));
        let gone = commit.removes.iter();
        lines.extend(
            gone.filter_map(|path| snapshot.files.get(path))
                .map(|add| Line {
                    remove: Some(Remove {
                        path: add.path.clone(),
                        deletion_timestamp: Some(millis),
                        data_change: true,
                        extended_file_metadata: Some(true),
                        partition_values: Some(add.partition_values.clone()),
                        size: Some(add.size),
                    }),
                    ..Line::default()
                }),
        );
        lines.extend(commit.adds.iter().map(|add| Line {
            add: Some(add.clone()),
            ..Line::default()
        }));
        let mut content = Vec::new();
        for line in &lines {
            serde_json::to_writer(&mut content, line)
                .map_err(|e| self.wrong(snapshot.commits, e.to_string()))?;
            content.push(b'\n');
        }
        Ok(content.into())
    }

    /// Returns the table's description: that of the snapshot with the schema of the commit.
    fn metadata(
        &self,
        snapshot: &Snapshot,
        commit: &Commit<'_>,
        millis: i64,
    ) -> Result<Metadata, LakeError> {
        let schema_string = schema_string(commit.schema).map_err(|column| {
            let detail = format!("the column {column} has a type without a name in Delta");
            self.wrong(snapshot.commits, detail)
        })?;
        let partitions = commit.schema.partitions.iter();
        let partition_columns: Vec<_> = partitions.map(|field| field.name().clone()).collect();
        let Some(mut metadata) = snapshot.metadata.clone() else {
            return Ok(Metadata {
                id: guid(self.folder.as_str(), millis),
                format: Format {
                    provider: "parquet".to_owned(),
                    options: BTreeMap::new(),
                },
                schema_string,
                partition_columns,
                configuration: BTreeMap::new(),
                created_time: Some(millis),
            });
        };
        if metadata.partition_columns != partition_columns {
            let detail = format!(
                "it is partitioned by {:?} and this version by {partition_columns:?}",
                metadata.partition_columns
            );
            return Err(self.wrong(snapshot.commits, detail));
        }
        // Compared as JSON: another engine may have written the same schema with other spacing.
        let as_json = |text: &str| serde_json::from_str::<Value>(text).ok();
        if as_json(&metadata.schema_string) != as_json(&schema_string) {
            metadata.schema_string = schema_string;
        }
        Ok(metadata)
    }

    fn apply(&self, snapshot: &mut Snapshot, line: Line) -> Result<(), LakeError> {
        if let Some(protocol) = line.protocol {
            let Protocol {
                min_reader_version: reader,
                min_writer_version: writer,
            } = protocol;
            if reader > PROTOCOL.min_reader_version || writer > PROTOCOL.min_writer_version {
                let detail = format!("it needs reader {reader} and writer {writer}");
                return Err(self.wrong(snapshot.commits, detail));
            }
        }
        if let Some(metadata) = line.meta_data {
            snapshot.metadata = Some(metadata);
        }
        if let Some(txn) = line.txn {
            snapshot.transactions.insert(txn.app_id, txn.version);
        }
        if let Some(remove) = line.remove {
            snapshot.files.remove(&remove.path);
        }
        if let Some(add) = line.add {
            snapshot.files.insert(add.path.clone(), add);
        }
        Ok(())
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
        self.key(&format!("_delta_log/{version:020}.json"))
    }

    fn wrong(&self, version: u64, detail: String) -> LakeError {
        LakeError::Log {
            table: self.folder.to_string(),
            version,
            detail,
        }
    }
}

fn is_recorded(snapshot: &Snapshot, commit: &Commit<'_>) -> bool {
    commit
        .transactions
        .first()
        .is_some_and(|(app_id, version)| {
            let recorded = snapshot.transactions.get(app_id);
            recorded.is_some_and(|recorded| recorded >= version)
        })
}

/// Makes a GUID out of what no two tables share.
fn guid(folder: &str, millis: i64) -> String {
    let hash = |salt: &[u8]| {
        ContentHash::default()
            .chain(salt)
            .chain(folder.as_bytes())
            .chain(&millis.to_le_bytes())
            .finish()
    };
    let bits = (u128::from(hash(b"high")) << 64) | u128::from(hash(b"low"));
    // Version 8, "custom", and the variant of RFC 9562.
    let bits = bits & !(0xf << 76) | (0x8 << 76);
    let bits = bits & !(0x3 << 62) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let cut = |from, to| hex.get(from..to).unwrap_or_default();
    let pieces = [cut(0, 8), cut(8, 12), cut(12, 16), cut(16, 20), cut(20, 32)];
    pieces.join("-")
}
