//! A model's file: a header of `-- key: value` lines, and one `SELECT`.
//!
//! | key | value |
//! |---|---|
//! | `model` | `layer.name`, layer being `treated` or `final` |
//! | `about` | one sentence |
//! | `partition` | the column of the result that makes the folders |
//! | `inputs` | tables it reads, `layer.name`, by commas |
//! | `scope` | `partition`: a partition of the result follows from the inputs' partitions of the same value; `history`: from all |
//! | `order` | columns rows are sorted by in a file, by commas |
//! | `not_null`, `unique` | columns, by commas; may be repeated |
//! | `accepted` | a condition every row must meet; may be repeated |
//! | `same_rows` | a query for the number of rows the result must have; may be repeated |
//!
//! The header ends at the first line that is no such line. A file is read whole or refused.

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
    /// The result has as many rows as this query says.
    SameRows(String),
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
    /// Which rows of them matter to a partition.
    pub scope: Scope,
    /// Columns rows are sorted by.
    pub order: Vec<String>,
    /// What must hold.
    pub checks: Vec<Check>,
    /// The `SELECT`, with the header.
    pub sql: String,
}

/// The models of this project, in the order they run.
const BUILTIN: [(&str, &str); 3] = [
    (
        "treated/deliverer_location.sql",
        include_str!("../models/treated/deliverer_location.sql"),
    ),
    (
        "final/deliverer_location_aggregated.sql",
        include_str!("../models/final/deliverer_location_aggregated.sql"),
    ),
    (
        "final/vehicle_position_data.sql",
        include_str!("../models/final/vehicle_position_data.sql"),
    ),
];

/// Returns the models of this project, in the order they run.
///
/// # Panics
/// Never: a test reads every file.
pub fn builtin() -> Vec<Model> {
    let models = BUILTIN.iter().map(|(file, text)| Model::parse(file, text));
    let models = models.collect::<Result<_, _>>();
    models.expect("a test reads every model of this project")
}

/// Reads the models of a folder (`treated/*.sql`, `final/*.sql`), in the order they run: treated before
/// final, and by name.
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
    Ok(models)
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
            let Some((key, value)) = line
                .strip_prefix("-- ")
                .and_then(|line| line.split_once(": "))
            else {
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
        for &(key, value) in &header {
            checks.push(match key {
                "not_null" => Check::NotNull(list(value)),
                "unique" => Check::Unique(list(value)),
                "accepted" => Check::Accepted(value.to_owned()),
                "same_rows" => Check::SameRows(value.to_owned()),
                "model" | "about" | "partition" | "inputs" | "scope" | "order" => continue,
                other => return Err(wrong(format!("the header has the unknown key {other:?}"))),
            });
        }
        Ok(Self {
            layer,
            name: name.to_owned(),
            about: one("about")?.to_owned(),
            partition: one("partition")?.to_owned(),
            inputs: list(one("inputs")?),
            scope,
            order: list(one("order")?),
            checks,
            sql: text.to_owned(),
        })
    }
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
            for input in model
                .inputs
                .iter()
                .filter(|input| !input.starts_with("raw."))
            {
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
        ] {
            let error = Model::parse("x.sql", &text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
