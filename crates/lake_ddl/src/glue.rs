//! AWS Glue: the tables as the value of a Terraform variable (`*.auto.tfvars.json`).

use lake_models::Definition;
use serde_json::{Map, Value, json};

use crate::Target;
use crate::hive::word;
use crate::kind::{Column, in_files, in_folders};

fn columns<'a>(columns: impl Iterator<Item = Column<'a>>) -> Vec<Value> {
    let one = |column: Column<'_>| json!({ "name": column.name, "type": word(column.kind) });
    columns.map(one).collect()
}

/// The places are relative to the bucket and prefix Terraform knows.
pub(crate) fn variables(tables: &[Definition], target: &Target) -> String {
    let mut all = Map::new();
    for table in tables {
        all.insert(
            table.full_name(),
            json!({
                "database": target.database(table),
                "name": table.name,
                "description": table.about,
                "folder": table.folder(),
                "columns": columns(in_files(table)),
                "partition_keys": columns(in_folders(table)),
            }),
        );
    }
    let text = serde_json::to_string_pretty(&json!({ "tables": all }));
    // Maps with text for keys always have a JSON form.
    text.unwrap_or_default() + "\n"
}
