//! What may be set: the settings of every part, plus those of the lake's schedule.
//!
//! On the command line all flags stand side by side; in the file each part is a section of its own.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lake::schedule::CronSchedule;
use serde::{Deserialize, Serialize};
use service::{Common, HumanDuration, Problems, Secret};

/// Settings of all parts.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// MQTT and the log.
    #[command(flatten)]
    pub broker: broker::Settings,
    /// From the log into the store.
    #[command(flatten)]
    pub subscriber: subscriber::Settings,
    /// Where positions are kept.
    #[command(flatten)]
    pub store: StoreSettings,
    /// HTTP.
    #[command(flatten)]
    pub api: api::Settings,
    /// From the store into the lake.
    #[command(flatten)]
    pub lake: LakeSettings,
}

/// Settings of the store.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Store options")]
pub struct StoreSettings {
    /// A point dated further than this into the future is kept in history and never becomes the last one;
    /// too small ignores devices whose clock is ahead, too big lets a wrong clock freeze an order
    /// [default: 5m]
    #[arg(long, env = "LASTMILE_MAX_FUTURE_SKEW", value_name = "DURATION")]
    pub max_future_skew: Option<HumanDuration>,
    /// Known only to say that it is not heeded: this program stores in SQLite
    #[arg(long, env = "MONGODB_URI", value_name = "URI", hide = true)]
    pub mongodb_uri: Option<Secret<String>>,
}

/// Settings of the lake.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Lake options")]
pub struct LakeSettings {
    /// Where the lake is: a folder or a file:// URL [default: `lake` in the data directory]
    #[arg(long, env = "LASTMILE_LAKE", value_name = "URL")]
    pub lake: Option<String>,
    /// When to offload, as a cron expression in UTC, or `off`. Rarer runs make fewer, larger files
    /// [default: * * * * *, every minute]
    #[arg(long, env = "LASTMILE_LAKE_SCHEDULE", value_name = "CRON")]
    pub lake_schedule: Option<String>,
    /// Whether to run the SQL models after an offload when `lake_ingest` stands beside this program
    /// [default: true]
    #[arg(long, env = "LASTMILE_LAKE_RUN_MODELS", value_name = "BOOL")]
    pub lake_run_models: Option<bool>,
    /// Longest run of the SQL models; one that takes longer is ended and done again by the next
    /// [default: 10m]
    #[arg(long, env = "LASTMILE_LAKE_MODELS_TIMEOUT", value_name = "DURATION")]
    pub lake_models_timeout: Option<HumanDuration>,
}

/// The settings in effect.
#[derive(Debug, Serialize)]
pub struct Config {
    /// The data directory. Printed with the common settings.
    #[serde(skip)]
    pub data: PathBuf,
    /// MQTT and the log.
    pub broker: broker::Config,
    /// From the log into the store.
    pub subscriber: subscriber::Config,
    /// Where positions are kept.
    pub store: StoreConfig,
    /// HTTP.
    pub api: api::Config,
    /// From the store into the lake.
    pub lake: LakeConfig,
}

/// The store's settings in effect.
#[derive(Debug, Serialize)]
pub struct StoreConfig {
    /// The file.
    pub path: PathBuf,
    /// How far into the future a point may be dated and become last.
    pub max_future_skew: HumanDuration,
    /// Whether the environment names a MongoDB, which is not heeded.
    #[serde(skip)]
    pub mongodb_named: bool,
}

/// The lake's settings in effect.
#[derive(Debug, Serialize)]
pub struct LakeConfig {
    /// Where the lake is.
    pub lake: lake::Root,
    /// When to offload; never without.
    pub lake_schedule: Option<CronSchedule>,
    /// Whether to run the SQL models.
    pub lake_run_models: bool,
    /// Longest run of them.
    pub lake_models_timeout: HumanDuration,
}

impl Config {
    /// Applies defaults and checks everything.
    ///
    /// # Errors
    /// All that is wrong, in every part.
    pub fn resolve(settings: Settings, common: &Common) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let broker = part(
            "broker",
            broker::Config::resolve(&settings.broker, common),
            &mut problems,
        );
        let subscriber = part(
            "subscriber",
            subscriber::Config::resolve(settings.subscriber, common),
            &mut problems,
        );
        let api = part(
            "api",
            api::Config::resolve(settings.api, common),
            &mut problems,
        );
        let lake = part(
            "lake",
            LakeConfig::resolve(&settings.lake, common),
            &mut problems,
        );
        let store = StoreConfig {
            path: common.data.join("store.sqlite"),
            max_future_skew: settings
                .store
                .max_future_skew
                .unwrap_or(HumanDuration::from_secs(5 * 60)),
            mongodb_named: settings.store.mongodb_uri.is_some(),
        };
        match (broker, subscriber, api, lake) {
            (Some(broker), Some(subscriber), Some(api), Some(lake)) => Ok(Self {
                data: common.data.clone(),
                broker,
                subscriber,
                store,
                api,
                lake,
            }),
            _ => Err(problems),
        }
    }
}

/// Takes a part's configuration, or its problems under its section's name.
fn part<C>(section: &str, resolved: Result<C, Problems>, problems: &mut Problems) -> Option<C> {
    match resolved {
        Ok(config) => Some(config),
        Err(of_part) => {
            problems.extend(section, of_part);
            None
        }
    }
}

impl LakeConfig {
    /// Applies defaults and checks everything.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn resolve(settings: &LakeSettings, common: &Common) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let default_root = lake::Root::from_folder(common.data.join("lake"));
        let lake = match settings.lake.as_deref().map(str::parse) {
            None => default_root,
            Some(Ok(root)) => root,
            Some(Err(error)) => {
                problems.add("lake", error.to_string());
                default_root
            }
        };
        let schedule = settings.lake_schedule.as_deref().unwrap_or("* * * * *");
        let lake_schedule = if schedule == "off" {
            None
        } else {
            match schedule.parse() {
                Ok(schedule) => Some(schedule),
                Err(error) => {
                    problems.add("lake_schedule", format!("{error}, or \"off\""));
                    None
                }
            }
        };
        let lake_models_timeout = settings
            .lake_models_timeout
            .unwrap_or(HumanDuration(Duration::from_mins(10)));
        if lake_models_timeout < HumanDuration::from_secs(1) {
            problems.add("lake_models_timeout", "is below a second; give 1s or more");
        }
        problems.or(Self {
            lake,
            lake_schedule,
            lake_run_models: settings.lake_run_models.unwrap_or(true),
            lake_models_timeout,
        })
    }
}
