//! Parquet as this lake writes and reads it.
//!
//! Owns the settings, so that every layer has the same. The same rows in the same order make the same
//! bytes, in every run of one build; that is what lets a crashed window be written again.
//!
//! Measured on a million simulated fixes, sorted by vehicle and time, bytes a row: coordinates take 10.4 as split byte
//! streams and 12.9 as dictionaries; a speed to two digits takes 4.7 so and 1.2 as a dictionary, a heading to one digit
//! 2.3 and 1.5. Hence a column of numbers becomes what a sample of it promises. Times take 3.0 as deltas and 3.6 as
//! split bytes. zstd above level 1 gains less than one part in a hundred.

use std::collections::HashSet;

use arrow::array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowWriterOptions, compute_leaves,
};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::error::LakeError;
use crate::processors::on_every_processor;

/// Rows of a row group: within the 128 Ki to 1 Mi that engines like, and enough groups in a full window
/// for several cores to read.
const ROW_GROUP_ROWS: usize = 262_144;

/// Rows that are looked at to tell whether a column of numbers repeats its values.
const SAMPLE_ROWS: usize = 4_096;

/// Most bytes of a dictionary of numbers, 8,192 of them; a row group that has more goes on as split byte streams.
const NUMBERS_BYTES: usize = 65_536;

fn properties(schema: &Schema, arrays: &[ArrayRef]) -> WriterProperties {
    let level = ZstdLevel::try_new(1).unwrap_or_default();
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("lastmile ", env!("CARGO_PKG_VERSION")).to_owned());
    for (field, array) in schema.fields().iter().zip(arrays) {
        let encoding = match field.data_type() {
            DataType::Timestamp(..) | DataType::Int64 => Encoding::DELTA_BINARY_PACKED,
            DataType::Float64 => Encoding::BYTE_STREAM_SPLIT,
            _ => continue,
        };
        let path = ColumnPath::from(field.name().as_str());
        builder = builder
            .set_column_dictionary_enabled(path.clone(), repeats(array))
            .set_column_dictionary_page_size_limit(path.clone(), NUMBERS_BYTES)
            .set_column_encoding(path, encoding);
    }
    builder.build()
}

/// Tells whether fewer than three of four numbers, of a sample taken evenly, are different. So it is with what devices
/// round, and it is not with coordinates.
fn repeats(array: &ArrayRef) -> bool {
    let Some(numbers) = array.as_any().downcast_ref::<Float64Array>() else {
        return false;
    };
    let step = numbers.len().div_ceil(SAMPLE_ROWS).max(1);
    let sample = (0..numbers.len()).step_by(step);
    let seen = sample.len();
    let bits = |at: usize| numbers.is_valid(at).then(|| numbers.value(at).to_bits());
    let different: HashSet<_> = sample.map(bits).collect();
    4 * different.len() < 3 * seen
}

/// Writes one file into memory. How its columns are encoded follows from the first rows added.
#[derive(Debug)]
pub struct FileWriter {
    what: String,
    schema: SchemaRef,
    writer: Option<ArrowWriter<Vec<u8>>>,
    rows: u64,
}

impl FileWriter {
    /// Begins a file with this schema; `what` names it in errors.
    ///
    /// # Errors
    /// [`LakeError::Parquet`] when the schema has no Parquet form; so for every method here.
    pub fn new(what: impl Into<String>, schema: &SchemaRef) -> Result<Self, LakeError> {
        let what = what.into();
        match ArrowSchemaConverter::new().convert(schema) {
            Ok(_) => Ok(Self {
                what,
                schema: schema.clone(),
                writer: None,
                rows: 0,
            }),
            Err(source) => Err(failed(&what, source)),
        }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// As [`FileWriter::new`]; also when the schema is not that of the rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        self.rows += batch.num_rows() as u64;
        let wrong = |source| failed(&self.what, source);
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => begun(&self.schema, batch.columns()).map_err(wrong)?,
        };
        writer.write(batch).map_err(wrong)?;
        self.writer = Some(writer);
        Ok(())
    }

    /// Ends the file: its bytes, and the number of its rows.
    ///
    /// # Errors
    /// As [`FileWriter::new`].
    pub fn finish(self) -> Result<(Bytes, u64), LakeError> {
        let Self {
            what,
            schema,
            writer,
            rows,
        } = self;
        let content = writer
            .map_or_else(
                || begun(&schema, RecordBatch::new_empty(schema.clone()).columns()),
                Ok,
            )
            .and_then(ArrowWriter::into_inner);
        let content = content.map_err(|source| failed(&what, source))?;
        Ok((content.into(), rows))
    }
}

fn begun(schema: &SchemaRef, first: &[ArrayRef]) -> Result<ArrowWriter<Vec<u8>>, ParquetError> {
    // The Arrow schema is left out so that a dictionary in memory is plain text to every reader.
    let options = ArrowWriterOptions::new()
        .with_properties(properties(schema, first))
        .with_skip_arrow_metadata(true);
    ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options)
}

/// Writes one file into memory: those rows of some columns whose numbers `order` has, in that order. It has the
/// settings of a [`FileWriter`].
///
/// The work is done by as many threads as there are processors, each a column at a time; the bytes do not depend on how
/// many these are. Memory is one sorted column for each thread, and the file.
///
/// # Errors
/// [`LakeError::Arrow`] or [`LakeError::Parquet`], both defects of this program.
pub(crate) fn encode(
    what: &str,
    schema: &SchemaRef,
    columns: &[ArrayRef],
    order: &UInt32Array,
) -> Result<Bytes, LakeError> {
    let wrong = |source| failed(what, source);
    let writer = begun(schema, columns).map_err(wrong)?;
    let (mut file, factory) = writer.into_serialized_writer().map_err(wrong)?;
    // By column, a writer for each row group.
    let mut writers: Vec<Vec<ArrowColumnWriter>> = columns.iter().map(|_| Vec::new()).collect();
    for group in 0..order.len().div_ceil(ROW_GROUP_ROWS) {
        let of_group = factory.create_column_writers(group).map_err(wrong)?;
        for (of_column, writer) in writers.iter_mut().zip(of_group) {
            of_column.push(writer);
        }
    }
    let work = schema.fields().iter().zip(columns).zip(writers);
    let encoded = on_every_processor(work, |((field, column), writers)| {
        encode_column(what, field, column, order, writers).map(Vec::into_iter)
    });
    let mut encoded = encoded?;
    for _ in 0..order.len().div_ceil(ROW_GROUP_ROWS) {
        let mut group = file.next_row_group().map_err(wrong)?;
        for chunk in encoded.iter_mut().filter_map(Iterator::next) {
            chunk.append_to_row_group(&mut group).map_err(wrong)?;
        }
        group.close().map_err(wrong)?;
    }
    file.into_inner().map(Bytes::from).map_err(wrong)
}

/// Sorts a column and encodes it, row group by row group.
fn encode_column(
    what: &str,
    field: &Field,
    column: &ArrayRef,
    order: &UInt32Array,
    writers: Vec<ArrowColumnWriter>,
) -> Result<Vec<ArrowColumnChunk>, LakeError> {
    let sorted = take(column, order, None).map_err(|source| LakeError::Arrow {
        what: what.to_owned(),
        source,
    })?;
    let mut chunks = Vec::with_capacity(writers.len());
    for (group, mut writer) in writers.into_iter().enumerate() {
        let begin = group * ROW_GROUP_ROWS;
        let rows = sorted.slice(begin, ROW_GROUP_ROWS.min(sorted.len() - begin));
        let leaves = compute_leaves(field, &rows);
        let written = leaves.and_then(|leaves| {
            for leaf in &leaves {
                writer.write(leaf)?;
            }
            writer.close()
        });
        chunks.push(written.map_err(|source| failed(what, source))?);
    }
    Ok(chunks)
}

fn failed(what: &str, source: ParquetError) -> LakeError {
    LakeError::Parquet {
        what: what.to_owned(),
        source,
    }
}

/// Reads the sequence and time columns of a raw file back and hands each row's pair to `each`, row groups beside each
/// other. Returns what was gathered of each, and the number of rows the footer states.
///
/// # Errors
/// [`LakeError::Parquet`] when the file cannot be read as one with these columns.
pub fn read_keys<T: Default + Send>(
    what: &str,
    content: &Bytes,
    time_column: &str,
    each: impl Fn(&mut T, u64, i64) + Sync,
) -> Result<(Vec<T>, u64), LakeError> {
    let wrong = |source| failed(what, source);
    let metadata = ArrowReaderMetadata::load(content, ArrowReaderOptions::new()).map_err(wrong)?;
    let groups = 0..metadata.metadata().num_row_groups();
    let stated = metadata.metadata().file_metadata().num_rows();
    let parts = on_every_processor(groups, |group| {
        let mut gathered = T::default();
        let add = |seq, time| each(&mut gathered, seq, time);
        read_group(content, &metadata, group, time_column, add).map_err(wrong)?;
        Ok::<_, LakeError>(gathered)
    });
    Ok((parts?, stated.cast_unsigned()))
}

fn read_group(
    content: &Bytes,
    metadata: &ArrowReaderMetadata,
    group: usize,
    time_column: &str,
    mut each: impl FnMut(u64, i64),
) -> Result<(), ParquetError> {
    let builder =
        ParquetRecordBatchReaderBuilder::new_with_metadata(content.clone(), metadata.clone());
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["writer_seq", time_column]);
    let reader = builder.with_projection(mask).with_row_groups(vec![group]);
    for batch in reader.build()? {
        let batch = batch?;
        let column = |name: &str| {
            let column = batch.column_by_name(name);
            column.ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))
        };
        let (seqs, times) = (column("writer_seq")?, column(time_column)?);
        let seqs = seqs.as_any().downcast_ref::<Int64Array>();
        let times = times.as_any().downcast_ref::<TimestampMicrosecondArray>();
        let (Some(seqs), Some(times)) = (seqs, times) else {
            let error = ArrowError::SchemaError("a key column has another type".to_owned());
            return Err(error.into());
        };
        for (seq, time) in seqs.values().iter().zip(times.values()) {
            each(seq.cast_unsigned(), *time);
        }
    }
    Ok(())
}
