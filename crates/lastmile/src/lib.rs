//! The whole pipeline in one process: what `./start.sh` runs.
//!
//! It has no logic of its own beyond putting the parts together, over one ingest log and one SQLite store:
//! the broker appends to the log, the subscriber takes from it into the store, the API answers from the store
//! and appends to the log, the offload carries the store's rows into the lake.
//!
//! Invariants: one process per data directory ([`lock`]); HTTP is answered with success only after the log's
//! commit ([`ingest`]).
//!
//! What it deliberately does not do: MongoDB, object storage and more than one machine, which the services as
//! processes of their own are for; SQL models, which it leaves to `lake_ingest` ([`models`]).

pub mod ingest;
pub mod lock;
pub mod models;
mod offload;
mod program;
mod settings;

pub use program::Lastmile;
pub use settings::{Config, LakeConfig, LakeSettings, Settings, StoreConfig, StoreSettings};
