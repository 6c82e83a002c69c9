//! From settings to work: one of the subcommands, one run, or runs on the schedule.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lake::schedule;
use lake::storage::Access;
use service::{
    BoxError, Common, ComponentHealth, Context, ErrorChain, Problems, Program, Stage, admin,
};
use store::{LakeSource, Store};

use crate::background::{Background, Held};
use crate::job::{self, Job, PATIENCE, Report};
use crate::last_run::LastRun;
use crate::metrics::Metrics;
use crate::settings::{Command, Config, Format, ModelEngine, Settings};
use crate::status::{self, Status};
use crate::upkeep::Task;
use crate::{ddl, opening, print, query_server, spark};

/// The program.
#[derive(Debug)]
pub struct LakeIngest;

impl Program for LakeIngest {
    const NAME: &'static str = "lake_ingest";
    const ABOUT: &'static str = "\
Takes history from the store to an open data lake, runs SQL models over it, and answers queries.

Every row the store has committed goes, exactly once, to Parquet files in Hive folders by event date, which are \
Delta tables as well: DuckDB, Spark, Trino, ClickHouse, Polars and pandas read them. The lake is a folder or a bucket \
of S3 or of anything that speaks it and knows If-None-Match. A run that dies at any \
moment is repaired by the next. The store is DIR/store.sqlite or the MongoDB that MONGODB_URI names. Without a subcommand it runs on a schedule until it is stopped; --once runs now \
and ends, which is what Airflow or a Kubernetes CronJob calls.

  lake_ingest --once
  lake_ingest --date 2026-11-20              (offload, compute that date's models anew, compare store and lake)
  lake_ingest query \"SELECT date, SUM(driven_meters) FROM final.vehicle_position_data GROUP BY date\"
  lake_ingest status
  lake_ingest --lake s3://my-lake/fleet --s3-endpoint http://127.0.0.1:9000 --once
  lake_ingest --schedule \"*/5 * * * *\"
  lake_ingest start                          (the same in the background; then stop, status, logs -f)";
    type Settings = Settings;
    type Config = Config;

    fn default_log(settings: &Settings) -> &'static str {
        if settings.is_service() {
            "info"
        } else {
            "warn"
        }
    }

    fn health_address(config: &Config) -> Option<SocketAddr> {
        Some(config.admin_listen)
    }

    fn resolve(settings: Settings, common: &Common) -> Result<Config, Problems> {
        Config::resolve(settings, common)
    }

    async fn run(config: Config, context: Context) -> Result<(), BoxError> {
        match &config.command {
            Some(Command::Query { sql, format }) => query(&config, &context, sql, *format).await,
            Some(Command::Status { format }) => show_status(&config, &context, *format).await,
            Some(Command::Answer {}) => query_server::worker::answer(&config).await,
            Some(Command::Ddl {
                engine,
                prefix,
                all,
            }) => ddl::show(&config, *engine, prefix.as_deref(), *all).await,
            Some(Command::Offload {}) => {
                let store = opening::now(&config.store, &context).await?;
                let job = Job::new(&config, store, &context.clock, PATIENCE)?;
                let report = job.without_models().run(&context).await?;
                print::report(&report, config.summary)
            }
            Some(Command::Models {
                select,
                engine: ModelEngine::Spark,
                spark,
            }) => spark::run(&config, &context, select, spark).await,
            Some(Command::Models { select, .. }) => {
                let store = opening::now(&config.store, &context).await?;
                let job = Job::new(&config, store, &context.clock, PATIENCE)?;
                let job = job.with_only(select)?;
                let report = job.run_models(&context).await?;
                print::report(&report, config.summary)
            }
            None if config.once => {
                let store = opening::now(&config.store, &context).await?;
                let job = Job::new(&config, store, &context.clock, PATIENCE)?;
                let report = noted(&config, &context, job.run(&context)).await?;
                print::report(&report, config.summary)?;
                report.agrees()
            }
            Some(Command::Start { here: false }) => start(&config, &context).await,
            Some(Command::Start { here: true }) => {
                let held = Background::new(&config.data).hold().await?;
                serve(config, context, Some(held)).await
            }
            Some(Command::Compact {}) => keep_up(&config, &context, Task::Compact).await,
            Some(Command::Vacuum {}) => keep_up(&config, &context, Task::Vacuum).await,
            Some(Command::Stop {}) => stop(&config).await,
            Some(Command::Logs { follow, lines }) => {
                let background = Background::new(&config.data);
                background.logs(*lines, *follow, &context).await
            }
            None => serve(config, context, None).await,
        }
    }
}

async fn query(
    config: &Config,
    context: &Context,
    sql: &str,
    format: Format,
) -> Result<(), BoxError> {
    let models = job::models(config)?;
    let answered = async {
        config.lake.open().check(Access::Read).await?;
        Ok::<_, BoxError>(lake_models::query(&config.lake, &models, sql).await?)
    };
    let answer = tokio::select! {
        answer = answered => answer?,
        () = context.tasks.stopped() => return Err("stopped before the answer was complete".into()),
    };
    print::rows(&answer, format)
}

async fn start(config: &Config, context: &Context) -> Result<(), BoxError> {
    let background = Background::new(&config.data);
    let running = background.start(context).await?;
    let log = background.log_file();
    print::out(|to| {
        let admin = running.admin.unwrap_or_default();
        let (pid, log) = (running.pid, log.display());
        writeln!(
            to,
            "lake_ingest runs as process {pid}: http://{admin}/readyz, log at {log}"
        )?;
        Ok(())
    })
}

/// What a stop takes beyond the service's own time for it: its last words, the end of the process.
const LAST_WORDS: Duration = Duration::from_secs(5);

async fn stop(config: &Config) -> Result<(), BoxError> {
    let background = Background::new(&config.data);
    let stopped = background.stop(config.stop_timeout + LAST_WORDS).await?;
    print::out(|to| {
        match stopped {
            Some(pid) => writeln!(to, "lake_ingest, process {pid}, has stopped")?,
            None => writeln!(to, "lake_ingest did not run")?,
        }
        Ok(())
    })
}

async fn keep_up(config: &Config, context: &Context, task: Task) -> Result<(), BoxError> {
    let store = opening::now(&config.store, context).await?;
    let job = Job::new(config, store, &context.clock, PATIENCE)?;
    let kept = job.keep_up(task, context).await?;
    print::upkeep(&kept, config.summary)
}

/// Does a run and notes what became of it.
async fn noted(
    config: &Config,
    context: &Context,
    run: impl Future<Output = Result<Report, BoxError>>,
) -> Result<Report, BoxError> {
    let clock = context.clock.as_ref();
    let began = clock.now().to_string();
    let outcome = run.await;
    let noted = match &outcome {
        Ok(report) => match report.agrees() {
            Ok(()) => Ok(report),
            Err(error) => Err(error.to_string()),
        },
        Err(error) => Err(ErrorChain(error.as_ref()).to_string()),
    };
    LastRun::new(clock, began, noted).keep(&config.data);
    outcome
}

async fn show_status(config: &Config, context: &Context, format: Format) -> Result<(), BoxError> {
    let service = Background::new(&config.data).running()?;
    let last_run = LastRun::read(&config.data);
    if format == Format::Table {
        // Said also where the store is not there.
        print::service(service.as_ref(), last_run.as_ref())?;
    }
    let store = opening::now(&config.store, context).await?;
    config.lake.open().check(Access::Read).await?;
    let status = Status {
        service,
        last_run,
        watermarks: status::watermarks(store.as_ref()).await?,
        lake: status::held(&config.lake, &job::models(config)?, config.upkeep.small()).await?,
    };
    print::status(&status, format)
}

/// Runs on the schedule until stopped.
async fn serve(config: Config, context: Context, mut held: Option<Held>) -> Result<(), BoxError> {
    // A wrong model folder is a wrong setting: say so now and not at the first run.
    drop(job::models(&config)?);
    let address = admin::bind_and_serve(config.admin_listen, &context).await?;
    let queries = query_server::start(&config, &context).await?;
    let health = context.health.component("runs");
    health.ready();
    if let Some(held) = &mut held {
        held.is_ready(address)?;
    }
    let pid_file = held;
    let mut runs = Runs {
        metrics: Metrics::new(&context),
        health,
        context: context.clone(),
    };
    context
        .tasks
        .spawn(Stage::Drain, "schedule", async move |_| {
            let _until_the_end = pid_file;
            runs.until_stopped(&config).await?;
            runs.context.tasks.token(Stage::Drain).cancelled().await;
            Ok(())
        });
    let mut addresses = vec![("admin", address)];
    addresses.extend(queries.map(|address| ("query", address)));
    context.announce_ready(LakeIngest::NAME, &addresses);
    Ok(())
}

/// First pause after a run that met an outage, doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause; also how late it may be noticed that the outage is over.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The runs of the schedule.
struct Runs {
    metrics: Metrics,
    health: ComponentHealth,
    context: Context,
}

impl Runs {
    /// Waits for the store, then runs whenever the schedule says.
    async fn until_stopped(&mut self, config: &Config) -> Result<(), BoxError> {
        let context = &self.context;
        let Some(store) = config.store.open_existing(context, None).await? else {
            return Ok(());
        };
        let source = Arc::clone(&store) as Arc<dyn LakeSource>;
        let job = Job::new(config, source, &context.clock, Duration::ZERO)?;
        // The first signal ends the waiting; a run that has begun ends at its next whole step.
        let stop = context.tasks.token(Stage::Intake);
        let this = &*self;
        schedule::run(&config.schedule, context.clock.as_ref(), &stop, || {
            this.run(config, &job, store.as_ref())
        })
        .await;
        Ok(())
    }

    /// One run; one that meets an outage is tried again until the outage is over, however rare the schedule.
    async fn run(&self, config: &Config, job: &Job, store: &dyn Store) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started_us = self.context.clock.now().as_micros();
            let error = match self.once(config, job, store).await {
                Ok((report, watermarks)) => {
                    self.metrics.ran(started_us, &report, &watermarks);
                    self.health.ready();
                    tell(&report);
                    return;
                }
                Err(error) => error,
            };
            self.metrics.failed();
            let chain = ErrorChain(error.as_ref()).to_string();
            self.health
                .not_ready(format!("the last run failed: {chain}"));
            if !opening::is_outage(&error) {
                tracing::error!(
                    error = chain,
                    "a run failed; the next one goes on from there"
                );
                return;
            }
            if pause == FIRST_PAUSE {
                tracing::warn!(
                    error = chain,
                    "a run met an outage; it is tried again until it is over"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.context.tasks.stopped() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(
        &self,
        config: &Config,
        job: &Job,
        store: &dyn Store,
    ) -> Result<(Report, Vec<status::Watermark>), BoxError> {
        let report = noted(config, &self.context, job.run(&self.context)).await?;
        Ok((report, status::watermarks(store).await?))
    }
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
        purged_rows = offload.purged_rows(),
        elapsed_ms = offload.seconds * 1e3,
        models_changed = ran.count(),
        files_compacted = report
            .upkeep
            .iter()
            .filter_map(|kept| Some(kept.compacted.as_ref()?.files_before))
            .sum::<u64>(),
        interrupted = report.interrupted,
        "run ended"
    );
}
