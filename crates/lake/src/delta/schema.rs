//! Arrow types in the words of a Delta schema.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde::Deserialize;
use serde_json::{Value, json};

use super::action::Metadata;
use crate::entity::{TableSchema, instant};

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

#[derive(Deserialize)]
struct Struct {
    fields: Vec<StructField>,
}

#[derive(Deserialize)]
struct StructField {
    name: String,
    #[serde(rename = "type")]
    holds: Value,
}

/// Returns the schema a table's log states; `None` when it has types this lake never writes.
pub fn arrow_schema(metadata: &Metadata) -> Option<TableSchema> {
    let schema: Struct = serde_json::from_str(&metadata.schema_string).ok()?;
    let fields = schema.fields.into_iter().map(|field| {
        let holds = match field.holds.as_str()? {
            "string" => DataType::Utf8,
            "binary" => DataType::Binary,
            "boolean" => DataType::Boolean,
            "integer" => DataType::Int32,
            "long" => DataType::Int64,
            "double" => DataType::Float64,
            "date" => DataType::Date32,
            "timestamp" => instant(),
            _ => return None,
        };
        Some(Field::new(field.name, holds, true))
    });
    let fields = fields.collect::<Option<Vec<_>>>()?;
    let is_partition = |field: &Field| metadata.partition_columns.contains(field.name());
    let (mut partitions, file): (Vec<_>, Vec<_>) = fields.into_iter().partition(is_partition);
    partitions.sort_by_key(|field| {
        let place = metadata
            .partition_columns
            .iter()
            .position(|name| name == field.name());
        place.unwrap_or_default()
    });
    Some(TableSchema {
        file: Arc::new(Schema::new(file)),
        partitions,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::delta::Format;
    use crate::entities::FLEET_EVENT;

    #[test]
    fn a_schema_survives_its_text() {
        let schema = FLEET_EVENT.schema();
        let metadata = Metadata {
            id: String::new(),
            format: Format {
                provider: "parquet".to_owned(),
                options: BTreeMap::new(),
            },
            schema_string: schema_string(&schema).unwrap(),
            partition_columns: vec!["event_date".to_owned(), "event".to_owned()],
            configuration: BTreeMap::new(),
            created_time: None,
        };
        let read = arrow_schema(&metadata).unwrap();
        assert_eq!(read.partitions, schema.partitions);
        let pairs = read.file.fields().iter().zip(schema.file.fields());
        for (read, declared) in pairs {
            assert_eq!(read.name(), declared.name());
            assert_eq!(read.data_type(), declared.data_type());
        }
    }
}
