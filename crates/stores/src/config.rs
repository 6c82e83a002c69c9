//! The store's settings in effect.

use std::path::PathBuf;

use serde::{Serialize, Serializer};
use service::{Common, HumanDuration, Problems, Secret};

use crate::settings::{Decided, Settings};
use crate::{mongo, uri};

/// Which store, and how; open it with the methods of this type.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Which store.
    #[serde(flatten)]
    pub kind: Kind,
    /// How far into the future a point may be dated and become last.
    pub max_future_skew: HumanDuration,
    /// Names the writers of this process in MongoDB, beside what makes each unique.
    #[serde(skip)]
    pub(crate) writer: String,
}

/// The kinds of store.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// One file, embedded.
    Sqlite {
        /// Its path.
        sqlite: PathBuf,
    },
    /// A MongoDB server.
    Mongodb(MongoConfig),
}

/// Where the MongoDB is.
#[derive(Debug, Clone, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "fields are named as their flags, and these stand beside those of other parts"
)]
pub struct MongoConfig {
    /// The server; printed without user and password.
    #[serde(serialize_with = "shown")]
    pub mongodb_uri: Secret<String>,
    /// The database, when not the one the URI names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongodb_database: Option<String>,
    /// How long positions are kept there; for ever without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongodb_ttl: Option<HumanDuration>,
}

fn shown<S: Serializer>(uri: &Secret<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&uri::shown_uri(uri.expose()))
}

/// The skew unless another is given; see [`store::DEFAULT_MAX_FUTURE_SKEW_US`].
const DEFAULT_SKEW: HumanDuration = HumanDuration::from_secs(5 * 60);

/// The shortest time positions may be kept: below it history is gone before anybody asks for it.
const SHORTEST_TTL: HumanDuration = HumanDuration::from_secs(60);

impl Config {
    /// Applies defaults and checks everything, without touching network or disk.
    ///
    /// # Errors
    /// All that is wrong; a wrong URI is described without being shown.
    pub fn resolve(settings: Settings, common: &Common) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let (sqlite, mongodb_uri) = match settings.decided {
            Some(Decided::Sqlite) => (settings.sqlite, None),
            Some(Decided::Mongodb) => (None, settings.mongodb_uri),
            None => (settings.sqlite, settings.mongodb_uri),
        };
        if sqlite.is_some() && mongodb_uri.is_some() {
            problems.add(
                "sqlite",
                "is given together with mongodb_uri; give the one store that is meant",
            );
        }
        if settings.mongodb_ttl.is_some_and(|ttl| ttl < SHORTEST_TTL) {
            problems.add("mongodb_ttl", "is below a minute; give 1m or more");
        }
        if let Some(name) = &settings.mongodb_database
            && let Err(wrong) = database_name(name)
        {
            problems.add("mongodb_database", wrong);
        }
        let kind = match mongodb_uri {
            None => Kind::Sqlite {
                sqlite: sqlite.unwrap_or_else(|| common.data.join("store.sqlite")),
            },
            Some(mongodb_uri) => {
                if let Err(wrong) = mongo::check_uri(mongodb_uri.expose()) {
                    problems.add("mongodb_uri", wrong);
                }
                Kind::Mongodb(MongoConfig {
                    mongodb_uri,
                    mongodb_database: settings.mongodb_database,
                    mongodb_ttl: settings.mongodb_ttl,
                })
            }
        };
        problems.or(Self {
            kind,
            max_future_skew: settings.max_future_skew.unwrap_or(DEFAULT_SKEW),
            writer: "lastmile".to_owned(),
        })
    }

    /// Names the writers of this process, for example `subscriber-0`. It shows in the lake's status; who
    /// writes need not be told apart by it, every writer has an identity of its own.
    #[must_use]
    pub fn with_writer(mut self, name: &str) -> Self {
        name.clone_into(&mut self.writer);
        self
    }

    /// Returns the skew in microseconds.
    pub fn max_future_skew_us(&self) -> i64 {
        let micros = self.max_future_skew.as_duration().as_micros();
        i64::try_from(micros).unwrap_or(i64::MAX)
    }

    /// Tells whether the store is a MongoDB.
    pub fn is_mongodb(&self) -> bool {
        matches!(self.kind, Kind::Mongodb(_))
    }

    /// Says for people where the store is, without a password.
    pub fn place(&self) -> String {
        match &self.kind {
            Kind::Sqlite { sqlite } => sqlite.display().to_string(),
            Kind::Mongodb(mongodb) => uri::shown_uri(mongodb.mongodb_uri.expose()),
        }
    }
}

/// Checks a name against what MongoDB takes on every system.
fn database_name(name: &str) -> Result<(), String> {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "/\\.\"$*<>:|?".contains(c);
    if name.is_empty() || name.len() > 63 || name.contains(odd) {
        return Err(format!(
            "is {name:?}; give 1 to 63 bytes without spaces or any of /\\.\"$*<>:|?"
        ));
    }
    if ["admin", "config", "local"].contains(&name) {
        return Err(format!(
            "is {name:?}, which belongs to MongoDB itself; give another name"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(settings: Settings) -> Result<Config, String> {
        Config::resolve(settings, &Common::new("d")).map_err(|problems| problems.to_string())
    }

    #[test]
    fn without_settings_the_store_is_a_file_in_the_data_directory() {
        let config = resolve(Settings::default()).unwrap();
        assert!(!config.is_mongodb());
        assert_eq!(config.place(), "d/store.sqlite");
        assert_eq!(
            config.max_future_skew_us(),
            store::DEFAULT_MAX_FUTURE_SKEW_US
        );
    }

    #[test]
    fn two_stores_are_one_too_many() {
        let settings = Settings {
            sqlite: Some("a.sqlite".into()),
            mongodb_uri: Some(Secret::new("mongodb://ann:hunter2@h/db".to_owned())),
            ..Settings::default()
        };
        let problems = resolve(settings.clone()).unwrap_err();
        assert!(problems.contains("sqlite is given together"), "{problems}");
        assert!(!problems.contains("hunter2"), "{problems}");
        // What a higher layer decided is no question.
        let decided = Settings {
            decided: Some(Decided::Sqlite),
            ..settings
        };
        assert_eq!(resolve(decided).unwrap().place(), "a.sqlite");
    }

    #[test]
    fn wrong_names_and_times_are_all_said() {
        let problems = resolve(Settings {
            mongodb_database: Some("a.b".to_owned()),
            mongodb_ttl: Some(HumanDuration::from_secs(1)),
            ..Settings::default()
        })
        .unwrap_err();
        assert!(
            problems.contains("mongodb_database") && problems.contains("mongodb_ttl"),
            "{problems}"
        );
        let own = resolve(Settings {
            mongodb_database: Some("local".to_owned()),
            ..Settings::default()
        });
        assert!(own.unwrap_err().contains("belongs to MongoDB"));
    }

    #[cfg(feature = "mongodb")]
    #[test]
    fn a_password_is_shown_nowhere() {
        let config = resolve(Settings {
            mongodb_uri: Some(Secret::new("mongodb://ann:hunter2@h:27017/db".to_owned())),
            ..Settings::default()
        })
        .unwrap();
        let printed = serde_json::to_string(&config).unwrap();
        assert!(printed.contains("mongodb://***@h:27017/db"), "{printed}");
        for shown in [printed, format!("{config:?}"), config.place()] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        for wrong in ["mongodb://ann:hunter2@", "http://ann:hunter2@h", "hunter2"] {
            let problems = resolve(Settings {
                mongodb_uri: Some(Secret::new(wrong.to_owned())),
                ..Settings::default()
            })
            .unwrap_err();
            assert!(!problems.contains("hunter2"), "{problems}");
        }
    }

    #[cfg(not(feature = "mongodb"))]
    #[test]
    fn a_program_without_mongodb_says_so() {
        let problems = resolve(Settings {
            mongodb_uri: Some(Secret::new("mongodb://h".to_owned())),
            ..Settings::default()
        })
        .unwrap_err();
        assert!(problems.contains("built without MongoDB"), "{problems}");
    }
}
