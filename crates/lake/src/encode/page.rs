//! Rows into columns, a page at a time, where the store reads them: so pages are built beside each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Float64Builder, Int64Builder, StringBuilder, StringDictionaryBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;
use model::UtcMicros;
use store::{Stored, Visitor};

use super::KeySum;
use crate::entity::{ColumnType, Entity, Partition, UTC, Value};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Rows of one partition.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Time and row number of each.
    pub(super) rows: Vec<(i64, u32)>,
    pub(super) keys: KeySum,
}

/// Rows of one writer, in ascending sequence, as columns.
pub(crate) struct Page<R: 'static> {
    entity: &'static Entity<R>,
    writer_id: Box<str>,
    columns: Vec<Builder>,
    parts: Vec<Part>,
    part_of: BTreeMap<Vec<String>, usize>,
    /// Neighbours mostly share their partition, so the last one's is kept: its day, its words, its place.
    last: Option<(i64, Vec<&'static str>, usize)>,
    rows: u32,
    bytes: usize,
    failure: Option<ArrowError>,
}

/// A page that is full.
pub(super) struct Filled {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) parts: Vec<(Vec<String>, Part)>,
    pub(super) rows: u32,
    /// Roughly the memory of the columns without the words that dictionaries refer to.
    pub(super) bytes: usize,
}

impl<R> std::fmt::Debug for Page<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page")
            .field("table", &self.entity.table)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl<R> Page<R> {
    /// Begins an empty page.
    pub(crate) fn new(entity: &'static Entity<R>, writer_id: &str) -> Self {
        let columns = entity.columns.iter();
        Self {
            entity,
            writer_id: writer_id.into(),
            columns: columns
                .map(|column| Builder::new(column.holds, entity.page_rows))
                .collect(),
            parts: Vec::new(),
            part_of: BTreeMap::new(),
            last: None,
            rows: 0,
            bytes: 0,
            failure: None,
        }
    }

    /// Returns the number of rows in it.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.into()
    }

    /// Ends the page.
    pub(super) fn finish(self) -> Result<Filled, ArrowError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let mut parts: Vec<_> = self.parts.into_iter().map(Some).collect();
        let parts = self
            .part_of
            .into_iter()
            .filter_map(|(name, at)| Some((name, parts.get_mut(at)?.take()?)));
        let columns = self.columns.into_iter().map(Builder::finish);
        Ok(Filled {
            parts: parts.collect(),
            columns: columns.collect::<Result<_, _>>()?,
            rows: self.rows,
            bytes: self.bytes,
        })
    }

    fn part(&mut self, row: &R, time: UtcMicros) -> &mut Part {
        let day = time.as_micros().div_euclid(MICROS_PER_DAY);
        let words = self.entity.partitions.iter().filter_map(|p| match p {
            Partition::Word(_, read) => Some(read(row)),
            Partition::Date(_) => None,
        });
        let known = self.last.as_ref().filter(|(last_day, last_words, _)| {
            *last_day == day && words.clone().eq(last_words.iter().copied())
        });
        let at = if let Some((.., at)) = known {
            *at
        } else {
            let names = self.entity.partitions.iter().map(|p| match p {
                Partition::Word(_, read) => read(row).to_owned(),
                Partition::Date(_) => time.date(),
            });
            let next = self.parts.len();
            let at = *self.part_of.entry(names.collect()).or_insert(next);
            if at == next {
                self.parts.push(Part::default());
            }
            self.last = Some((day, words.collect(), at));
            at
        };
        &mut self.parts[at]
    }
}

impl<R> Visitor<R> for Page<R> {
    fn visit(&mut self, row: &Stored<R>) {
        for (column, builder) in self.entity.columns.iter().zip(&mut self.columns) {
            match builder.push((column.read)(row, &self.writer_id)) {
                Ok(bytes) => self.bytes += bytes,
                Err(error) => self.failure = Some(error),
            }
        }
        let number = self.rows;
        let time = (self.entity.time)(&row.row);
        let part = self.part(&row.row, time);
        part.rows.push((time.as_micros(), number));
        part.keys.add(row.writer_seq, time.as_micros());
        self.rows += 1;
    }
}

enum Builder {
    Word(Words),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Integer(Int64Builder),
    Number(Float64Builder),
    Instant(TimestampMicrosecondBuilder),
}

impl Builder {
    /// Makes a builder with room for so many numbers; text makes its own.
    fn new(holds: ColumnType, rows: usize) -> Self {
        match holds {
            ColumnType::Word => Self::Word(Words::new(rows)),
            ColumnType::Text => Self::Text(StringBuilder::new()),
            ColumnType::Bytes => Self::Bytes(BinaryBuilder::new()),
            ColumnType::Integer => Self::Integer(Int64Builder::with_capacity(rows)),
            ColumnType::Number => Self::Number(Float64Builder::with_capacity(rows)),
            ColumnType::Instant => {
                let builder = TimestampMicrosecondBuilder::with_capacity(rows);
                Self::Instant(builder.with_timezone(UTC))
            }
        }
    }

    /// Adds a value and returns roughly the bytes it takes; those of a word are its key's.
    fn push(&mut self, value: Value<'_>) -> Result<usize, ArrowError> {
        Ok(match (self, value) {
            (Self::Word(words), Value::Text(text)) => {
                words.push(text)?;
                4
            }
            (Self::Text(builder), Value::Text(text)) => {
                builder.append_value(text);
                text.len() + 4
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
                builder.push_null()?;
                8
            }
        })
    }

    fn push_null(&mut self) -> Result<(), ArrowError> {
        match self {
            Self::Word(words) => return words.push_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Bytes(builder) => builder.append_null(),
            Self::Integer(builder) => builder.append_null(),
            Self::Number(builder) => builder.append_null(),
            Self::Instant(builder) => builder.append_null(),
        }
        Ok(())
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Word(words) => words.finish()?,
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Bytes(mut builder) => Arc::new(builder.finish()),
            Self::Integer(mut builder) => Arc::new(builder.finish()),
            Self::Number(mut builder) => Arc::new(builder.finish()),
            Self::Instant(mut builder) => Arc::new(builder.finish()),
        })
    }
}

/// Words as a dictionary. Neighbours are often the same, and looked up once.
struct Words {
    builder: StringDictionaryBuilder<Int32Type>,
    last: String,
    /// How often the last word came in a row; the builder has not heard of these yet.
    times: usize,
}

impl Words {
    fn new(rows: usize) -> Self {
        Self {
            builder: StringDictionaryBuilder::with_capacity(rows, 0, 0),
            last: String::new(),
            times: 0,
        }
    }

    fn push(&mut self, word: &str) -> Result<(), ArrowError> {
        if self.times == 0 || self.last != word {
            self.flush()?;
            self.last.clear();
            self.last.push_str(word);
        }
        self.times += 1;
        Ok(())
    }

    fn push_null(&mut self) -> Result<(), ArrowError> {
        self.flush()?;
        self.builder.append_null();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ArrowError> {
        match std::mem::take(&mut self.times) {
            0 => Ok(()),
            times => self.builder.append_n(&self.last, times).map(drop),
        }
    }

    fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        self.flush()?;
        Ok(Arc::new(self.builder.finish()))
    }
}
