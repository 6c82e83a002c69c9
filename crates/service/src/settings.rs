//! Settings, layer upon layer: flag > environment > file > default.
//!
//! clap reads flags and environment into a struct of options; serialised, that is a table that holds only
//! what was given. It is laid over the file's table, and the sum is read back, so a setting has one name, one
//! type and one parser wherever it comes from. Defaults are applied last, by [`crate::Program::resolve`].

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{HumanDuration, ListenAddr, Problems, secret};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Settings every binary has.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CommonSettings {
    /// Directory for everything this program keeps: log, store, lake [default: ./data]
    #[arg(
        long,
        env = "LASTMILE_DATA",
        value_name = "DIR",
        global = true,
        help_heading = "Common options"
    )]
    pub(crate) data: Option<PathBuf>,
    /// Added to every default port, so that several can run on one machine [default: 0]
    #[arg(
        long,
        env = "LASTMILE_PORT_BASE",
        value_name = "N",
        global = true,
        help_heading = "Common options"
    )]
    pub(crate) port_base: Option<u16>,
    /// Threads that run the program's tasks [default: number of processors]
    #[arg(
        long,
        env = "LASTMILE_WORKER_THREADS",
        value_name = "N",
        global = true,
        help_heading = "Common options"
    )]
    pub(crate) worker_threads: Option<usize>,
    /// Time to stop gracefully before the process ends anyway; nothing acknowledged is lost either way
    /// [default: 20s]
    #[arg(
        long,
        env = "LASTMILE_STOP_TIMEOUT",
        value_name = "DURATION",
        global = true,
        help_heading = "Common options"
    )]
    pub(crate) stop_timeout: Option<HumanDuration>,
    /// What to log: a level, or levels by part as in `warn,broker=debug` [default: info; warn
    /// for what runs once and ends]
    #[arg(
        long,
        env = "RUST_LOG",
        value_name = "FILTER",
        global = true,
        help_heading = "Common options"
    )]
    pub(crate) log: Option<String>,
    /// How log lines look; `auto` is text on a terminal, JSON otherwise [default: auto]
    #[arg(
        long,
        env = "LASTMILE_LOG_FORMAT",
        value_name = "FORMAT",
        global = true,
        help_heading = "Common options"
    )]
    pub(crate) log_format: Option<LogFormat>,
}

/// Settings every binary has, with their defaults applied.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Common {
    /// Directory for everything the program keeps.
    pub data: PathBuf,
    /// Added to every default port.
    pub port_base: u16,
    /// Threads that run tasks.
    pub worker_threads: usize,
    /// Time to stop gracefully.
    pub stop_timeout: HumanDuration,
    /// What to log.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
}

impl Common {
    /// Makes the defaults around a data directory; for tests of `resolve`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            port_base: 0,
            worker_threads: std::thread::available_parallelism().map_or(2, usize::from),
            stop_timeout: HumanDuration::from_secs(20),
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
        }
    }

    /// Returns the address to listen on: the one given, or `127.0.0.1` with `default_port` plus
    /// [`Common::port_base`]. `setting` names it in the problem added when the port would exceed 65535.
    pub fn listen_addr(
        &self,
        setting: &str,
        given: Option<ListenAddr>,
        default_port: u16,
        problems: &mut Problems,
    ) -> SocketAddr {
        if let Some(ListenAddr(address)) = given {
            return address;
        }
        let port = default_port.checked_add(self.port_base);
        if port.is_none() {
            let base = self.port_base;
            problems.add(
                setting,
                format!("would be port {default_port} + port_base {base}, above 65535; give a smaller port_base"),
            );
        }
        SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or_default()))
    }

    pub(crate) fn resolve(
        given: CommonSettings,
        default_log: &str,
        problems: &mut Problems,
    ) -> Self {
        let default = Self::new("./data");
        let worker_threads = given.worker_threads.unwrap_or(default.worker_threads);
        if !(1..=1024).contains(&worker_threads) {
            problems.add(
                "worker_threads",
                format!("is {worker_threads}; give 1 to 1024"),
            );
        }
        let log = given.log.filter(|text| !text.trim().is_empty());
        Self {
            data: given.data.unwrap_or(default.data),
            port_base: given.port_base.unwrap_or_default(),
            worker_threads,
            stop_timeout: given.stop_timeout.unwrap_or(default.stop_timeout),
            log: log.unwrap_or_else(|| default_log.to_owned()),
            log_format: given.log_format.unwrap_or_default(),
        }
    }
}

/// Names of the settings every binary has.
const COMMON: [&str; 6] = [
    "data",
    "port_base",
    "worker_threads",
    "stop_timeout",
    "log",
    "log_format",
];

/// Lays what was given on the command line over the file.
///
/// # Errors
/// Whatever is wrong with the file: it cannot be read, is no TOML, has an unknown name or a wrong type.
pub(crate) fn layer<S: Serialize + DeserializeOwned>(
    common: CommonSettings,
    settings: S,
    file: Option<&Path>,
) -> Result<(CommonSettings, S), Problems> {
    let Some(file) = file else {
        return Ok((common, settings));
    };
    let mut file_settings = read(file)?;
    let file_common: Table = COMMON
        .iter()
        .filter_map(|name| file_settings.remove_entry(*name))
        .collect();
    let common = merge(file_common, &common, file);
    let settings = merge(file_settings, &settings, file);
    match (common, settings) {
        (Ok(common), Ok(settings)) => Ok((common, settings)),
        (common, settings) => {
            let mut problems = Problems::new();
            for problem in [common.err(), settings.err()].into_iter().flatten() {
                problems.add(problem.0, problem.1);
            }
            Err(problems)
        }
    }
}

/// Serialises a configuration for printing; secrets come out as `***`.
///
/// # Errors
/// When a value has no TOML form.
pub(crate) fn effective<C: Serialize>(
    common: &Common,
    config: &C,
) -> Result<Table, toml::ser::Error> {
    let mut table = Table::try_from(common)?;
    table.extend(Table::try_from(config)?);
    Ok(table)
}

fn read(file: &Path) -> Result<Table, Problems> {
    let shown = file.display();
    let text = fs::read_to_string(file)
        .map_err(|error| Problems::one("config", format!("{shown} cannot be read: {error}")))?;
    toml::from_str(&text)
        .map_err(|error| Problems::one("config", format!("{shown} is no TOML: {error}")))
}

/// Overlays `given` on the file's table and reads the sum back; fails with a setting's name and a message.
fn merge<S: Serialize + DeserializeOwned>(
    mut table: Table,
    given: &S,
    file: &Path,
) -> Result<S, (String, String)> {
    let given = secret::revealed(|| Table::try_from(given))
        .map_err(|error| ("settings".to_owned(), error.to_string()))?;
    overlay(&mut table, given);
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        let name = if path == "." {
            "config".to_owned()
        } else {
            path
        };
        let cause = error.into_inner().to_string();
        let message = format!("in {}: {}", file.display(), cause.trim_end());
        (name, message)
    })
}

/// Replaces or adds every value of `above`; tables are merged.
fn overlay(below: &mut Table, above: Table) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above),
            (_, value) => {
                below.insert(name, value);
            }
        }
    }
}
