//! Rows into files: columns are built page by page, split by partition, sorted, and written as Parquet.
//!
//! Invariant: a chunk is a pure function of its rows, so the same window makes the same files. Memory is
//! about twice [`Chunk::bytes`] plus one encoded file at a time; the caller bounds the former.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, DictionaryArray, Float64Builder, Int64Builder, StringBuilder,
    StringDictionaryBuilder, TimestampMicrosecondBuilder, UInt32Array,
};
use arrow::compute::{SortOptions, sort_to_indices};
use arrow::datatypes::{Field, Int32Type, Schema};
use arrow::error::ArrowError;
use bytes::Bytes;
use model::UtcMicros;
use model::content_hash::ContentHash;
use store::Stored;

use crate::entity::{ColumnType, Entity, Partition, UTC, Value};
use crate::error::LakeError;
use crate::parquet_file;

/// A sum over keys that does not depend on their order; equal sets of keys have equal sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeySum(u64);

impl KeySum {
    /// Adds a row by its sequence and its time in microseconds.
    pub(crate) fn add(&mut self, writer_seq: u64, time_us: i64) {
        let hash = ContentHash::default()
            .chain(&writer_seq.to_le_bytes())
            .chain(&time_us.to_le_bytes());
        self.0 = self.0.wrapping_add(hash.finish());
    }

    /// Returns it as text.
    pub(crate) fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Returns the hash of a file's bytes, by which damage is known before anything is decoded.
pub(crate) fn hash_of(content: &[u8]) -> String {
    format!("{:016x}", ContentHash::default().chain(content).finish())
}

/// One finished file of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodedFile {
    /// The value of each partition column, outermost first.
    pub(crate) partition: Vec<String>,
    /// The Parquet file.
    pub(crate) content: Bytes,
    /// What [`hash_of`] says of it.
    pub(crate) hash: String,
    /// Rows in it.
    pub(crate) rows: u64,
    /// Sum over their keys, taken from the rows before they became columns.
    pub(crate) keys: KeySum,
}

/// Rows on their way into files.
pub(crate) struct Chunk<R: 'static> {
    entity: &'static Entity<R>,
    columns: Vec<Builder>,
    partitions: BTreeMap<Vec<String>, Part>,
    rows: u32,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Part {
    /// Time and row number of each row.
    rows: Vec<(i64, u32)>,
    keys: KeySum,
}

/// Most rows of a chunk: row numbers have 32 bits, and sort keys put them beside a 32-bit rank.
pub(crate) const MAX_CHUNK_ROWS: u64 = 16_000_000;

impl<R> std::fmt::Debug for Chunk<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunk")
            .field("table", &self.entity.table)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

impl<R> Chunk<R> {
    /// Begins an empty chunk.
    pub(crate) fn new(entity: &'static Entity<R>) -> Self {
        let columns = entity.columns.iter();
        Self {
            entity,
            columns: columns.map(|column| Builder::new(column.holds)).collect(),
            partitions: BTreeMap::new(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Returns the number of rows in it.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.into()
    }

    /// Returns roughly the memory its columns take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds rows of one writer, in ascending sequence.
    ///
    /// # Errors
    /// [`LakeError::Arrow`] when a column holds more distinct words than a dictionary can.
    pub(crate) fn push(&mut self, writer_id: &str, rows: &[Stored<R>]) -> Result<(), LakeError> {
        for (column, builder) in self.entity.columns.iter().zip(&mut self.columns) {
            for row in rows {
                let value = (column.read)(row, writer_id);
                self.bytes += builder
                    .push(value)
                    .map_err(|source| failed(self.entity, source))?;
            }
        }
        // Neighbours mostly share their partition, so the last one's name is kept.
        let mut last: Option<(i64, Vec<&'static str>, &mut Part)> = None;
        for row in rows {
            let time = (self.entity.time)(&row.row).as_micros();
            let day = time.div_euclid(MICROS_PER_DAY);
            let words = self.entity.partitions.iter().filter_map(|p| match p {
                Partition::Word(_, read) => Some(read(&row.row)),
                Partition::Date(_) => None,
            });
            if !last
                .as_ref()
                .is_some_and(|(d, w, _)| *d == day && words.clone().eq(w.iter().copied()))
            {
                let names = self.entity.partitions.iter().map(|p| match p {
                    Partition::Word(_, read) => read(&row.row).to_owned(),
                    Partition::Date(_) => (self.entity.time)(&row.row).date(),
                });
                let part = self.partitions.entry(names.collect()).or_default();
                last = Some((day, words.collect(), part));
            }
            if let Some((_, _, part)) = &mut last {
                part.rows.push((time, self.rows));
                part.keys.add(row.writer_seq, time);
            }
            self.rows += 1;
        }
        Ok(())
    }

    /// Sorts and writes the files, one for each partition, ordered by partition.
    ///
    /// # Errors
    /// [`LakeError::Arrow`] or [`LakeError::Parquet`], both defects of this program.
    pub(crate) fn finish(self) -> Result<Vec<EncodedFile>, LakeError> {
        let Self {
            entity,
            columns,
            partitions,
            ..
        } = self;
        let arrays: Vec<ArrayRef> = columns.into_iter().map(Builder::finish).collect();
        let fields = arrays.iter().zip(entity.columns);
        let fields = fields.map(|(array, column)| {
            Field::new(column.name, array.data_type().clone(), column.optional)
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let what = entity.folder();
        let arrow = |source| failed(entity, source);
        let cluster = entity
            .cluster_by
            .and_then(|name| schema.index_of(name).ok());
        let ranks = cluster.map(|index| Ranks::of(&arrays[index])).transpose();
        let ranks = ranks.map_err(arrow)?.flatten();
        let mut files = Vec::with_capacity(partitions.len());
        for (partition, part) in partitions {
            let order = part.order(ranks.as_ref());
            let content = parquet_file::encode(&what, &schema, &arrays, &order)?;
            files.push(EncodedFile {
                partition,
                hash: hash_of(&content),
                content,
                rows: part.rows.len() as u64,
                keys: part.keys,
            });
        }
        Ok(files)
    }
}

fn failed<R>(entity: &Entity<R>, source: ArrowError) -> LakeError {
    LakeError::Arrow {
        what: entity.folder(),
        source,
    }
}

impl Part {
    /// Returns the row numbers in the file's order: by rank, by time, then as stored.
    fn order(&self, ranks: Option<&Ranks>) -> UInt32Array {
        let mut keys: Vec<u128> = self
            .rows
            .iter()
            .map(|&(time, row)| {
                let rank = ranks.map_or(0, |ranks| ranks.of_row(row));
                // Times are not negative (see `UtcMicros`), so they sort as unsigned numbers.
                (u128::from(rank) << 96)
                    | (u128::from(time.cast_unsigned()) << 32)
                    | u128::from(row)
            })
            .collect();
        keys.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low 32 bits are the row number"
        )]
        let rows = keys.iter().map(|key| *key as u32);
        rows.collect()
    }
}

/// The place of each row's word among all words, in byte order.
struct Ranks {
    of_key: Vec<u32>,
    words: DictionaryArray<Int32Type>,
}

impl Ranks {
    /// Ranks the words of a dictionary column; `None` when the column is no dictionary.
    fn of(array: &ArrayRef) -> Result<Option<Self>, ArrowError> {
        let Some(words) = array.as_any().downcast_ref::<DictionaryArray<Int32Type>>() else {
            return Ok(None);
        };
        let sorted = sort_to_indices(words.values(), Some(SortOptions::default()), None)?;
        let mut of_key = vec![0; sorted.len()];
        for (rank, key) in (0..).zip(sorted.values()) {
            of_key[*key as usize] = rank;
        }
        Ok(Some(Self {
            of_key,
            words: words.clone(),
        }))
    }

    fn of_row(&self, row: u32) -> u32 {
        self.words
            .key(row as usize)
            .map_or(0, |key| self.of_key[key])
    }
}

enum Builder {
    /// With the number of distinct words.
    Word(StringDictionaryBuilder<Int32Type>, usize),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Integer(Int64Builder),
    Number(Float64Builder),
    Instant(TimestampMicrosecondBuilder),
}

impl Builder {
    fn new(holds: ColumnType) -> Self {
        match holds {
            ColumnType::Word => Self::Word(StringDictionaryBuilder::new(), 0),
            ColumnType::Text => Self::Text(StringBuilder::new()),
            ColumnType::Bytes => Self::Bytes(BinaryBuilder::new()),
            ColumnType::Integer => Self::Integer(Int64Builder::new()),
            ColumnType::Number => Self::Number(Float64Builder::new()),
            ColumnType::Instant => {
                Self::Instant(TimestampMicrosecondBuilder::new().with_timezone(UTC))
            }
        }
    }

    /// Adds a value and returns roughly the bytes it takes.
    fn push(&mut self, value: Value<'_>) -> Result<usize, ArrowError> {
        let text_bytes = |text: &str| text.len() + 4;
        Ok(match (self, value) {
            (Self::Word(builder, distinct), Value::Text(text)) => {
                let key = usize::try_from(builder.append(text)?).unwrap_or_default();
                if key < *distinct {
                    return Ok(4);
                }
                *distinct = key + 1;
                4 + text_bytes(text)
            }
            (Self::Text(builder), Value::Text(text)) => {
                builder.append_value(text);
                text_bytes(text)
            }
            (Self::Bytes(builder), Value::Bytes(bytes)) => {
                builder.append_value(bytes);
                bytes.len() + 4
            }
            (Self::Integer(builder), Value::Integer(integer)) => {
                builder.append_value(integer);
                8
            }
            (Self::Number(builder), Value::Number(number)) => {
                builder.append_value(number);
                8
            }
            (Self::Instant(builder), Value::Instant(instant)) => {
                builder.append_value(UtcMicros::as_micros(instant));
                8
            }
            (builder, value) => {
                // A declaration whose type and value disagree would be noticed by the tests, which push
                // a row of every entity.
                debug_assert_eq!(value, Value::Null);
                builder.push_null();
                8
            }
        })
    }

    fn push_null(&mut self) {
        match self {
            Self::Word(builder, _) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Bytes(builder) => builder.append_null(),
            Self::Integer(builder) => builder.append_null(),
            Self::Number(builder) => builder.append_null(),
            Self::Instant(builder) => builder.append_null(),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Word(mut builder, _) => Arc::new(builder.finish()),
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Bytes(mut builder) => Arc::new(builder.finish()),
            Self::Integer(mut builder) => Arc::new(builder.finish()),
            Self::Number(mut builder) => Arc::new(builder.finish()),
            Self::Instant(mut builder) => Arc::new(builder.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{DelivererId, Latitude, Longitude, Position, Source};
    use proptest::prelude::*;

    use super::*;
    use crate::entities::DELIVERER_LOCATION;

    fn row(writer_seq: u64, (deliverer, time_us, lat): (u8, i64, f64)) -> Stored<Position> {
        let time = UtcMicros::new(time_us).unwrap();
        let row = Position {
            order_id: None,
            deliverer_id: DelivererId::new(deliverer.to_string()).unwrap(),
            delivery_state: None,
            event_time: time,
            received_time: time,
            lat: Latitude::from_degrees(lat).unwrap(),
            lon: Longitude::from_degrees(lat).unwrap(),
            speed_mps: None,
            heading_deg: None,
            accuracy_m: None,
            altitude_m: None,
            battery: None,
            seq: None,
            source: Source::Native,
        };
        Stored { writer_seq, row }
    }

    proptest! {
        /// However the store's answer is cut into pages, the same rows make the same bytes.
        #[test]
        fn files_follow_from_the_rows_alone(
            rows in proptest::collection::vec((0_u8..5, 0..4 * MICROS_PER_DAY, -90.0..90.0_f64), 1..80),
            page in 1_usize..80,
        ) {
            let rows: Vec<_> = (1..).zip(rows).map(|(seq, row_of)| row(seq, row_of)).collect();
            let files = |page: usize| {
                let mut chunk = Chunk::new(&DELIVERER_LOCATION);
                for page in rows.chunks(page) {
                    chunk.push("w", page).unwrap();
                }
                chunk.finish().unwrap()
            };
            let whole = files(rows.len());
            prop_assert_eq!(whole.iter().map(|file| file.rows).sum::<u64>(), rows.len() as u64);
            prop_assert_eq!(whole, files(page));
        }
    }
}
