//! From settings to work: one of the subcommands, one run, or runs on the schedule.

use std::sync::Arc;
use std::time::Duration;

use lake::schedule;
use service::{BoxError, Common, Context, ErrorChain, Problems, Program, Stage, admin};
use tokio::sync::Mutex;

use crate::job::{self, Job, PATIENCE, Report};
use crate::metrics::Metrics;
use crate::settings::{Command, Config, Format, Settings};
use crate::status::{self, Status};
use crate::{print, store_file};

/// The program.
#[derive(Debug)]
pub struct LakeIngest;

impl Program for LakeIngest {
    const NAME: &'static str = "lake_ingest";
    const ABOUT: &'static str = "\
Takes history from the store to an open data lake, runs SQL models over it, and answers queries.

Every row the store has committed goes, exactly once, to Parquet files in Hive folders by event date, which are \
Delta tables as well: DuckDB, Spark, Trino, ClickHouse, Polars and pandas read them. A run that dies at any \
moment is repaired by the next. Without a subcommand it runs on a schedule until it is stopped; --once runs now \
and ends, which is what Airflow or a Kubernetes CronJob calls.

  lake_ingest --once
  lake_ingest query \"SELECT date, SUM(driven_meters) FROM final.vehicle_position_data GROUP BY date\"
  lake_ingest status
  lake_ingest --schedule \"*/5 * * * *\"";
    type Settings = Settings;
    type Config = Config;

    fn default_log(settings: &Settings) -> &'static str {
        let scheduled = settings.command.is_none() && settings.once != Some(true);
        if scheduled { "info" } else { "warn" }
    }

    fn resolve(settings: Settings, common: &Common) -> Result<Config, Problems> {
        Config::resolve(settings, common)
    }

    async fn run(config: Config, context: Context) -> Result<(), BoxError> {
        match &config.command {
            Some(Command::Query { sql, format }) => query(&config, &context, sql, *format).await,
            Some(Command::Status { format }) => show_status(&config, *format).await,
            Some(Command::Models {}) => {
                let (_, job) = job_of(&config, &context, PATIENCE).await?;
                let report = job.run_models(&context).await?;
                print::report(&report, config.summary)
            }
            None if config.once => {
                let (_, job) = job_of(&config, &context, PATIENCE).await?;
                let report = job.run(&context).await?;
                print::report(&report, config.summary)
            }
            None => serve(config, context).await,
        }
    }
}

type Store = store_sqlite::SqliteStore;

async fn job_of(
    config: &Config,
    context: &Context,
    patience: Duration,
) -> Result<(Store, Job), BoxError> {
    let store = store_file::open(&config.store).await?;
    let job = Job::new(config, Arc::new(store.clone()), &context.clock, patience)?;
    Ok((store, job))
}

async fn query(
    config: &Config,
    context: &Context,
    sql: &str,
    format: Format,
) -> Result<(), BoxError> {
    let models = job::models(config)?;
    let answer = tokio::select! {
        answer = lake_models::query(&config.lake, &models, sql) => answer?,
        () = context.tasks.stopped() => return Err("stopped before the answer was complete".into()),
    };
    print::rows(&answer, format)
}

async fn show_status(config: &Config, format: Format) -> Result<(), BoxError> {
    let store = store_file::open(&config.store).await?;
    let status = Status {
        watermarks: status::watermarks(&store).await?,
        lake: status::held(&config.lake, &job::models(config)?).await?,
    };
    print::status(&status, format)
}

/// Runs on the schedule until stopped.
async fn serve(config: Config, context: Context) -> Result<(), BoxError> {
    // A wrong model folder is a wrong setting: say so now and not at the first run.
    drop(job::models(&config)?);
    let address = admin::bind_and_serve(config.admin_listen, &context).await?;
    let health = context.health.component("runs");
    let metrics = Metrics::new(&context);
    let (schedule, inner) = (config.schedule.clone(), context.clone());
    context
        .tasks
        .spawn(Stage::Drain, "schedule", async move |_| {
            // The first signal ends the waiting; a run that has begun ends at its next whole step.
            let stop = inner.tasks.token(Stage::Intake);
            let opened = Mutex::new(None);
            schedule::run(&schedule, inner.clock.as_ref(), &stop, || async {
                let started_us = inner.clock.now().as_micros();
                match scheduled(&config, &inner, &opened).await {
                    Ok((report, watermarks)) => {
                        metrics.ran(started_us, &report, &watermarks);
                        health.ready();
                        tell(&report);
                    }
                    Err(error) => {
                        metrics.failed();
                        let chain = ErrorChain(error.as_ref()).to_string();
                        tracing::error!(
                            error = chain,
                            "a run failed; the next one goes on from there"
                        );
                        health.not_ready(format!("the last run failed: {chain}"));
                    }
                }
            })
            .await;
            inner.tasks.token(Stage::Drain).cancelled().await;
            Ok(())
        });
    let first = context.health.component("runs");
    first.ready();
    context.announce_ready(LakeIngest::NAME, &[("admin", address)]);
    Ok(())
}

/// One run of the schedule; opens the store at the first that finds it.
async fn scheduled(
    config: &Config,
    context: &Context,
    opened: &Mutex<Option<(Store, Job)>>,
) -> Result<(Report, Vec<status::Watermark>), BoxError> {
    let mut opened = opened.lock().await;
    let (store, job) = match &mut *opened {
        Some(opened) => opened,
        none => none.insert(job_of(config, context, Duration::ZERO).await?),
    };
    let report = job.run(context).await?;
    let watermarks = status::watermarks(store).await?;
    Ok((report, watermarks))
}

fn tell(report: &Report) {
    let Some(offload) = &report.offload else {
        return;
    };
    let ran = report
        .models
        .iter()
        .filter(|model| model.partitions_written > 0);
    tracing::info!(
        rows = offload.rows(),
        bytes = offload.bytes(),
        elapsed_ms = offload.seconds * 1e3,
        models_changed = ran.count(),
        interrupted = report.interrupted,
        "run ended"
    );
}
