//! How a table of the lake is declared, and what follows from a declaration: its schema.
//!
//! Owns the vocabulary ([`Column`], [`Partition`], [`Entity`]); the tables themselves are declared in
//! [`crate::entities`] and nowhere else.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use model::UtcMicros;
use store::lake_source::show;
use store::{LakeSource, LakeTable, SharedVisitor, StoreError, Stored};

/// The time zone of every timestamp column.
pub const UTC: &str = "UTC";

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Text with few distinct values beside the number of rows, such as ids: kept as a dictionary.
    Word,
    /// Text that is different in each row, such as a JSON document.
    Text,
    /// Bytes as received.
    Bytes,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// An instant, to the microsecond, UTC.
    Instant,
}

/// The value of a column in one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Of [`ColumnType::Word`] and [`ColumnType::Text`].
    Text(&'a str),
    /// Of [`ColumnType::Bytes`].
    Bytes(&'a [u8]),
    /// Of [`ColumnType::Integer`].
    Integer(i64),
    /// Of [`ColumnType::Number`].
    Number(f64),
    /// Of [`ColumnType::Instant`].
    Instant(UtcMicros),
    /// Absent; only in columns that allow it.
    Null,
}

/// Takes a column's value out of a row; the text is the writer's id.
pub type ReadValue<R> = for<'a> fn(&'a Stored<R>, &'a str) -> Value<'a>;

/// A column: kept in the file.
#[derive(Debug, Clone, Copy)]
pub struct Column<R: 'static> {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub holds: ColumnType,
    /// Whether rows may lack it.
    pub optional: bool,
    /// Where its value comes from.
    pub read: ReadValue<R>,
}

/// A partition column: kept in the folder's name, and not repeated in the file.
#[derive(Debug, Clone, Copy)]
pub enum Partition<R: 'static> {
    /// The UTC date of the entity's [`Entity::time`].
    Date(&'static str),
    /// A word with few values.
    Word(&'static str, fn(&R) -> &'static str),
}

impl<R> Partition<R> {
    /// Returns its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Date(name) | Self::Word(name, _) => name,
        }
    }
}

/// A table of the raw layer.
#[derive(Debug)]
pub struct Entity<R: 'static> {
    /// The table.
    pub table: LakeTable,
    /// The file's columns, in order.
    pub columns: &'static [Column<R>],
    /// The folders' columns, outermost first.
    pub partitions: &'static [Partition<R>],
    /// Rows of a file are sorted by this word first, where there is one; then by time; then by sequence.
    pub cluster_by: Option<&'static str>,
    /// The column that holds [`Entity::time`].
    pub time_column: &'static str,
    /// The instant that places a row in a date and in the order of its file.
    pub time: fn(&R) -> UtcMicros,
    /// Rows asked of the store at once. With the largest row the store takes, a page must fit in memory.
    pub page_rows: usize,
}

impl<R> Entity<R> {
    /// Returns the table's folder below the lake's root.
    pub fn folder(&self) -> String {
        format!("raw/{}", self.table.as_str())
    }

    /// Returns the schema: the file's columns, and the folders'.
    pub fn schema(&self) -> TableSchema {
        let file = self.columns.iter().map(|column| {
            let holds = match column.holds {
                ColumnType::Word | ColumnType::Text => DataType::Utf8,
                ColumnType::Bytes => DataType::Binary,
                ColumnType::Integer => DataType::Int64,
                ColumnType::Number => DataType::Float64,
                ColumnType::Instant => instant(),
            };
            Field::new(column.name, holds, column.optional)
        });
        let folders = self.partitions.iter().map(|partition| match partition {
            Partition::Date(name) => Field::new(*name, DataType::Date32, true),
            Partition::Word(name, _) => Field::new(*name, DataType::Utf8, true),
        });
        TableSchema {
            file: Arc::new(Schema::new(file.collect::<Vec<_>>())),
            partitions: folders.collect(),
        }
    }
}

/// Returns the type of [`ColumnType::Instant`].
pub fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// The columns of a table of any layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSchema {
    /// Columns kept in the files.
    pub file: SchemaRef,
    /// Columns kept in the folders' names.
    pub partitions: Vec<Field>,
}

/// A row type with its declaration, and the way to get rows of it.
pub trait LakeRow: Sized + Send + Sync + 'static {
    /// Returns the declaration.
    fn entity() -> &'static Entity<Self>;

    /// Has the store show rows to a visitor; see [`LakeSource::visit_positions`].
    fn visit(
        source: &dyn LakeSource,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
        visitor: SharedVisitor<Self>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async move {
            let rows = Self::scan(source, writer_id, after, to, limit).await?;
            show(&rows, &visitor);
            Ok(())
        }
    }

    /// Asks the store for rows; see [`LakeSource::scan_positions`].
    fn scan(
        source: &dyn LakeSource,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Stored<Self>>, StoreError>> + Send;
}
