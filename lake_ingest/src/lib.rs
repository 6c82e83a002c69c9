//! The command that takes the store's rows to the lake, runs the models over them, and answers SQL.
//!
//! It composes [`lake`], which owns the window protocol, and [`lake_models`], which owns SQL. What is done here:
//! settings, the schedule's loop with its health and metrics, and what is printed.
//!
//! Not done here: any decision about rows.

mod background;
mod dates;
mod ddl;
mod job;
mod last_run;
mod logs;
mod metrics;
mod opening;
mod print;
mod program;
mod query_server;
mod s3;
mod settings;
mod spark;
mod status;
mod upkeep;

pub use program::LakeIngest;
pub use query_server::{QueryConfig, QuerySettings};
pub use s3::{S3Config, S3Settings};
pub use settings::{
    Command, Config, Engine, Format, ModelEngine, Settings, SparkSettings, SummaryFormat,
};
pub use upkeep::{UpkeepConfig, UpkeepSettings};
