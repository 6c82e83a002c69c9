//! `ClickHouse`: tables of its own, and the statements that load them from the lake.
//!
//! Loading goes to a second table, made as the columns are declared now, which then takes the first one's place in one
//! step: readers see the old content and columns or the new, and running it twice does no harm.

use lake::entities::FLEET_EVENT;
use lake_models::Definition;
use model::fleet_event::{FleetAction, FleetSubject};

use crate::kind::{Column, Kind, in_files, in_folders};
use crate::{Target, databases, quoted};

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Bytes => "String",
        Kind::Boolean => "Bool",
        Kind::Integer => "Int32",
        Kind::Long => "Int64",
        Kind::Number => "Float64",
        Kind::Date => "Date32",
        Kind::Instant => "DateTime64(6, 'UTC')",
    }
}

/// What rows are sorted by may not be null: `ClickHouse` would refuse it. The lake never leaves it out, except a
/// partition whose rows have no date, which is put at the beginning of time.
fn column(table: &Definition, column: Column<'_>) -> String {
    let word = word(column.kind);
    let key = table.order.iter().any(|name| name == column.name);
    let folder = table
        .schema
        .partitions
        .iter()
        .any(|field| field.name() == column.name);
    if key || folder {
        format!("  `{}` {word}", column.name)
    } else {
        format!("  `{}` Nullable({word})", column.name)
    }
}

/// The kinds of fleet event there are.
const EVENTS: [(FleetSubject, FleetAction); 5] = [
    (FleetSubject::Vehicle, FleetAction::Register),
    (FleetSubject::Vehicle, FleetAction::Update),
    (FleetSubject::Vehicle, FleetAction::Deregister),
    (FleetSubject::OperatingPeriod, FleetAction::Create),
    (FleetSubject::OperatingPeriod, FleetAction::Delete),
];

pub(crate) fn tables(tables: &[Definition], target: &Target) -> String {
    let mut parts = Vec::new();
    for name in databases(tables, target) {
        parts.push(format!("CREATE DATABASE IF NOT EXISTS `{name}`;\n"));
    }
    for table in tables {
        let if_new = format!("IF NOT EXISTS {}", name(table, target));
        parts.push(format!("\n{}", create(table, &if_new)));
    }
    let events = tables
        .iter()
        .find(|table| table.folder() == FLEET_EVENT.folder());
    for (on, event) in events.iter().flat_map(|_| EVENTS) {
        let (on, event) = (on.as_str(), event.as_str());
        parts.push(format!(
            "\nCREATE VIEW IF NOT EXISTS `{prefix}raw`.`{on}_{event}` AS\nSELECT * FROM `{prefix}raw`.`fleet_event` WHERE on = '{on}' AND event = '{event}';\n",
            prefix = target.prefix,
        ));
    }
    parts.concat()
}

fn create(table: &Definition, name: &str) -> String {
    let columns = in_files(table).chain(in_folders(table));
    let columns: Vec<_> = columns.map(|one| column(table, one)).collect();
    format!(
        "CREATE TABLE {name} (\n{}\n)\nENGINE = MergeTree\nPARTITION BY {}\nORDER BY ({})\nCOMMENT {};\n",
        columns.join(",\n"),
        partition(table),
        order(table).join(", "),
        quoted(&table.about),
    )
}

pub(crate) fn load(tables: &[Definition], target: &Target) -> String {
    let mut parts = Vec::new();
    for table in tables {
        let name = name(table, target);
        let fresh = format!("`{}`.`{}_fresh`", target.database(table), table.name);
        let columns: Vec<_> = in_files(table).chain(in_folders(table)).collect();
        let names: Vec<_> = columns
            .iter()
            .map(|one| format!("`{}`", one.name))
            .collect();
        let values: Vec<_> = columns.iter().map(|one| value(table, *one)).collect();
        let function = if target.is_bucket() {
            "deltaLake"
        } else {
            "deltaLakeLocal"
        };
        parts.push(format!(
            "DROP TABLE IF EXISTS {fresh};\n{}INSERT INTO {fresh} ({})\nSELECT {}\nFROM {function}({});\nEXCHANGE TABLES {name} AND {fresh};\nDROP TABLE {fresh};\n\n",
            create(table, &fresh),
            names.join(", "),
            values.join(", "),
            quoted(&format!("{}/", target.location(table))),
        ));
    }
    parts.concat()
}

/// A key's column is not nullable, and the reader gives a nullable one.
fn value(table: &Definition, one: Column<'_>) -> String {
    let declared = column(table, one);
    if declared.contains("Nullable(") {
        format!("`{}`", one.name)
    } else {
        let word = word(one.kind);
        format!("CAST(assumeNotNull(`{}`), {})", one.name, quoted(word))
    }
}

fn name(table: &Definition, target: &Target) -> String {
    format!("`{}`.`{}`", target.database(table), table.name)
}

/// By month, so that years of history stay a few dozen partitions.
fn partition(table: &Definition) -> String {
    let date = in_folders(table).find(|column| column.kind == Kind::Date);
    date.map_or_else(
        || "tuple()".to_owned(),
        |column| format!("toYYYYMM(`{}`)", column.name),
    )
}

fn order(table: &Definition) -> Vec<String> {
    table.order.iter().map(|name| format!("`{name}`")).collect()
}
