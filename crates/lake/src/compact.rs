//! Compaction: many small files of one partition become few sorted ones.
//!
//! For tables of models only; raw files are never rewritten. The order of things: the new file is put and read back,
//! one commit takes the old files' place, and only then the old ones are deleted. Delta readers see the one or the
//! other. Who reads the folders as plain Parquet sees both between the put and the deletion, as when a model
//! replaces a partition; a run that dies in between leaves that to the next, which tidies.
//!
//! Invariant: the commit is made on the very version the files were chosen from, or not at all. So whoever works at
//! the same time, no row goes missing or comes twice.
//!
//! Memory: the rows of one new file, as columns, twice: some twenty times the target.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{
    SortColumn, SortOptions, cast, concat_batches, lexsort_to_indices, take_record_batch,
};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use serde::Serialize;
use service::Clock;

use crate::delta::{Add, Commit, Snapshot, Table, arrow_schema};
use crate::encode::hash_of;
use crate::error::LakeError;
use crate::lease::Lease;
use crate::parquet_file::FileWriter;
use crate::storage::ObjectKey;

/// Says of a file that it was made here. Such files are not put together again with each other.
const TAG: &str = "lastmile.compacted";

/// Rows handed to the encoder at once, as a model's result is, so that equal rows make equal files.
const BATCH_ROWS: usize = 8_192;

/// How to compact a table.
#[derive(Debug, Clone, Copy)]
pub struct Compaction<'a> {
    /// Columns that rows are sorted by, before all others.
    pub order: &'a [String],
    /// Size up to which files are put together, in bytes.
    pub target_bytes: u64,
    /// Whether the files replaced are left for a later vacuum.
    pub keep_replaced: bool,
}

/// What a compaction did to a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CompactSummary {
    /// The table's folder.
    pub table: String,
    /// Files that were replaced.
    pub files_before: u64,
    /// Files in their place.
    pub files_after: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of the files replaced.
    pub bytes_before: u64,
    /// Bytes of those in their place.
    pub bytes_after: u64,
}

/// Returns what to put together: files of one partition that fit into `target_bytes`, two or more, and not only such
/// as were made here.
fn plan(snapshot: &Snapshot, target_bytes: u64) -> Vec<Vec<Add>> {
    let mut partitions: BTreeMap<_, Vec<&Add>> = BTreeMap::new();
    for add in snapshot.files.values() {
        if add.size < target_bytes {
            let partition = partitions.entry(&add.partition_values);
            partition.or_default().push(add);
        }
    }
    let mut bins: Vec<Vec<Add>> = Vec::new();
    for files in partitions.into_values() {
        let (mut bin, mut bytes) = (Vec::new(), 0);
        for add in files {
            if bytes + add.size > target_bytes {
                bins.push(std::mem::take(&mut bin));
                bytes = 0;
            }
            bytes += add.size;
            bin.push(add.clone());
        }
        bins.push(bin);
    }
    bins.retain(|bin| bin.len() > 1 && !bin.iter().all(is_made_here));
    bins
}

fn is_made_here(add: &Add) -> bool {
    add.tags.as_ref().is_some_and(|tags| tags.contains_key(TAG))
}

/// Compacts a table. One that does not exist, or has nothing to put together, is left as it is.
///
/// # Errors
/// As [`Table::commit_at`]; [`LakeError::Log`] also for columns this lake never writes. Nothing is lost then: the
/// next compaction does the rest.
///
/// # Cancel safety
/// Dropping the future is like a crash.
pub async fn compact(
    table: &Table,
    how: Compaction<'_>,
    lease: &Lease,
    clock: &dyn Clock,
) -> Result<CompactSummary, LakeError> {
    let mut summary = CompactSummary {
        table: table.folder().to_string(),
        ..CompactSummary::default()
    };
    let mut snapshot = table.load().await?;
    let bins = plan(&snapshot, how.target_bytes);
    let (Some(metadata), false) = (&snapshot.metadata, bins.is_empty()) else {
        return Ok(summary);
    };
    let wrong = |detail: &str| table.wrong(snapshot.commits, detail.to_owned());
    let schema = arrow_schema(metadata)
        .ok_or_else(|| wrong("it has columns of types this lake never writes"))?;
    let (mut adds, mut removes) = (Vec::new(), Vec::new());
    for bin in bins {
        lease.renew().await?;
        let mut contents = Vec::new();
        for add in &bin {
            let key = table.key(&add.path)?;
            let content = table.storage().get(&key).await?;
            contents.push((key, content.ok_or_else(|| wrong("a live file is gone"))?));
        }
        let (file, order) = (schema.file.clone(), how.order.to_vec());
        let what = summary.table.clone();
        let merging = move || merge(&what, &file, &order, contents);
        let (content, rows) = tokio::task::spawn_blocking(merging).await??;
        let stated: Option<u64> = bin.iter().map(Add::rows).sum();
        if stated.is_some_and(|stated| stated != rows) {
            return Err(wrong(
                "its files hold another number of rows than they state",
            ));
        }
        let add = put(table, &bin, content, rows, clock).await?;
        summary.files_before += bin.len() as u64;
        summary.files_after += 1;
        summary.rows += rows;
        summary.bytes_before += bin.iter().map(|add| add.size).sum::<u64>();
        summary.bytes_after += add.size;
        // Rows that are all in one of the files already make that file.
        removes.extend(
            bin.into_iter()
                .map(|old| old.path)
                .filter(|path| *path != add.path),
        );
        adds.push(add);
    }
    let commit = Commit {
        operation: "OPTIMIZE",
        schema: &schema,
        now: clock.now(),
        adds,
        removes: removes.clone(),
        transactions: Vec::new(),
        once: false,
    };
    lease.renew().await?;
    table.commit_at(&mut snapshot, &commit).await?;
    if how.keep_replaced {
        return Ok(summary);
    }
    for path in removes {
        lease.renew().await?;
        table.storage().delete(&table.key(&path)?).await?;
    }
    Ok(summary)
}

/// Writes the new file of a bin and reads it back.
async fn put(
    table: &Table,
    bin: &[Add],
    content: Bytes,
    rows: u64,
    clock: &dyn Clock,
) -> Result<Add, LakeError> {
    let first = bin.first().map_or("", |add| add.path.as_str());
    let folder = first.rsplit_once('/').map(|(folder, _)| folder);
    let name = format!("part-{}.parquet", hash_of(&content));
    let path = folder.map_or_else(|| name.clone(), |folder| format!("{folder}/{name}"));
    let key = table.key(&path)?;
    table.storage().put(&key, content.clone()).await?;
    if table.storage().get(&key).await?.as_ref() != Some(&content) {
        return Err(table.wrong(0, format!("{path} does not read back as it was written")));
    }
    Ok(Add {
        path,
        partition_values: bin
            .first()
            .map(|add| add.partition_values.clone())
            .unwrap_or_default(),
        size: content.len() as u64,
        modification_time: clock.now().as_micros() / 1_000,
        data_change: false,
        stats: Some(Add::stats_of(rows)),
        tags: Some([(TAG.to_owned(), bin.len().to_string())].into()),
    })
}

/// Makes one file of many: its bytes and its rows.
fn merge(
    what: &str,
    schema: &SchemaRef,
    order: &[String],
    contents: Vec<(ObjectKey, Bytes)>,
) -> Result<(Bytes, u64), LakeError> {
    let arrow = |source| LakeError::Arrow {
        what: what.to_owned(),
        source,
    };
    let parquet = |source| LakeError::Parquet {
        what: what.to_owned(),
        source,
    };
    let mut batches = Vec::new();
    for (key, content) in contents {
        // Before it is decoded: a decoder may take damage for rows, or fail in a way that ends the process.
        if !is_as_named(key.as_str(), &content) {
            return Err(LakeError::Parquet {
                what: key.to_string(),
                source: ParquetError::General("it holds other bytes than were written".to_owned()),
            });
        }
        let reader = ParquetRecordBatchReaderBuilder::try_new(content).map_err(parquet)?;
        for batch in reader.build().map_err(parquet)? {
            let batch = batch.map_err(arrow)?;
            batches.push(conformed(schema, &batch).map_err(arrow)?);
        }
    }
    let all = concat_batches(schema, &batches).map_err(arrow)?;
    drop(batches);
    let sorted = sorted(&all, order).map_err(arrow)?;
    let mut writer = FileWriter::new(what, schema)?;
    for from in (0..sorted.len()).step_by(BATCH_ROWS) {
        let rows = sorted.slice(from, BATCH_ROWS.min(sorted.len() - from));
        let batch = take_record_batch(&all, &rows).map_err(arrow)?;
        writer.write(&batch)?;
    }
    writer.finish()
}

/// Tells whether a file has the hash that its name states; those of other programs state none.
fn is_as_named(path: &str, content: &[u8]) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stated = name
        .strip_prefix("part-")
        .and_then(|name| name.strip_suffix(".parquet"));
    let is_hash = |stated: &&str| u64::from_str_radix(stated, 16).is_ok() && stated.len() == 16;
    stated
        .filter(is_hash)
        .is_none_or(|stated| stated == hash_of(content))
}

/// Returns a file's rows with the table's columns: one it lacks is empty.
fn conformed(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name());
        column.map_or_else(
            || Ok(new_null_array(field.data_type(), batch.num_rows())),
            |column| cast(column, field.data_type()),
        )
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
}

/// Returns the rows' numbers by `order`, then by every other column.
fn sorted(all: &RecordBatch, order: &[String]) -> Result<UInt32Array, ArrowError> {
    let others = all.schema();
    let others = others.fields().iter().map(|field| field.name().as_str());
    let others = others.filter(|name| !order.iter().any(|first| first == name));
    let names: Vec<&str> = order.iter().map(String::as_str).chain(others).collect();
    let columns: Vec<&ArrayRef> = names
        .iter()
        .filter_map(|name| all.column_by_name(name))
        .collect();
    let options = Some(SortOptions {
        descending: false,
        nulls_first: true,
    });
    let columns: Vec<SortColumn> = columns
        .into_iter()
        .map(|values| SortColumn {
            values: values.clone(),
            options,
        })
        .collect();
    lexsort_to_indices(&columns, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(files: &[(u8, u64, bool)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (number, (partition, size, made_here)) in files.iter().enumerate() {
            let path = format!("d={partition}/{number:03}");
            let add = Add {
                path: path.clone(),
                partition_values: [("d".to_owned(), Some(partition.to_string()))].into(),
                size: *size,
                modification_time: 0,
                data_change: true,
                stats: None,
                tags: made_here.then(|| [(TAG.to_owned(), "2".to_owned())].into()),
            };
            snapshot.files.insert(path, add);
        }
        snapshot
    }

    proptest! {
        #[test]
        fn each_file_goes_to_one_place_of_its_partition(
            files in proptest::collection::vec((0_u8..3, 1_u64..200, any::<bool>()), 0..40),
        ) {
            let bins = plan(&snapshot(&files), 100);
            let mut seen = std::collections::BTreeSet::new();
            for bin in bins {
                prop_assert!(bin.len() > 1);
                prop_assert!(bin.iter().map(|add| add.size).sum::<u64>() <= 100);
                prop_assert!(bin.iter().all(|add| add.partition_values == bin[0].partition_values));
                prop_assert!(!bin.iter().all(is_made_here));
                for add in bin {
                    prop_assert!(seen.insert(add.path));
                }
            }
        }
    }
}
