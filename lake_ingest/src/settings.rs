//! What can be set, and what holds once it is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use lake::schedule::CronSchedule;
use lake::{Dates, Root};
use serde::{Deserialize, Serialize};
use service::{Common, HumanDuration, ListenAddr, Problems};

use crate::dates;
use crate::query_server::{QueryConfig, QuerySettings};
use crate::s3::{S3Config, S3Settings};
use crate::upkeep::{UpkeepConfig, UpkeepSettings};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// An aligned table.
    #[default]
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON array of objects.
    Json,
}

/// How the summary of a run is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum SummaryFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// What runs the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ModelEngine {
    /// This process; results are tables of the lake
    #[default]
    Datafusion,
    /// Spark, by spark-submit; results are Parquet beside the lake's tables
    Spark,
}

/// How Spark is had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Args)]
#[serde(default, deny_unknown_fields)]
pub struct SparkSettings {
    /// How Spark is given a job, with its options
    #[arg(
        long,
        env = "LASTMILE_SPARK_SUBMIT",
        value_name = "COMMAND",
        default_value = "spark-submit"
    )]
    pub spark_submit: String,
    /// Where Spark's results go, a URL [default: the folder spark of the lake]
    #[arg(long, env = "LASTMILE_SPARK_OUTPUT", value_name = "URL")]
    pub spark_output: Option<String>,
    /// Only write Spark's job into this folder, and print how to submit it
    #[arg(long, value_name = "FOLDER")]
    pub job: Option<PathBuf>,
}

/// Who is to read the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Amazon Athena: tables over the Delta logs
    Athena,
    /// Apache Hive, or Spark with a metastore
    Hive,
    /// A session of Spark SQL
    Spark,
    /// Views of DuckDB
    Duckdb,
    /// Tables of ClickHouse
    Clickhouse,
    /// What loads ClickHouse's tables anew, each swapped in whole
    ClickhouseLoad,
    /// Trino's Delta Lake connector
    Trino,
    /// Tables of AWS Glue, for the variable of deploy/terraform
    Glue,
}

/// What to do instead of running on the schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Subcommand)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Offload everything the store has committed, run no model, and end
    Offload {},
    /// Run the models over what is in the lake, and end
    Models {
        /// Only these: a layer (treated, final) or a model (`final.vehicle_day`); may be repeated [default: all]
        #[arg(long, value_name = "NAME")]
        #[serde(default)]
        select: Vec<String>,
        /// What runs them
        #[arg(long, value_enum, default_value_t)]
        #[serde(default)]
        engine: ModelEngine,
        /// How Spark is had.
        #[command(flatten)]
        #[serde(default)]
        spark: SparkSettings,
    },
    /// Print what another engine must be told to read the lake, and end
    ///
    /// The tables are those that have rows now; the statements may be run again at any time.
    Ddl {
        /// The engine
        #[arg(value_enum)]
        engine: Engine,
        /// Put before the layers' names, which are the databases [default: lastmile_, nothing for spark and duckdb]
        #[arg(long)]
        #[serde(default)]
        prefix: Option<String>,
        /// Name all declared tables, also those that have no rows yet; some engines refuse them
        #[arg(long)]
        #[serde(default)]
        all: bool,
    },
    /// Answer one SQL query over every table of the lake, and end
    ///
    /// Tables are raw.…, treated.… and final.…; a name without its layer works where only one layer has it.
    Query {
        /// The query, for example `SELECT * FROM final.vehicle_position_data LIMIT 10`
        sql: String,
        /// How to print the answer
        #[arg(long, value_enum, default_value_t)]
        #[serde(default)]
        format: Format,
    },
    /// Put small files of treated and final together now, and end; runs do so by themselves
    Compact {},
    /// Delete files that are not live in any table of the lake, and end
    ///
    /// Files that were replaced go when --keep-replaced is over, those a dead run left after ten minutes, and in raw
    /// only those whose rows the lake has in others.
    Vacuum {},
    /// Start the service on its schedule in the background, and end once it is ready
    ///
    /// One runs for a data folder. Its log is in DIR/logs, `logs` prints it.
    Start {
        /// Be that service; `start` starts it so
        #[arg(long, hide = true)]
        #[serde(default)]
        here: bool,
    },
    /// Stop the service that `start` started, and end once it has; a run at work ends at its next whole step
    Stop {},
    /// Print the log of the service that `start` started
    Logs {
        /// Go on and print what comes
        #[arg(short, long)]
        #[serde(default)]
        follow: bool,
        /// Print so many of the last lines
        #[arg(short = 'n', long, default_value_t = 100)]
        #[serde(default)]
        lines: usize,
    },
    /// Show whether the service runs and what its last run did, how far each table is offloaded, and what the lake
    /// holds, and end
    Status {
        /// How to print it
        #[arg(long, value_enum, default_value_t)]
        #[serde(default)]
        format: Format,
    },
    /// Answer the question on standard input within limits; what queries over HTTP are answered by
    #[command(hide = true)]
    Answer {},
}

/// What may be set.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "lake_ingest")]
pub struct Settings {
    /// What to do instead of running on the schedule.
    #[command(subcommand)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// Offload everything the store has committed and run the models, once, and end
    #[arg(long, env = "LASTMILE_LAKE_ONCE", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub once: Option<bool>,
    /// Run once and look at one event date: everything the store has is offloaded, models are computed anew for that
    /// date, and the rows of the store are compared with the lake's. Exit code 1 when the lake lacks one or has one
    /// twice; same as --from DATE --to DATE
    #[arg(long, env = "LASTMILE_LAKE_DATE", value_name = "DATE")]
    pub date: Option<String>,
    /// First event date to look at, as YYYY-MM-DD; see --date [default: --to]
    #[arg(long, env = "LASTMILE_LAKE_FROM", value_name = "DATE")]
    pub from: Option<String>,
    /// Last event date to look at, as YYYY-MM-DD; see --date [default: --from]
    #[arg(long, env = "LASTMILE_LAKE_TO", value_name = "DATE")]
    pub to: Option<String>,
    /// When to run: a cron expression in UTC, five fields, or six with seconds in front. Runs never overlap; missed
    /// ones are done together in the next [default: */5 * * * *]
    #[arg(
        long,
        env = "LASTMILE_LAKE_SCHEDULE",
        value_name = "CRON",
        global = true
    )]
    pub schedule: Option<String>,
    /// Where the lake is.
    #[arg(
        long,
        env = "LASTMILE_LAKE",
        value_name = "URL",
        global = true,
        help = "Where the lake is: a folder, a file:// URL, or s3://bucket/prefix [default: DIR/lake]"
    )]
    pub lake: Option<String>,
    /// Folder with models to run instead of the ones built in (treated/*.sql, final/*.sql) [default: built in]
    #[arg(
        long,
        env = "LASTMILE_LAKE_MODELS",
        value_name = "FOLDER",
        global = true
    )]
    pub models: Option<PathBuf>,
    /// Most rows of a window, 1 to 10000000. A window is one commit, and its rows are held in memory (some 300 bytes
    /// each); too small makes many small files [default: 1000000]
    #[arg(
        long,
        env = "LASTMILE_LAKE_WINDOW_ROWS",
        value_name = "N",
        global = true
    )]
    pub window_rows: Option<u64>,
    /// How long rows have been in the lake when they are deleted from the store, for example 7d; their files are read
    /// back once more right before. Last positions stay, history by the API ends there [default: never]
    #[arg(
        long,
        env = "LASTMILE_LAKE_PURGE_AFTER",
        value_name = "TIME",
        global = true
    )]
    pub purge_after: Option<HumanDuration>,
    /// How to print the summary of --once and of models [default: text]
    #[arg(long, env = "LASTMILE_LAKE_SUMMARY", value_enum, global = true)]
    pub summary: Option<SummaryFormat>,
    /// Where to serve /healthz, /readyz and /metrics while running on the schedule [default: 127.0.0.1:9104 plus
    /// the port base]
    #[arg(
        long,
        env = "LASTMILE_ADMIN_LISTEN",
        value_name = "ADDRESS",
        global = true
    )]
    pub admin_listen: Option<ListenAddr>,
    /// The store to take from.
    #[command(flatten)]
    pub store: stores::Settings,
    /// How the lake is kept in shape.
    #[command(flatten)]
    pub upkeep: UpkeepSettings,
    /// How to reach a lake in S3.
    #[command(flatten)]
    pub s3: S3Settings,
    /// Queries over HTTP.
    #[command(flatten)]
    pub query: QuerySettings,
}

/// What holds.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// What to do instead of running on the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// Whether to run once and end.
    pub once: bool,
    /// The dates to look at, in a single run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dates: Option<Dates>,
    /// Where the service keeps its pid file and log.
    #[serde(skip)]
    pub data: PathBuf,
    /// How long the service is given to stop.
    #[serde(skip)]
    pub stop_timeout: Duration,
    /// When to run.
    pub schedule: CronSchedule,
    /// Where the lake is.
    pub lake: Root,
    /// Folder with models, instead of the ones built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<PathBuf>,
    /// Most rows of a window.
    pub window_rows: u64,
    /// How long rows have been in the lake when they are deleted from the store; never without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purge_after: Option<HumanDuration>,
    /// How to print summaries.
    pub summary: SummaryFormat,
    /// Where health and metrics are served.
    pub admin_listen: SocketAddr,
    /// How the lake is kept in shape.
    pub upkeep: UpkeepConfig,
    /// How a lake in S3 is reached.
    pub s3: S3Config,
    /// Queries over HTTP.
    pub query: QueryConfig,
    /// The store to take from.
    pub store: stores::Config,
}

/// When to run, unless said otherwise.
const DEFAULT_SCHEDULE: &str = "*/5 * * * *";

/// Most rows of a window, unless said otherwise.
const DEFAULT_WINDOW_ROWS: u64 = 1_000_000;

impl Settings {
    /// Tells whether it is the service that these settings mean, and not one thing done once.
    pub(crate) fn is_service(&self) -> bool {
        match self.command {
            None => {
                let dates = self.date.is_some() || self.from.is_some() || self.to.is_some();
                self.once != Some(true) && !dates
            }
            Some(Command::Start { here }) => here,
            Some(_) => false,
        }
    }
}

impl Config {
    /// Applies defaults and checks everything.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn resolve(settings: Settings, common: &Common) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let text = settings.schedule.as_deref().unwrap_or(DEFAULT_SCHEDULE);
        let schedule = text
            .parse::<CronSchedule>()
            .map_err(|error| problems.add("schedule", format!("is wrong: {error}")));
        let lake = match settings.lake {
            None => Ok(Root::from_folder(common.data.join("lake"))),
            Some(text) => text
                .parse::<Root>()
                .map_err(|error| problems.add("lake", error.to_string())),
        };
        let upkeep = settings.upkeep.resolve(&mut problems);
        let (s3, options) = settings.s3.resolve(&mut problems);
        let window_rows = settings.window_rows.unwrap_or(DEFAULT_WINDOW_ROWS);
        if !(1..=10_000_000).contains(&window_rows) {
            problems.add(
                "window_rows",
                format!("is {window_rows}; give 1 to 10000000"),
            );
        }
        let dates = dates::resolve(
            settings.date.as_deref(),
            settings.from.as_deref(),
            settings.to.as_deref(),
            &mut problems,
        );
        let once = dates.is_some() || settings.once == Some(true);
        if once && settings.command.is_some() {
            let given = if dates.is_some() { "date" } else { "once" };
            problems.add(given, "goes with no subcommand; give one of the two");
        }
        if dates.is_some() && settings.once == Some(false) {
            problems.add("once", "is false, and dates are looked at in a single run");
        }
        let admin_listen =
            common.listen_addr("admin_listen", settings.admin_listen, 9104, &mut problems);
        let query = settings.query.resolve(&mut problems);
        let store = stores::Config::resolve(settings.store, common)
            .map_err(|wrong| problems.extend("store", wrong));
        match (schedule, lake, store) {
            (Ok(schedule), Ok(lake), Ok(store)) => problems.or(Self {
                command: settings.command,
                once,
                dates,
                data: common.data.clone(),
                stop_timeout: common.stop_timeout.as_duration(),
                schedule,
                lake: lake.with_s3(options),
                models: settings.models,
                window_rows,
                purge_after: settings.purge_after,
                summary: settings.summary.unwrap_or_default(),
                admin_listen,
                upkeep,
                s3,
                query,
                store,
            }),
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(settings: Settings) -> Result<Config, String> {
        let common = Common::new("d");
        Config::resolve(settings, &common).map_err(|problems| problems.to_string())
    }

    #[test]
    fn everything_has_a_default_below_the_data_folder() {
        let config = resolve(Settings::default()).unwrap();
        assert_eq!(config.lake, Root::from_folder("d/lake"));
        assert_eq!(config.store.place(), "d/store.sqlite");
        assert_eq!(config.schedule.to_string(), DEFAULT_SCHEDULE);
    }

    #[test]
    fn a_lake_in_s3_takes_its_options_along() {
        let config = resolve(Settings {
            lake: Some("s3://bucket/x".to_owned()),
            s3: S3Settings {
                s3_endpoint: Some("http://127.0.0.1:9000".to_owned()),
                ..S3Settings::default()
            },
            ..Settings::default()
        })
        .unwrap();
        assert_eq!(config.lake.to_string(), "s3://bucket/x");
        assert_ne!(config.lake, "s3://bucket/x".parse().unwrap());
    }

    #[test]
    fn a_date_means_a_single_run() {
        let config = resolve(Settings {
            date: Some("2026-11-20".to_owned()),
            ..Settings::default()
        })
        .unwrap();
        assert_eq!(config.dates, Dates::new("2026-11-20", "2026-11-20"));
        assert!(config.once);
        assert_eq!(resolve(Settings::default()).unwrap().dates, None);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let problems = resolve(Settings {
            schedule: Some("now and then".to_owned()),
            lake: Some("gs://bucket/x".to_owned()),
            window_rows: Some(0),
            ..Settings::default()
        })
        .unwrap_err();
        for part in ["schedule", "s3://bucket/prefix", "window_rows"] {
            assert!(problems.contains(part), "{problems}");
        }
    }
}
