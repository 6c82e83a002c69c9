//! Checkpoints: a snapshot as one Parquet file beside the commits, so that reading a table does not replay its log.
//!
//! A classic checkpoint of the Delta protocol: `<version>.checkpoint.parquet`, one row for each action, named by
//! `_last_checkpoint`. Other engines read ours, and we read theirs unless they are of many parts.
//!
//! Invariant: a checkpoint is only a shortcut. One that is torn, damaged or of another kind is passed over for an
//! older one, or for the commits; a log is cleaned up only below one that was read back.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::LineDelimited;
use arrow::json::{ReaderBuilder, WriterBuilder};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use super::action::Line;
use super::snapshot::Snapshot;
use crate::encode::hash_of;

/// Names the newest checkpoint.
pub(super) const POINTER: &str = "_last_checkpoint";

/// Stands before the hash of a checkpoint's bytes, in the file's own metadata. Damage is looked for before anything is
/// decoded: a decoder may take it for rows, or fail in a way that ends the process.
const HASH_MARK: &str = "lastmile-content-hash:";

/// What the hash is taken over in its own place.
const NO_HASH: &str = "0000000000000000";

/// What `_last_checkpoint` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pointer {
    pub(super) version: u64,
    /// Actions in it.
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size_in_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    num_of_add_files: Option<u64>,
    /// Files it is made of, where those are many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<u64>,
}

impl Pointer {
    /// Reads it; `None` when it is torn or names a checkpoint of many parts.
    pub(super) fn parse(content: &[u8]) -> Option<Self> {
        let pointer: Self = serde_json::from_slice(content).ok()?;
        pointer.parts.is_none().then_some(pointer)
    }

    pub(super) fn to_bytes(&self) -> Result<Bytes, String> {
        let content = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        Ok(content.into())
    }
}

/// Returns the place of the hash in a file; there is none in those of other programs.
fn place_of_hash(content: &[u8]) -> Option<std::ops::Range<usize>> {
    let marks = content.windows(HASH_MARK.len());
    let at = marks
        .rev()
        .position(|bytes| bytes == HASH_MARK.as_bytes())?;
    let from = content.len() - at;
    let place = from..from + NO_HASH.len();
    (place.end <= content.len()).then_some(place)
}

/// Tells whether a file is as it was written, as far as it says.
fn is_whole(content: &[u8]) -> bool {
    let Some(place) = place_of_hash(content) else {
        return true;
    };
    let mut blank = content.to_vec();
    blank[place.clone()].copy_from_slice(NO_HASH.as_bytes());
    hash_of(&blank).as_bytes() == &content[place]
}

/// Returns the name of a version's checkpoint below `_delta_log`.
pub(super) fn file_name(version: u64) -> String {
    format!("{version:020}.checkpoint.parquet")
}

/// Writes a snapshot, without files removed before `removed_since_ms`; returns the file and what points to it.
///
/// # Errors
/// A defect of this program: what is written is read back before it is handed out.
pub(super) fn encode(
    snapshot: &Snapshot,
    removed_since_ms: i64,
) -> Result<(Bytes, Pointer), String> {
    let lines = snapshot.lines(removed_since_ms);
    let content = to_parquet(&lines).map_err(|error| error.to_string())?;
    if lines_of(content.clone())? != lines {
        return Err("a checkpoint does not hold what was written to it".to_owned());
    }
    let pointer = Pointer {
        version: snapshot.commits.saturating_sub(1),
        size: lines.len() as u64,
        size_in_bytes: Some(content.len() as u64),
        num_of_add_files: Some(snapshot.files.len() as u64),
        parts: None,
    };
    Ok((content, pointer))
}

/// Reads the checkpoint of a version.
///
/// # Errors
/// Why it is no checkpoint this version understands.
pub(super) fn decode(version: u64, content: Bytes) -> Result<Snapshot, String> {
    let mut snapshot = Snapshot {
        commits: version + 1,
        checkpoint: Some(version),
        ..Snapshot::default()
    };
    let mut protocols = 0;
    for line in lines_of(content)? {
        protocols += usize::from(line.protocol.is_some());
        snapshot.apply(line)?;
    }
    if protocols != 1 || snapshot.metadata.is_none() {
        return Err("it says neither what it is nor what the table is".to_owned());
    }
    Ok(snapshot)
}

fn lines_of(content: Bytes) -> Result<Vec<Line>, String> {
    if !is_whole(&content) {
        return Err("it is not what was written".to_owned());
    }
    let mut json = Vec::new();
    let written = (|| {
        let mut writer = WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, LineDelimited>(&mut json);
        for batch in ParquetRecordBatchReaderBuilder::try_new(content)?.build()? {
            writer.write(&batch?)?;
        }
        writer.finish()
    })();
    written.map_err(|error: ArrowError| error.to_string())?;
    let lines = json.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).map_err(|error| error.to_string()))
        .collect()
}

fn to_parquet(lines: &[Line]) -> Result<Bytes, ArrowError> {
    let schema = schema();
    let mut decoder = ReaderBuilder::new(schema.clone()).build_decoder()?;
    decoder.serialize(lines)?;
    let batch = decoder.flush()?;
    let batch = batch.unwrap_or_else(|| RecordBatch::new_empty(schema.clone()));
    // Snappy, which every reader of Delta has.
    let hash = KeyValue::new("lastmile".to_owned(), format!("{HASH_MARK}{NO_HASH}"));
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(vec![hash]));
    let options = ArrowWriterOptions::new()
        .with_properties(properties.build())
        .with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options)?;
    writer.write(&batch)?;
    let mut content = writer.into_inner()?;
    if let Some(place) = place_of_hash(&content) {
        let hash = hash_of(&content);
        content[place].copy_from_slice(hash.as_bytes());
    }
    Ok(content.into())
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn number(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

fn flag(name: &str) -> Field {
    Field::new(name, DataType::Boolean, true)
}

/// A map of texts, with the names Parquet gives its parts.
fn map(name: &str) -> Field {
    let (key, value) = (Field::new("key", DataType::Utf8, false), text("value"));
    Field::new_map(name, "key_value", key, value, false, true)
}

fn group<const N: usize>(name: &str, fields: [Field; N]) -> Field {
    Field::new(
        name,
        DataType::Struct(Fields::from(Vec::from(fields))),
        true,
    )
}

/// Returns a checkpoint's columns: the actions of the protocol, by the names they have in commits.
fn schema() -> SchemaRef {
    let version = |name: &str| Field::new(name, DataType::Int32, true);
    let partition_columns = DataType::List(Arc::new(text("element")));
    Arc::new(Schema::new(vec![
        group(
            "txn",
            [text("appId"), number("version"), number("lastUpdated")],
        ),
        group(
            "add",
            [
                text("path"),
                map("partitionValues"),
                number("size"),
                number("modificationTime"),
                flag("dataChange"),
                text("stats"),
                map("tags"),
            ],
        ),
        group(
            "remove",
            [
                text("path"),
                number("deletionTimestamp"),
                flag("dataChange"),
                flag("extendedFileMetadata"),
                map("partitionValues"),
                number("size"),
            ],
        ),
        group(
            "metaData",
            [
                text("id"),
                text("name"),
                text("description"),
                group("format", [text("provider"), map("options")]),
                text("schemaString"),
                Field::new("partitionColumns", partition_columns, true),
                map("configuration"),
                number("createdTime"),
            ],
        ),
        group(
            "protocol",
            [version("minReaderVersion"), version("minWriterVersion")],
        ),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::Metadata;

    #[test]
    fn what_other_programs_write_has_no_hash_and_is_taken_as_it_is() {
        let metadata = r#"{"id":"x","format":{"provider":"parquet"},"schemaString":"{}","partitionColumns":[]}"#;
        let snapshot = Snapshot {
            commits: 8,
            metadata: serde_json::from_str::<Metadata>(metadata).ok(),
            ..Snapshot::default()
        };
        let (content, pointer) = encode(&snapshot, 0).unwrap();
        assert_eq!((pointer.version, pointer.size), (7, 2));
        let place = place_of_hash(&content).unwrap();
        let mut foreign = content.to_vec();
        foreign[place.start - 2] = b'_';
        assert_eq!(place_of_hash(&foreign), None);
        let read = decode(7, foreign.into()).unwrap();
        assert_eq!(read.metadata, snapshot.metadata);
        let mut damaged = content.to_vec();
        damaged[place.start - HASH_MARK.len() - 9] ^= 1;
        assert!(decode(7, damaged.into()).is_err());
    }
}
