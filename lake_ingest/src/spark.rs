//! `lake_ingest models --engine spark`: the same models, on a cluster.
//!
//! A job is a folder: the models' SQL as it is, where raw is, and the program that runs them (deploy/spark/models.py).
//! It is submitted here, or only written. Results go beside the lake's own tables, whose logs have one writer.
//!
//! Not done here: the lease. Spark reads raw, whose files never change, and writes where nobody else does.

use std::path::Path;

use lake_ddl::{Engine, Target, render};
use lake_models::{Layer, Model, catalog};
use service::{BoxError, Context};
use tokio::process::Command;

use crate::settings::{Config, SparkSettings};
use crate::{ddl, job, print};

/// The program that runs the models.
const PROGRAM: &str = include_str!("../../deploy/spark/models.py");

/// Writes the job, and submits it unless only a folder was asked for.
pub(crate) async fn run(
    config: &Config,
    context: &Context,
    select: &[String],
    settings: &SparkSettings,
) -> Result<(), BoxError> {
    let models = job::models(config)?;
    job::selected(models.clone(), select)?;
    let root = ddl::root(config)?;
    let beside = || format!("{}/spark", ddl::uri(&root));
    let output = settings.spark_output.clone().unwrap_or_else(beside);
    let tables = tables(config, &models, &root).await?;
    if let Some(folder) = &settings.job {
        write(folder, &models, &tables)?;
        let text = format!(
            "wrote {0}; submit it with\n  {1} {0}/models.py --job {0} --output {output}\n",
            folder.display(),
            settings.spark_submit
        );
        return print::out(|out| Ok(out.write_all(text.as_bytes())?));
    }
    let folder = tempfile::Builder::new()
        .prefix("lastmile-spark-")
        .tempdir()?;
    write(folder.path(), &models, &tables)?;
    let mut words = settings.spark_submit.split_whitespace();
    let program = words.next().ok_or("--spark-submit names no program")?;
    let mut command = Command::new(program);
    command
        .args(words)
        .arg(folder.path().join("models.py"))
        .arg("--job")
        .arg(folder.path())
        .args(["--output", &output])
        .args(select.iter().flat_map(|name| ["--select", name]))
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| {
        format!(
            "cannot start {program}: {error}; install Spark or name its spark-submit with --spark-submit"
        )
    })?;
    let status = tokio::select! {
        status = child.wait() => status?,
        () = context.tasks.stopped() => return Err("stopped before Spark was done".into()),
    };
    if status.success() {
        return Ok(());
    }
    Err(format!("{program} failed ({status}); what it printed says why").into())
}

/// Returns the statements that make raw's tables known. One that nothing was ever sent for is empty, as it is to this
/// process: it has no folder to look for partitions in.
async fn tables(config: &Config, models: &[Model], root: &str) -> Result<String, BoxError> {
    let filled = ddl::filled(config, models).await?;
    let mut tables = catalog(models).await?;
    tables.retain(|table| table.layer == "raw");
    if !tables
        .iter()
        .any(|table| filled.contains(&table.full_name()))
    {
        return Err("the lake has no rows yet; run lake_ingest offload".into());
    }
    let target = Target {
        root: root.to_owned(),
        prefix: String::new(),
    };
    let known = tables.iter().map(|table| {
        let statements = render(Engine::Spark, std::slice::from_ref(table), &target);
        let is_filled = filled.contains(&table.full_name());
        let lines = statements.split_inclusive('\n');
        lines
            .filter(|line| is_filled || !line.starts_with("MSCK"))
            .collect::<String>()
    });
    Ok(known.collect())
}

fn write(folder: &Path, models: &[Model], tables: &str) -> Result<(), BoxError> {
    for layer in [Layer::Treated, Layer::Final] {
        std::fs::create_dir_all(folder.join(layer.as_str()))?;
    }
    for model in models {
        std::fs::write(folder.join(format!("{}.sql", model.folder())), &model.sql)?;
    }
    std::fs::write(folder.join("tables.sql"), tables)?;
    std::fs::write(folder.join("models.py"), PROGRAM)?;
    Ok(())
}
