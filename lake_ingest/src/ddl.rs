//! `lake_ingest ddl`: what another engine must be told.

use std::collections::BTreeSet;

use lake::storage::Access;
use lake_ddl::{Target, render};
use lake_models::{Model, catalog};
use service::BoxError;

use crate::settings::{Config, Engine};
use crate::{job, print, status};

/// Prints the statements for this lake.
pub(crate) async fn show(
    config: &Config,
    engine: Engine,
    prefix: Option<&str>,
    all: bool,
) -> Result<(), BoxError> {
    let engine = match engine {
        Engine::Athena => lake_ddl::Engine::Athena,
        Engine::Hive => lake_ddl::Engine::Hive,
        Engine::Spark => lake_ddl::Engine::Spark,
        Engine::Duckdb => lake_ddl::Engine::DuckDb,
        Engine::Clickhouse => lake_ddl::Engine::ClickHouse,
        Engine::ClickhouseLoad => lake_ddl::Engine::ClickHouseLoad,
        Engine::Trino => lake_ddl::Engine::Trino,
        Engine::Glue => lake_ddl::Engine::Glue,
    };
    let models = job::models(config)?;
    let mut tables = catalog(&models).await?;
    // Terraform makes the tables before anything is in them.
    if !all && engine != lake_ddl::Engine::Glue {
        let filled = filled(config, &models).await?;
        tables.retain(|table| filled.contains(&table.full_name()));
        if tables.is_empty() {
            return Err(
                "the lake has no rows yet; run lake_ingest --once, or ask for --all tables".into(),
            );
        }
    }
    let usual = if engine.is_shared() { "lastmile_" } else { "" };
    let target = Target {
        root: root(config)?,
        prefix: prefix.unwrap_or(usual).to_owned(),
    };
    let statements = render(engine, &tables, &target);
    print::out(|out| Ok(out.write_all(statements.as_bytes())?))
}

/// Returns the names of the tables that have rows, `layer.name`.
pub(crate) async fn filled(
    config: &Config,
    models: &[Model],
) -> Result<BTreeSet<String>, BoxError> {
    config.lake.open().check(Access::Read).await?;
    let held = status::held(&config.lake, models, config.upkeep.small()).await?;
    let with_rows = held.into_iter().filter(|held| held.rows > 0);
    Ok(with_rows.map(|held| held.table).collect())
}

/// Returns the lake's root: `s3://…`, or an absolute path.
pub(crate) fn root(config: &Config) -> Result<String, BoxError> {
    Ok(match config.lake.folder() {
        Some(folder) => std::path::absolute(folder)?.display().to_string(),
        None => config.lake.to_string(),
    })
}

/// Returns a root as Hadoop names it.
pub(crate) fn uri(root: &str) -> String {
    match root.strip_prefix("s3://") {
        Some(rest) => format!("s3a://{rest}"),
        None => format!("file://{root}"),
    }
}
