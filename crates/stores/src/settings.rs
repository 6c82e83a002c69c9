//! What may be set of the store.
//!
//! Two settings name a store, and each may come from a flag, the environment or the file. The higher layer
//! decides, as everywhere: a `--sqlite` on the command line stands against a `MONGODB_URI` that the
//! environment happens to hold, and the environment against the file. Both on the same layer is a mistake,
//! and is said so. clap and the file know nothing of that, hence [`Settings::decided`].

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde::{Deserialize, Serialize};
use service::{HumanDuration, Secret};

/// Settings of the store; every field may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The `SQLite` file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<PathBuf>,
    /// The MongoDB server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongodb_uri: Option<Secret<String>>,
    /// The database on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongodb_database: Option<String>,
    /// How long it keeps positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongodb_ttl: Option<HumanDuration>,
    /// How far into the future a point may be dated and become last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_future_skew: Option<HumanDuration>,
    /// Which store flags and environment ask for, against what the file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<Decided>,
}

/// A store asked for on the command line or by the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// The `SQLite` file, whatever else names a MongoDB.
    Sqlite,
    /// MongoDB, whatever else names an `SQLite` file.
    Mongodb,
}

/// The settings as clap reads them.
#[derive(Debug, Args)]
#[group(id = "store")]
#[command(next_help_heading = "Store options")]
struct Given {
    /// SQLite file that is the store, unless a MongoDB is named [default: store.sqlite in the data directory]
    #[arg(long, env = "LASTMILE_SQLITE", value_name = "FILE", global = true)]
    sqlite: Option<PathBuf>,
    /// MongoDB that is the store, mongodb://user:password@host:port/database or mongodb+srv://…, with any option
    /// of such a URI (authSource, tls, replicaSet). Better set by the environment than by the flag, which other
    /// users of the machine can read. A flag goes before the environment, so --sqlite overrules the variable
    /// [default: none, the store is SQLite]
    #[arg(long, env = "MONGODB_URI", value_name = "URI", global = true)]
    mongodb_uri: Option<Secret<String>>,
    /// Database on the MongoDB server [default: the one the URI names, else lastmile]
    #[arg(
        long,
        env = "LASTMILE_MONGODB_DATABASE",
        value_name = "NAME",
        global = true
    )]
    mongodb_database: Option<String>,
    /// Time after its receipt after which MongoDB removes a position from history. Too short removes what the lake
    /// has not taken; last positions stay [default: none, nothing is removed]
    #[arg(
        long,
        env = "LASTMILE_MONGODB_TTL",
        value_name = "DURATION",
        global = true
    )]
    mongodb_ttl: Option<HumanDuration>,
    /// A point dated further than this into the future is kept in history and never becomes the last one; too small
    /// ignores devices whose clock is ahead, too big lets a wrong clock freeze an order [default: 5m]
    #[arg(
        long,
        env = "LASTMILE_MAX_FUTURE_SKEW",
        value_name = "DURATION",
        global = true
    )]
    max_future_skew: Option<HumanDuration>,
}

impl Settings {
    /// Takes what clap read; `sqlite_by` and `mongodb_by` say where the two names came from.
    fn of(given: Given, sqlite_by: Option<ValueSource>, mongodb_by: Option<ValueSource>) -> Self {
        let mut settings = Self {
            sqlite: given.sqlite,
            // An empty variable, as compose files pass it on, names nothing.
            mongodb_uri: given
                .mongodb_uri
                .filter(|uri| !uri.expose().trim().is_empty()),
            mongodb_database: given.mongodb_database.filter(|name| !name.is_empty()),
            mongodb_ttl: given.mongodb_ttl,
            max_future_skew: given.max_future_skew,
            decided: None,
        };
        let by_flag = |source| source == Some(ValueSource::CommandLine);
        match (&settings.sqlite, &settings.mongodb_uri) {
            (Some(_), Some(_)) if by_flag(sqlite_by) && !by_flag(mongodb_by) => {
                settings.mongodb_uri = None;
            }
            (Some(_), Some(_)) if by_flag(mongodb_by) && !by_flag(sqlite_by) => {
                settings.sqlite = None;
            }
            _ => {}
        }
        settings.decided = match (&settings.sqlite, &settings.mongodb_uri) {
            (Some(_), None) => Some(Decided::Sqlite),
            (None, Some(_)) => Some(Decided::Mongodb),
            // Both on one layer: the mistake must stay visible. Neither: the file decides.
            _ => None,
        };
        settings
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        // Reading takes the values out, and their sources with them.
        let sqlite_by = matches.value_source("sqlite");
        let mongodb_by = matches.value_source("mongodb_uri");
        let given = Given::from_arg_matches_mut(matches)?;
        Ok(Self::of(given, sqlite_by, mongodb_by))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Settings {
    fn group_id() -> Option<clap::Id> {
        Given::group_id()
    }

    fn augment_args(command: Command) -> Command {
        Given::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Given::augment_args_for_update(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Settings {
        let command = Settings::augment_args(Command::new("x").no_binary_name(true));
        let mut matches = command.try_get_matches_from(arguments).unwrap();
        Settings::from_arg_matches_mut(&mut matches).unwrap()
    }

    fn given() -> Given {
        Given {
            sqlite: Some("a.sqlite".into()),
            mongodb_uri: Some(Secret::new("mongodb://h/db".to_owned())),
            mongodb_database: None,
            mongodb_ttl: None,
            max_future_skew: None,
        }
    }

    const FLAG: Option<ValueSource> = Some(ValueSource::CommandLine);
    const ENVIRONMENT: Option<ValueSource> = Some(ValueSource::EnvVariable);

    #[test]
    fn a_flag_overrules_the_environment_whichever_store_it_names() {
        let settings = Settings::of(given(), FLAG, ENVIRONMENT);
        assert!(settings.sqlite.is_some() && settings.mongodb_uri.is_none());
        assert_eq!(settings.decided, Some(Decided::Sqlite));
        let settings = Settings::of(given(), ENVIRONMENT, FLAG);
        assert!(settings.sqlite.is_none() && settings.mongodb_uri.is_some());
        assert_eq!(settings.decided, Some(Decided::Mongodb));
    }

    #[test]
    fn both_on_one_layer_stay_both() {
        for (sqlite, mongodb) in [(FLAG, FLAG), (ENVIRONMENT, ENVIRONMENT)] {
            let settings = Settings::of(given(), sqlite, mongodb);
            assert!(settings.sqlite.is_some() && settings.mongodb_uri.is_some());
            assert_eq!(settings.decided, None);
        }
    }

    #[test]
    fn an_empty_uri_names_nothing() {
        let mut empty = given();
        empty.sqlite = None;
        empty.mongodb_uri = Some(Secret::new(" ".to_owned()));
        let settings = Settings::of(empty, None, ENVIRONMENT);
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn flags_are_read_and_their_source_is_known() {
        let settings = parse(&["--sqlite", "a", "--mongodb-database", "d"]);
        assert_eq!(settings.sqlite, Some("a".into()));
        assert_eq!(settings.mongodb_database.as_deref(), Some("d"));
        let both = parse(&["--sqlite", "a", "--mongodb-uri", "mongodb://h"]);
        assert!(both.sqlite.is_some() && both.mongodb_uri.is_some());
        assert!(!format!("{both:?}").contains("mongodb://"));
    }
}
