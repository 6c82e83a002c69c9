//! What a commit changes, and its text.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::UtcMicros;
use model::content_hash::ContentHash;
use serde_json::{Value, json};

use super::action::{Add, Format, Line, Metadata, Remove, Txn};
use super::schema::schema_string;
use super::snapshot::{PROTOCOL, Snapshot};
use crate::entity::TableSchema;

/// What a commit changes.
#[derive(Debug, Clone)]
pub struct Commit<'a> {
    /// Named in the history, for example `WRITE`.
    pub operation: &'static str,
    /// The schema the table shall have.
    pub schema: &'a TableSchema,
    /// When, by the caller's clock.
    pub now: UtcMicros,
    /// New files. When none of them changes data, neither do the removes: the rows were only moved.
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

impl Commit<'_> {
    pub(super) fn is_recorded(&self, snapshot: &Snapshot) -> bool {
        let first = self.transactions.first();
        first.is_some_and(|(app_id, version)| {
            let recorded = snapshot.transactions.get(app_id);
            recorded.is_some_and(|recorded| recorded >= version)
        })
    }

    /// Writes it down for the table in `folder`, to follow a snapshot.
    ///
    /// # Errors
    /// Why the snapshot cannot be followed by this.
    pub(super) fn render(&self, folder: &str, snapshot: &Snapshot) -> Result<Bytes, String> {
        let millis = self.now.as_micros() / 1_000;
        let mut lines = vec![Line {
            commit_info: Some(json!({
                "timestamp": millis,
                "operation": self.operation,
                "operationParameters": {
                    "mode": if self.removes.is_empty() { "Append" } else { "Overwrite" },
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
        let metadata = self.metadata(folder, snapshot, millis)?;
        if snapshot.metadata.as_ref() != Some(&metadata) {
            lines.push(Line {
                meta_data: Some(metadata),
                ..Line::default()
            });
        }
        lines.extend(self.transactions.iter().map(|(app_id, version)| Line {
            txn: Some(Txn {
                app_id: app_id.clone(),
                version: *version,
                last_updated: Some(millis),
            }),
            ..Line::default()
        }));
        let moved = !self.adds.is_empty() && self.adds.iter().all(|add| !add.data_change);
        let gone = self.removes.iter();
        let gone = gone.filter_map(|path| snapshot.files.get(path));
        lines.extend(gone.map(|add| Line {
            remove: Some(Remove {
                path: add.path.clone(),
                deletion_timestamp: Some(millis),
                data_change: !moved,
                extended_file_metadata: Some(true),
                partition_values: Some(add.partition_values.clone()),
                size: Some(add.size),
            }),
            ..Line::default()
        }));
        lines.extend(self.adds.iter().map(|add| Line {
            add: Some(add.clone()),
            ..Line::default()
        }));
        text(&lines)
    }

    /// Returns the table's description: that of the snapshot with the schema of the commit.
    fn metadata(&self, folder: &str, snapshot: &Snapshot, millis: i64) -> Result<Metadata, String> {
        let schema_string = schema_string(self.schema)
            .map_err(|column| format!("the column {column} has a type without a name in Delta"))?;
        let partitions = self.schema.partitions.iter();
        let partition_columns: Vec<_> = partitions.map(|field| field.name().clone()).collect();
        let Some(mut metadata) = snapshot.metadata.clone() else {
            return Ok(Metadata {
                id: guid(folder, millis),
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
            return Err(format!(
                "it is partitioned by {:?} and this version by {partition_columns:?}",
                metadata.partition_columns
            ));
        }
        // Compared as JSON: another engine may have written the same schema with other spacing.
        let as_json = |text: &str| serde_json::from_str::<Value>(text).ok();
        if as_json(&metadata.schema_string) != as_json(&schema_string) {
            metadata.schema_string = schema_string;
        }
        Ok(metadata)
    }
}

/// Returns lines as a log has them.
pub(super) fn text(lines: &[Line]) -> Result<Bytes, String> {
    let mut content = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut content, line).map_err(|error| error.to_string())?;
        content.push(b'\n');
    }
    Ok(content.into())
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
