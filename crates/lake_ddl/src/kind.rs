//! What a column holds, apart from any engine's words for it.

use arrow::datatypes::{DataType, Field};
use lake_models::Definition;

/// What a column holds. The lake writes nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Bytes,
    Boolean,
    Integer,
    Long,
    Number,
    Date,
    /// UTC, to the microsecond.
    Instant,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
}

impl<'a> Column<'a> {
    fn of(field: &'a Field) -> Self {
        let kind = match field.data_type() {
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Kind::Bytes,
            DataType::Boolean => Kind::Boolean,
            DataType::Int8 | DataType::Int16 | DataType::Int32 => Kind::Integer,
            DataType::Int64 => Kind::Long,
            DataType::Float32 | DataType::Float64 => Kind::Number,
            DataType::Date32 => Kind::Date,
            DataType::Timestamp(..) => Kind::Instant,
            _ => Kind::Text,
        };
        let name = field.name();
        Self { name, kind }
    }
}

/// Returns the columns kept in a table's files.
pub(crate) fn in_files(table: &Definition) -> impl Iterator<Item = Column<'_>> {
    let fields = table.schema.file.fields().iter();
    fields.map(|field| Column::of(field))
}

/// Returns the columns kept in the names of its folders.
pub(crate) fn in_folders(table: &Definition) -> impl Iterator<Item = Column<'_>> {
    table.schema.partitions.iter().map(Column::of)
}
