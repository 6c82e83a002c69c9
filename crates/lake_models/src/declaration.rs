//! A model's file: a header of `-- key: value` lines, and one `SELECT`.
//!
//! | key | value |
//! |---|---|
//! | `model` | `layer.name`, layer being `treated` or `final` |
//! | `about` | one sentence |
//! | `partition` | the column of the result that makes the folders |
//! | `inputs` | tables it reads, `layer.name`, by commas |
//! | `scope` | `partition`: a partition of the result follows from the inputs' partitions of the same value; `history`: from all |
//! | `lookups` | tables it reads whole in either scope, by commas; a change of one computes every partition anew |
//! | `order` | columns rows are sorted by in a file, by commas |
//! | `not_null` | columns every row has, by commas; may be repeated |
//! | `nullable` | columns a row may lack, by commas; where given, every column of the result is in one of the two |
//! | `unique` | columns no two rows agree in, by commas; may be repeated |
//! | `accepted` | a condition every row must meet; may be repeated |
//! | `references` | `column -> layer.name.column`: every value must be one of that column; may be repeated |
//! | `same_rows` | a query for the number of rows the result must have; may be repeated |
//! | `same` | `aggregate == query`: the aggregate over the result is that number, to 1e-9 of it; may be repeated |
//!
//! The header ends at the first line that is no such line. A file is read whole or refused.

mod order;

use std::path::Path;

use model::content_hash::ContentHash;

use crate::error::ModelError;

/// A layer models write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Typed, flattened, deduplicated, flagged.
    Treated,
    /// What people ask for.
    Final,
}

impl Layer {
    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Treated => "treated",
            Self::Final => "final",
        }
    }
}

/// Which rows of the inputs a partition of the result depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of the inputs' partitions with the same value.
    Partition,
    /// All.
    History,
}

/// Something every result must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// No row lacks any of these columns.
    NotNull(Vec<String>),
    /// No two rows agree in all of these columns.
    Unique(Vec<String>),
    /// Every row meets this condition.
    Accepted(String),
    /// The column's values are among those of another table's column.
    References {
        /// The column.
        column: String,
        /// The table, `layer.name`.
        table: String,
        /// Its column.
        target: String,
    },
    /// An aggregate over the result is the number a query says.
    Same {
        /// The aggregate.
        aggregate: String,
        /// The query.
        query: String,
    },
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The layer it writes.
    pub layer: Layer,
    /// The table it writes.
    pub name: String,
    /// One sentence.
    pub about: String,
    /// The result's partition column.
    pub partition: String,
    /// Tables it reads, `layer.name`.
    pub inputs: Vec<String>,
    /// Tables it reads whole, `layer.name`.
    pub lookups: Vec<String>,
    /// Which rows of the inputs matter to a partition.
    pub scope: Scope,
    /// Columns rows are sorted by.
    pub order: Vec<String>,
    /// What must hold.
    pub checks: Vec<Check>,
    /// Columns that a row may lack; `None` when the file does not say so of every column.
    pub nullable: Option<Vec<String>>,
    /// The `SELECT`, with the header.
    pub sql: String,
}

macro_rules! files {
    ($($file:literal),+ $(,)?) => {
        [$(($file, include_str!(concat!("../models/", $file)))),+]
    };
}

/// The models of this project.
const BUILTIN: [(&str, &str); 14] = files![
    "treated/deliverer_location.sql",
    "treated/operating_period.sql",
    "treated/vehicle_event.sql",
    "treated/vehicle_life.sql",
    "final/deliverer_location_aggregated.sql",
    "final/delivery_trip.sql",
    "final/operating_period_distance.sql",
    "final/speed_by_hour_and_cell.sql",
    "final/travel_time_between_zones.sql",
    "final/vehicle_break.sql",
    "final/vehicle_day.sql",
    "final/vehicle_operation_distance.sql",
    "final/vehicle_operation_metadata.sql",
    "final/vehicle_position_data.sql",
];

/// Returns the models of this project, in the order they run.
///
/// # Panics
/// Never: a test reads every file.
pub fn builtin() -> Vec<Model> {
    let models = BUILTIN.iter().map(|(file, text)| Model::parse(file, text));
    let models = models.collect::<Result<_, _>>().and_then(order::ordered);
    models.expect("a test reads every model of this project")
}

/// Reads the models of a folder (`treated/*.sql`, `final/*.sql`), in the order they run: each after those it
/// reads, else treated before final, and by name.
///
/// # Errors
/// [`ModelError::Io`] or [`ModelError::Declaration`].
pub fn from_folder(folder: &Path) -> Result<Vec<Model>, ModelError> {
    let mut models = Vec::new();
    for layer in [Layer::Treated, Layer::Final] {
        let folder = folder.join(layer.as_str());
        if !folder.is_dir() {
            continue;
        }
        let reading = || ModelError::io(format!("reading {}", folder.display()));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(reading())? {
            files.push(entry.map_err(reading())?.path());
        }
        files.sort();
        for file in files
            .iter()
            .filter(|file| file.extension().is_some_and(|e| e == "sql"))
        {
            let text = std::fs::read_to_string(file).map_err(reading())?;
            models.push(Model::parse(&file.display().to_string(), &text)?);
        }
    }
    order::ordered(models)
}

impl Model {
    /// Returns `layer.name`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.layer.as_str(), self.name)
    }

    /// Returns the table's folder below the lake's root.
    pub fn folder(&self) -> String {
        format!("{}/{}", self.layer.as_str(), self.name)
    }

    /// Returns a number that changes with the model's text, never negative.
    pub fn fingerprint(&self) -> i64 {
        let hash = ContentHash::default().chain(self.sql.as_bytes()).finish();
        (hash >> 1).cast_signed()
    }

    /// Reads a model's file; `file` names it in errors.
    ///
    /// # Errors
    /// [`ModelError::Declaration`] that says what to put right.
    pub fn parse(file: &str, text: &str) -> Result<Self, ModelError> {
        let wrong = |detail: String| ModelError::Declaration {
            file: file.to_owned(),
            detail,
        };
        let mut header = Vec::new();
        for line in text.lines() {
            let word = |key: &str| key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            let halves = line
                .strip_prefix("-- ")
                .and_then(|line| line.split_once(':'));
            let Some((key, value)) = halves.filter(|(key, _)| word(key)) else {
                break;
            };
            header.push((key, value.trim()));
        }
        let one = |key: &str| {
            let mut values = header
                .iter()
                .filter(|(k, _)| *k == key)
                .map(|(_, value)| *value);
            match (values.next(), values.next()) {
                (Some(value), None) => Ok(value),
                (None, _) => Err(wrong(format!("the header lacks \"-- {key}: …\""))),
                (Some(_), Some(_)) => Err(wrong(format!("the header has {key} twice"))),
            }
        };
        let full_name = one("model")?;
        let (layer, name) = match full_name.split_once('.') {
            Some(("treated", name)) => (Layer::Treated, name),
            Some(("final", name)) => (Layer::Final, name),
            _ => {
                return Err(wrong(format!(
                    "model {full_name:?} is not treated.… or final.…"
                )));
            }
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(wrong(format!("the name {name:?} is not of a-z, 0-9 and _")));
        }
        let scope = match one("scope")? {
            "partition" => Scope::Partition,
            "history" => Scope::History,
            other => {
                return Err(wrong(format!(
                    "scope {other:?} is not partition or history"
                )));
            }
        };
        let mut checks = Vec::new();
        let mut nullable: Option<Vec<String>> = None;
        let mut lookups = Vec::new();
        for &(key, value) in &header {
            match key {
                "nullable" => nullable.get_or_insert_default().extend(list(value)),
                "lookups" => lookups.extend(list(value)),
                "model" | "about" | "partition" | "inputs" | "scope" | "order" => {}
                _ => checks.push(check(key, value).map_err(wrong)?),
            }
        }
        Ok(Self {
            layer,
            name: name.to_owned(),
            about: one("about")?.to_owned(),
            partition: one("partition")?.to_owned(),
            inputs: list(one("inputs")?),
            lookups,
            scope,
            order: list(one("order")?),
            checks,
            nullable,
            sql: text.to_owned(),
        })
    }

    /// Returns every table it reads.
    pub fn reads(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().chain(&self.lookups).map(String::as_str)
    }
}

/// Reads a line that declares a check.
fn check(key: &str, value: &str) -> Result<Check, String> {
    let halves = |by: &str| {
        let halves = value.split_once(by);
        let (left, right) = halves.ok_or_else(|| format!("{key} {value:?} lacks {by:?}"))?;
        Ok::<_, String>((left.trim().to_owned(), right.trim().to_owned()))
    };
    Ok(match key {
        "not_null" => Check::NotNull(list(value)),
        "unique" => Check::Unique(list(value)),
        "accepted" => Check::Accepted(value.to_owned()),
        "references" => {
            let (column, target) = halves("->")?;
            let parts = target.rsplit_once('.');
            let (table, target) = parts.ok_or_else(|| format!("{target:?} names no column"))?;
            Check::References {
                column,
                table: table.to_owned(),
                target: target.to_owned(),
            }
        }
        "same" => {
            let (aggregate, query) = halves("==")?;
            Check::Same { aggregate, query }
        }
        "same_rows" => Check::Same {
            aggregate: "COUNT(*)".to_owned(),
            query: value.to_owned(),
        },
        other => return Err(format!("the header has the unknown key {other:?}")),
    })
}

fn list(value: &str) -> Vec<String> {
    let items = value.split(',').map(str::trim);
    items
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_of_this_project_is_readable_and_in_the_list() {
        let models = builtin();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        assert_eq!(from_folder(&folder).unwrap(), models);
        for (index, model) in models.iter().enumerate() {
            assert!(!model.checks.is_empty(), "{}", model.name);
            for input in model.reads().filter(|input| !input.starts_with("raw.")) {
                let earlier = models.iter().take(index).any(|m| m.full_name() == *input);
                assert!(earlier, "{} reads {input}, which runs later", model.name);
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_header_is_named() {
        let head =
            "-- model: final.x\n-- about: a\n-- partition: d\n-- inputs: raw.y\n-- order: d\n";
        for (text, part) in [
            (head.to_owned(), "scope"),
            (format!("{head}-- scope: all\n"), "partition or history"),
            (format!("{head}-- scope: history\n-- uniqe: a\n"), "uniqe"),
            (format!("{head}-- scope: history\n-- about: b\n"), "twice"),
            (head.replace("final.x", "raw.x"), "treated"),
            (head.replace("final.x", "final.X/"), "a-z"),
            (
                format!("{head}-- scope: history\n-- references: a\n"),
                "lacks \"->\"",
            ),
            (
                format!("{head}-- scope: history\n-- references: a -> b\n"),
                "names no column",
            ),
        ] {
            let error = Model::parse("x.sql", &text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
