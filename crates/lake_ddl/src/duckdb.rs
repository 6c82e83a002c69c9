//! `DuckDB`'s views over the folders.

use lake_models::Definition;

use crate::kind::{Kind, in_files, in_folders};
use crate::{Target, databases, quoted};

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "VARCHAR",
        Kind::Bytes => "BLOB",
        Kind::Boolean => "BOOLEAN",
        Kind::Integer => "INTEGER",
        Kind::Long => "BIGINT",
        Kind::Number => "DOUBLE",
        Kind::Date => "DATE",
        Kind::Instant => "TIMESTAMP WITH TIME ZONE",
    }
}

/// The columns are named one by one, so that a view has the declared order and types whatever file is read
/// first; columns that older files lack are null.
pub(crate) fn views(tables: &[Definition], target: &Target) -> String {
    let mut parts = Vec::new();
    for name in databases(tables, target) {
        parts.push(format!("CREATE SCHEMA IF NOT EXISTS \"{name}\";\n"));
    }
    for table in tables {
        let types = in_folders(table)
            .map(|column| format!("{}: '{}'", quoted(column.name), word(column.kind)));
        let columns = in_files(table).chain(in_folders(table)).map(|column| {
            let (name, word) = (column.name, word(column.kind));
            format!("  CAST(\"{name}\" AS {word}) AS \"{name}\"")
        });
        // By name: the folder of the Delta log holds checkpoints, which are Parquet, too.
        let folders = table.schema.partitions.iter();
        let folders: Vec<_> = folders
            .map(|column| format!("/{}=*", column.name()))
            .collect();
        let folders = folders.concat();
        parts.push(format!(
            "\n-- {}\nCREATE OR REPLACE VIEW \"{}\".\"{}\" AS SELECT\n{}\nFROM read_parquet({}, hive_partitioning = true, hive_types = {{{}}}, union_by_name = true);\n",
            table.about,
            target.database(table),
            table.name,
            columns.collect::<Vec<_>>().join(",\n"),
            quoted(&format!("{}{folders}/*.parquet", target.location(table))),
            types.collect::<Vec<_>>().join(", "),
        ));
    }
    parts.concat()
}
