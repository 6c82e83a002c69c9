//! The lines of a commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::hive;

/// A live file of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    /// Where it is below the table's folder; escaped in the log, plain here.
    #[serde(with = "escaped")]
    pub path: String,
    /// The value of each partition column.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Bytes.
    pub size: u64,
    /// When it was written, in milliseconds since the epoch.
    pub modification_time: i64,
    /// Whether its rows are new to the table.
    pub data_change: bool,
    /// Statistics, JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    /// Notes of whoever wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

impl Add {
    /// Returns the `stats` text that states a row count.
    pub fn stats_of(rows: u64) -> String {
        json!({ "numRecords": rows }).to_string()
    }

    /// Returns the row count its `stats` state.
    pub fn rows(&self) -> Option<u64> {
        let stats: Value = serde_json::from_str(self.stats.as_ref()?).ok()?;
        stats.get("numRecords")?.as_u64()
    }
}

mod escaped {
    use super::hive;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &str, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hive::percent_encode_path(path))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
        let text = String::deserialize(d)?;
        hive::percent_decode(&text).ok_or_else(|| D::Error::custom("a path is not UTF-8"))
    }
}

/// A file that is no longer live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    #[serde(with = "escaped")]
    pub(super) path: String,
    #[serde(default)]
    pub(super) deletion_timestamp: Option<i64>,
    pub(super) data_change: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) extended_file_metadata: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partition_values: Option<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
}

/// The table itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// A GUID, for good.
    pub id: String,
    /// How the files are written.
    pub format: Format,
    /// The schema, JSON text.
    pub schema_string: String,
    /// Names of the partition columns.
    pub partition_columns: Vec<String>,
    /// Table properties.
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    /// Milliseconds since the epoch.
    #[serde(default)]
    pub created_time: Option<i64>,
}

/// A file format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// `parquet`.
    pub provider: String,
    /// Empty.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    pub(super) min_reader_version: u32,
    pub(super) min_writer_version: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Txn {
    pub(super) app_id: String,
    pub(super) version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_updated: Option<i64>,
}

/// One line: one of these is there. Kinds not listed do not change what is live.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) commit_info: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) meta_data: Option<Metadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) txn: Option<Txn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) remove: Option<Remove>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) add: Option<Add>,
}
