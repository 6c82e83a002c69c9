//! What an engine must be told to read the lake: statements generated from the declared tables.
//!
//! | engine | what is generated | how it reads |
//! |---|---|---|
//! | [`Engine::Athena`] | external tables over the Delta logs | live files only |
//! | [`Engine::Hive`] | external partitioned tables over the folders (Hive, Spark with a metastore) | Hive Parquet |
//! | [`Engine::Spark`] | one table for each, in the session's catalog | Hive Parquet |
//! | [`Engine::DuckDb`] | one view for each table | Hive Parquet |
//! | [`Engine::ClickHouse`] | tables of ClickHouse's own, and views of single kinds of event | loaded |
//! | [`Engine::ClickHouseLoad`] | the statements that load those tables anew, each swapped in whole | Delta logs |
//! | [`Engine::Trino`] | registration of the Delta tables in Trino's catalog | live files only |
//! | [`Engine::Glue`] | tables for Terraform, as the JSON of a variable | Hive Parquet |
//!
//! Each table appears as `<prefix><layer>.<name>`, so that `final.vehicle_day` is asked for by the same name
//! everywhere when the prefix is empty.
//!
//! Invariant: the text follows from the declarations and the target alone, so what is checked in can be compared
//! with what would be generated. What this crate does not do: connect to anything.

mod clickhouse;
mod duckdb;
mod glue;
mod hive;
mod kind;
mod trino;

use lake_models::Definition;

/// Who is to read the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Amazon Athena, engine version 3.
    Athena,
    /// Apache Hive, or Spark with a metastore.
    Hive,
    /// A session of Spark SQL.
    Spark,
    /// `DuckDB`.
    DuckDb,
    /// `ClickHouse`: its tables.
    ClickHouse,
    /// `ClickHouse`: loading its tables.
    ClickHouseLoad,
    /// Trino, with a catalog of its Delta Lake connector named `delta`.
    Trino,
    /// AWS Glue, through Terraform.
    Glue,
}

impl Engine {
    /// Tells whether databases of others are likely to be beside ours, so that a prefix is good to have.
    pub fn is_shared(self) -> bool {
        !matches!(self, Self::Spark | Self::DuckDb)
    }
}

/// Where the lake is, and how its tables are to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The lake's root: `s3://bucket/prefix`, or the absolute path of a folder.
    pub root: String,
    /// Put before the layers' names.
    pub prefix: String,
}

impl Target {
    fn database(&self, table: &Definition) -> String {
        format!("{}{}", self.prefix, table.layer)
    }

    /// Returns the folder of a table, without a slash at its end.
    fn location(&self, table: &Definition) -> String {
        format!("{}/{}", self.root.trim_end_matches('/'), table.folder())
    }

    fn is_bucket(&self) -> bool {
        self.root.starts_with("s3://")
    }
}

/// Returns what `engine` must be told.
pub fn render(engine: Engine, tables: &[Definition], target: &Target) -> String {
    match engine {
        Engine::Athena => hive::athena(tables, target),
        Engine::Hive => hive::hive(tables, target),
        Engine::Spark => hive::spark(tables, target),
        Engine::DuckDb => duckdb::views(tables, target),
        Engine::ClickHouse => clickhouse::tables(tables, target),
        Engine::ClickHouseLoad => clickhouse::load(tables, target),
        Engine::Trino => trino::register(tables, target),
        Engine::Glue => glue::variables(tables, target),
    }
}

/// Returns the files under `deploy/` that are generated, each with its content: for a lake in a bucket that is to
/// be replaced by one's own.
pub fn checked_in(tables: &[Definition]) -> Vec<(&'static str, String)> {
    let files = [
        (Engine::Athena, "engines/athena.sql"),
        (Engine::Hive, "engines/hive.sql"),
        (Engine::Spark, "engines/spark.sql"),
        (Engine::DuckDb, "engines/duckdb.sql"),
        (Engine::ClickHouse, "engines/clickhouse.sql"),
        (Engine::ClickHouseLoad, "engines/clickhouse_load.sql"),
        (Engine::Trino, "engines/trino.sql"),
        (Engine::Glue, "terraform/tables.auto.tfvars.json"),
    ];
    let file = |(engine, file): (Engine, &'static str)| {
        let prefix = if engine.is_shared() { "lastmile_" } else { "" };
        let target = Target {
            root: "s3://example-bucket/fleet".to_owned(),
            prefix: prefix.to_owned(),
        };
        (file, render(engine, tables, &target))
    };
    files.into_iter().map(file).collect()
}

/// Quotes a text for SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns the layers' databases, each once.
fn databases(tables: &[Definition], target: &Target) -> Vec<String> {
    let mut names: Vec<String> = tables.iter().map(|table| target.database(table)).collect();
    names.dedup();
    names
}
