//! Trino: its Delta Lake connector reads the logs; a table has only to be registered.

use lake_models::Definition;

use crate::{Target, databases, quoted};

/// `CREATE SCHEMA` and `register_table` fail when what they make is there already; `trino --ignore-errors` goes on.
pub(crate) fn register(tables: &[Definition], target: &Target) -> String {
    let mut parts = Vec::new();
    for name in databases(tables, target) {
        parts.push(format!("CREATE SCHEMA IF NOT EXISTS delta.\"{name}\";\n"));
    }
    for table in tables {
        let location = if target.is_bucket() {
            target.location(table)
        } else {
            format!("file://{}", target.location(table))
        };
        parts.push(format!(
            "\n-- {}\nCALL delta.system.register_table(schema_name => {}, table_name => {}, table_location => {});\n",
            table.about,
            quoted(&target.database(table)),
            quoted(&table.name),
            quoted(&location),
        ));
    }
    parts.concat()
}
