//! A model's result on its way: one Parquet file per partition, in a temporary folder.
//!
//! Rows come sorted by partition, by the declared order, and by the columns no two rows may agree in, or by all others
//! where none are declared, so equal results make equal files, whatever the number of cores. Memory is one encoded file
//! and the engine's bounded share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{BatchCoalescer, cast, partition};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::prelude::{DataFrame, SessionContext, col};
use futures_util::StreamExt;
use lake::Lease;
use lake::entity::{TableSchema, instant};
use lake::parquet_file::FileWriter;
use model::content_hash::ContentHash;
use tempfile::TempDir;

use crate::declaration::{Check, Model};
use crate::error::ModelError;

/// Rows handed to the encoder at once, counted from a partition's beginning, so that its pages do not depend on
/// the partitions before it.
const BATCH_ROWS: usize = 8_192;

/// A temporary folder; gone with this value.
#[derive(Debug)]
pub(super) struct Spool {
    folder: TempDir,
}

/// A whole result.
#[derive(Debug)]
pub(super) struct Spooled {
    pub(super) schema: TableSchema,
    pub(super) files: Vec<SpooledFile>,
    /// Keeps the files.
    _folder: TempDir,
}

/// One partition of a result.
#[derive(Debug)]
pub(super) struct SpooledFile {
    pub(super) partition: Option<String>,
    /// The name it gets in the lake; it follows from the content.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) rows: u64,
}

impl Spool {
    pub(super) fn new(model: &Model) -> Result<Self, ModelError> {
        let folder = tempfile::Builder::new().prefix("lastmile-model-").tempdir();
        let what = format!("making a temporary folder for {}", model.full_name());
        Ok(Self {
            folder: folder.map_err(ModelError::io(what))?,
        })
    }

    /// Runs the model and writes its result.
    pub(super) async fn fill(
        self,
        context: &SessionContext,
        model: &Model,
        lease: &Lease,
    ) -> Result<Spooled, ModelError> {
        let failed = |source| ModelError::Run {
            model: model.full_name(),
            source: Box::new(source),
        };
        let frame = context.sql(&model.sql).await.map_err(failed)?;
        let columns = Columns::of(model, &frame)?;
        let names = columns.order.iter();
        let order = names.map(|name| col(format!("\"{name}\"")).sort(true, true));
        let frame = frame.sort(order.collect()).map_err(failed)?;
        let mut rows = frame.execute_stream().await.map_err(failed)?;
        let mut files = Vec::new();
        let mut open: Option<Part> = None;
        while let Some(batch) = rows.next().await {
            let (values, batch) = columns.split(&batch.map_err(failed)?)?;
            let runs = partition(std::slice::from_ref(&values))
                .map_err(ModelError::arrow("partitioning"))?;
            for run in runs.ranges() {
                let value = values
                    .is_valid(run.start)
                    .then(|| values.as_string::<i32>().value(run.start).to_owned());
                if open.as_ref().is_none_or(|part| part.value != value) {
                    lease.renew().await?;
                    if let Some(part) = open.take() {
                        files.push(part.finish(self.folder.path()).await?);
                    }
                    open = Some(Part::new(model, &columns.file, value)?);
                }
                if let Some(part) = &mut open {
                    part.push(batch.slice(run.start, run.len()))?;
                }
            }
        }
        if let Some(part) = open {
            files.push(part.finish(self.folder.path()).await?);
        }
        Ok(Spooled {
            schema: TableSchema {
                file: columns.file,
                partitions: vec![columns.partition],
            },
            files,
            _folder: self.folder,
        })
    }
}

/// Returns how the table of a model is kept whose statement gives this frame.
///
/// # Errors
/// [`ModelError::Declaration`] when the header speaks of columns the statement does not give.
pub(crate) fn schema_of(model: &Model, frame: &DataFrame) -> Result<TableSchema, ModelError> {
    let columns = Columns::of(model, frame)?;
    Ok(TableSchema {
        file: columns.file,
        partitions: vec![columns.partition],
    })
}

/// How a result's columns are kept.
struct Columns {
    partition: Field,
    partition_index: usize,
    file: SchemaRef,
    order: Vec<String>,
}

impl Columns {
    fn of(model: &Model, frame: &DataFrame) -> Result<Self, ModelError> {
        let schema = frame.schema().as_arrow();
        let wrong = |detail: String| ModelError::Declaration {
            file: model.full_name(),
            detail,
        };
        let lacks = |name: &String| wrong(format!("the result lacks the column {name}"));
        let index = schema
            .index_of(&model.partition)
            .map_err(|_| lacks(&model.partition))?;
        let unique = model.checks.iter().find_map(|check| match check {
            Check::Unique(columns) => Some(columns),
            _ => None,
        });
        for name in model.order.iter().chain(unique.into_iter().flatten()) {
            schema.index_of(name).map_err(|_| lacks(name))?;
        }
        if let Some(nullable) = &model.nullable {
            let said = |name: &str| {
                let never = model.checks.iter().any(
                    |check| matches!(check, Check::NotNull(columns) if columns.iter().any(|c| c == name)),
                );
                never || nullable.iter().any(|c| c == name)
            };
            if let Some(field) = schema.fields().iter().find(|field| !said(field.name())) {
                let detail = format!(
                    "the column {} is neither not_null nor nullable",
                    field.name()
                );
                return Err(wrong(detail));
            }
        }
        let plain = |field: &Field| {
            let holds = match field.data_type() {
                DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
                DataType::Timestamp(..) => instant(),
                holds if holds.is_integer() => DataType::Int64,
                other => other.clone(),
            };
            Field::new(field.name(), holds, true)
        };
        let fields: Vec<_> = schema.fields().iter().map(|field| plain(field)).collect();
        // Columns that are unique order rows as well as all do, and are cheaper to compare.
        let last: Vec<&String> = match unique {
            Some(columns) => columns.iter().collect(),
            None => fields.iter().map(Field::name).collect(),
        };
        let mut order = vec![model.partition.clone()];
        for name in model.order.iter().chain(last) {
            if !order.contains(name) {
                order.push(name.clone());
            }
        }
        let mut file = fields;
        let partition = file.remove(index);
        Ok(Self {
            partition,
            partition_index: index,
            file: Arc::new(Schema::new(file)),
            order,
        })
    }

    /// Parts a batch into the partition's values, as text, and the file's columns.
    fn split(&self, batch: &RecordBatch) -> Result<(ArrayRef, RecordBatch), ModelError> {
        let converting = || ModelError::arrow("converting a result");
        let mut arrays = batch.columns().to_vec();
        let values = arrays.remove(self.partition_index);
        let values = cast(&values, &DataType::Utf8).map_err(converting())?;
        let arrays = arrays.iter().zip(self.file.fields());
        let arrays = arrays.map(|(array, field)| cast(array, field.data_type()));
        let arrays = arrays.collect::<Result<_, _>>().map_err(converting())?;
        let batch = RecordBatch::try_new(self.file.clone(), arrays).map_err(converting())?;
        Ok((values, batch))
    }
}

/// A partition being written.
struct Part {
    value: Option<String>,
    batches: BatchCoalescer,
    writer: FileWriter,
}

impl Part {
    fn new(model: &Model, schema: &SchemaRef, value: Option<String>) -> Result<Self, ModelError> {
        Ok(Self {
            value,
            batches: BatchCoalescer::new(schema.clone(), BATCH_ROWS),
            writer: FileWriter::new(model.full_name(), schema)?,
        })
    }

    fn push(&mut self, batch: RecordBatch) -> Result<(), ModelError> {
        let pushed = self.batches.push_batch(batch);
        pushed.map_err(ModelError::arrow("gathering rows"))?;
        self.write()
    }

    fn write(&mut self) -> Result<(), ModelError> {
        while let Some(batch) = self.batches.next_completed_batch() {
            self.writer.write(&batch)?;
        }
        Ok(())
    }

    async fn finish(mut self, folder: &Path) -> Result<SpooledFile, ModelError> {
        let rest = self.batches.finish_buffered_batch();
        rest.map_err(ModelError::arrow("gathering rows"))?;
        self.write()?;
        let (content, rows) = self.writer.finish()?;
        let hash = ContentHash::default().chain(&content).finish();
        let name = format!("part-{hash:016x}.parquet");
        let value = self.value.as_deref().unwrap_or_default();
        let own = ContentHash::default().chain(value.as_bytes()).finish();
        let path = folder.join(format!("{own:016x}-{name}"));
        let (to, size) = (path.clone(), content.len() as u64);
        blocking(move || std::fs::write(to, content)).await?;
        Ok(SpooledFile {
            partition: self.value,
            name,
            path,
            size,
            rows,
        })
    }
}

/// Reads a file of the spool.
pub(super) async fn read(path: &Path) -> Result<Bytes, ModelError> {
    let path = path.to_owned();
    blocking(move || std::fs::read(path)).await.map(Bytes::from)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ModelError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(ModelError::io("keeping a result in the temporary folder"))
}
