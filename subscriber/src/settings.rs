//! The subscriber's settings, their defaults and their check.

mod mqtt;
mod program;

use serde::{Deserialize, Serialize};
use service::{ByteSize, Common, HumanDuration, Problems};

pub use mqtt::{MqttConfig, MqttSettings, Replica, ReplicaError, ShownUrl, Subscription};
pub use program::{ProgramConfig, ProgramSettings};

/// What may be set of the pipeline, whatever its source; see [`Config`].
#[derive(Debug, Clone, Copy, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "subscriber")]
#[command(next_help_heading = "Subscriber options")]
pub struct Settings {
    /// Most records in a batch; larger ones cost less per record and take longer to become visible
    /// [default: 32768]
    #[arg(long, env = "LASTMILE_BATCH_RECORDS", value_name = "N")]
    pub batch_records: Option<usize>,
    /// Most bytes of payload in a batch; two batches are held in memory [default: 16MiB]
    #[arg(long, env = "LASTMILE_BATCH_SIZE", value_name = "SIZE")]
    pub batch_bytes: Option<ByteSize>,
    /// Least time from one batch to the next, in which what comes gathers; a message after a longer pause is
    /// stored at once, and 0 stores all at once, which costs more per record [default: 2ms]
    #[arg(long, env = "LASTMILE_BATCH_AGE", value_name = "DURATION")]
    pub batch_age: Option<HumanDuration>,
    /// How often the store is made safe against power loss and the log freed up to there [default: 2s]
    #[arg(long, env = "LASTMILE_SYNC_INTERVAL", value_name = "DURATION")]
    pub sync_interval: Option<HumanDuration>,
    /// Batches kept for a live viewer that is slow; it loses what is older [default: 64]
    #[arg(long, env = "LASTMILE_LIVE_BATCHES", value_name = "N")]
    pub live_batches: Option<usize>,
}

/// The pipeline's settings in effect.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Most records in a batch.
    pub batch_records: usize,
    /// Most bytes of payload in a batch.
    pub batch_bytes: ByteSize,
    /// Least time from one batch to the next.
    pub batch_age: HumanDuration,
    /// How often the store is synced and the log freed.
    pub sync_interval: HumanDuration,
    /// Batches kept for a slow live viewer.
    pub live_batches: usize,
}

impl Config {
    /// Applies the defaults and checks every value.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn resolve(settings: Settings, _common: &Common) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let config = Self {
            batch_records: settings.batch_records.unwrap_or(32_768),
            batch_bytes: settings.batch_bytes.unwrap_or(ByteSize::mib(16)),
            batch_age: settings.batch_age.unwrap_or(HumanDuration::from_millis(2)),
            sync_interval: settings
                .sync_interval
                .unwrap_or(HumanDuration::from_secs(2)),
            live_batches: settings.live_batches.unwrap_or(64),
        };
        let mut within = |name: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                problems.add(name, format!("is {value}; give {least} to {most}"));
            }
        };
        within("batch_records", config.batch_records as u64, 1, 1_000_000);
        within("batch_bytes", config.batch_bytes.as_u64(), 1, 1 << 30);
        within("live_batches", config.live_batches as u64, 1, 65_536);
        if config.batch_age.as_duration().as_secs() >= 60 {
            problems.add("batch_age", "is a minute or more; give some milliseconds");
        }
        if config.sync_interval.as_duration().is_zero() {
            problems.add("sync_interval", "is 0; give a second or more");
        }
        problems.or(config)
    }
}
