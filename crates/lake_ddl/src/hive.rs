//! Hive's dialect: Hive itself, Athena, and Spark.

use lake_models::Definition;

use crate::kind::{Column, Kind, in_files, in_folders};
use crate::{Target, databases, quoted};

/// Returns Hive's word for what a column holds.
pub(crate) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "string",
        Kind::Bytes => "binary",
        Kind::Boolean => "boolean",
        Kind::Integer => "int",
        Kind::Long => "bigint",
        Kind::Number => "double",
        Kind::Date => "date",
        Kind::Instant => "timestamp",
    }
}

fn list<'a>(columns: impl Iterator<Item = Column<'a>>) -> String {
    let lines = columns.map(|column| format!("  `{}` {}", column.name, word(column.kind)));
    lines.collect::<Vec<_>>().join(",\n")
}

fn databases_of(tables: &[Definition], target: &Target) -> String {
    let mut parts = Vec::new();
    for name in databases(tables, target) {
        parts.push(format!("CREATE DATABASE IF NOT EXISTS `{name}`;\n"));
    }
    parts.concat()
}

/// Tables over the Delta logs: Athena takes columns, partitions and live files from the log.
pub(crate) fn athena(tables: &[Definition], target: &Target) -> String {
    let mut parts = vec![databases_of(tables, target)];
    for table in tables {
        parts.push(format!(
            "\n-- {}\nCREATE EXTERNAL TABLE `{}`.`{}`\nLOCATION {}\nTBLPROPERTIES ('table_type' = 'DELTA');\n",
            table.about,
            target.database(table),
            table.name,
            quoted(&format!("{}/", target.location(table))),
        ));
    }
    parts.concat()
}

/// Partitioned tables over the folders. New dates are seen after `MSCK REPAIR TABLE`, which is repeated here.
pub(crate) fn hive(tables: &[Definition], target: &Target) -> String {
    let mut parts = vec![databases_of(tables, target)];
    for table in tables {
        let name = format!("`{}`.`{}`", target.database(table), table.name);
        parts.push(format!(
            "\nCREATE EXTERNAL TABLE IF NOT EXISTS {name} (\n{}\n)\nCOMMENT {}\nPARTITIONED BY (\n{}\n)\nSTORED AS PARQUET\nLOCATION {};\nMSCK REPAIR TABLE {name};\n",
            list(in_files(table)),
            quoted(&table.about).replace("''", "\\'"),
            list(in_folders(table)),
            quoted(&uri(target, table)),
        ));
    }
    parts.concat()
}

/// Tables of a session, or of its metastore. The schema is stated, so that files are not opened to find it out and a column that
/// older files lack reads as null.
pub(crate) fn spark(tables: &[Definition], target: &Target) -> String {
    let mut parts = vec![databases_of(tables, target)];
    for table in tables {
        let columns = in_files(table).chain(in_folders(table));
        let folders = in_folders(table).map(|column| format!("`{}`", column.name));
        let name = format!("`{}`.`{}`", target.database(table), table.name);
        parts.push(format!(
            "\n-- {}\nCREATE TABLE IF NOT EXISTS {name} (\n{}\n)\nUSING parquet\nPARTITIONED BY ({})\nLOCATION {};\nMSCK REPAIR TABLE {name};\n",
            table.about,
            list(columns),
            folders.collect::<Vec<_>>().join(", "),
            quoted(&uri(target, table)),
        ));
    }
    parts.concat()
}

fn uri(target: &Target, table: &Definition) -> String {
    let location = target.location(table);
    if target.is_bucket() {
        // Hadoop's own connector; on EMR s3:// is an alias.
        location.replacen("s3://", "s3a://", 1)
    } else {
        format!("file://{location}")
    }
}
