//! The spine of every binary: settings, logging, tasks and their stop, clock, health, metrics.
//!
//! A binary implements [`Program`] and its `main` is one line, [`main`]. Everything that is the same in
//! all of them lives here once: precedence of settings (flag > environment > file > default), one start
//! line, one ready line, `/healthz`, `/readyz`, `/metrics`, and the graceful stop.
//!
//! # The stop
//! Components are spawned through [`Tasks`] into one of three stages. On SIGTERM or SIGINT the stages are
//! cancelled and awaited one after the other: [`Stage::Intake`] stops taking work, [`Stage::Drain`]
//! finishes what was taken, [`Stage::Serve`] stops answering. A second signal, or the deadline
//! (`--stop-timeout`), ends the process at once. That is always safe: nothing is acknowledged before it is
//! durable.
//!
//! # Exit codes
//! 0 after a signal or finished work, 1 when something failed or a component ended by itself, 2 when the
//! flags or the configuration are wrong. Any panic aborts the process: a half-dead process is worse than a
//! restart, and restarting is the recovery path the tests exercise.
//!
//! What this crate does not do: it knows no service and opens no store.

pub mod admin;
pub mod byte_size;
pub mod clock;
pub mod context;
pub mod duration;
pub mod error_chain;
pub mod health;
mod health_check;
pub mod listen;
pub mod metrics;
pub mod problems;
pub mod program;
pub mod secret;
pub mod settings;
mod settings_table;
pub mod tasks;
mod telemetry;
pub mod throttle;

pub use byte_size::ByteSize;
pub use clock::{Clock, ManualClock, SystemClock};
pub use context::Context;
pub use duration::HumanDuration;
pub use error_chain::ErrorChain;
pub use health::{ComponentHealth, Health};
pub use listen::{BindError, ListenAddr, bind_tcp};
pub use metrics::Metrics;
pub use problems::{Problem, Problems};
pub use program::{Program, main};
pub use secret::Secret;
pub use settings::Common;
pub use tasks::{Stage, Tasks};
pub use throttle::Throttle;
/// Re-exported because [`Tasks`] hands it to every task.
pub use tokio_util::sync::CancellationToken;

/// Any error, for places that only report it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Version of the workspace, and the git revision where the build knew it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Git revision of the build: short hash in release builds, `dev` or `unknown` otherwise.
pub const REVISION: &str = env!("LASTMILE_REVISION");
