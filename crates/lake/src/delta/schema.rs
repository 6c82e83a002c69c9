//! Arrow types in the words of a Delta schema.

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde_json::{Value, json};

use crate::entity::TableSchema;

/// Returns the schema as Delta's JSON text, or the first column whose type Delta has no word for.
///
/// # Errors
/// The name of that column.
pub fn schema_string(schema: &TableSchema) -> Result<String, String> {
    let columns = schema.file.fields().iter().map(AsRef::as_ref);
    let fields = columns
        .chain(&schema.partitions)
        .map(|field| column(field).ok_or_else(|| field.name().clone()));
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "type": "struct", "fields": fields }).to_string())
}

fn column(field: &Field) -> Option<Value> {
    let holds = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string",
        DataType::Binary => "binary",
        DataType::Boolean => "boolean",
        DataType::Int32 => "integer",
        DataType::Int64 => "long",
        DataType::Float64 => "double",
        DataType::Date32 => "date",
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp",
        _ => return None,
    };
    // Every column may be absent to Delta: that is what lets a later version add or relax one.
    Some(json!({ "name": field.name(), "type": holds, "nullable": true, "metadata": {} }))
}
