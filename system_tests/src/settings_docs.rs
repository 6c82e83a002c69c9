//! The tables of settings in `docs/operations.md`, made by the programs themselves.
//!
//! Between `<!-- settings:broker -->` and `<!-- /settings:broker -->` stands what
//! `broker --print-settings-table` prints; `settings:common` is what every program has. `cargo xtask docs`
//! brings the file up to date, a test says when it is not. Nothing outside the markers is touched.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::binaries;

/// The file with the tables, relative to the root of the workspace.
pub const FILE: &str = "docs/operations.md";

/// The programs with a table.
pub const PROGRAMS: [&str; 6] = [
    "broker",
    "publisher",
    "subscriber",
    "api",
    "lake_ingest",
    "lastmile",
];

/// Name of the table of what every program has.
const COMMON: &str = "common";

/// How to bring the file up to date.
pub const REMEDY: &str = "run `cargo xtask docs` and commit docs/operations.md";

/// The file as it is and as it should be.
#[derive(Debug)]
pub struct Compared {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub present: String,
    /// What it should hold.
    pub wanted: String,
}

impl Compared {
    /// Names the tables that are out of date.
    pub fn outdated(&self) -> Vec<&'static str> {
        tables()
            .filter(|name| between(&self.present, name) != between(&self.wanted, name))
            .collect()
    }
}

/// Asks every program for its table, and compares.
///
/// # Errors
/// When a program cannot be built or run, or the file lacks a pair of markers.
pub fn compare() -> Result<Compared> {
    let path = binaries::workspace_root().join(FILE);
    let present = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut wanted = present.clone();
    for name in tables() {
        let table = if name == COMMON {
            printed("broker", COMMON)?
        } else {
            printed(name, "own")?
        };
        wanted = replaced(&wanted, name, &table)?;
    }
    Ok(Compared {
        path,
        present,
        wanted,
    })
}

fn tables() -> impl Iterator<Item = &'static str> {
    PROGRAMS.into_iter().chain([COMMON])
}

fn printed(program: &str, which: &str) -> Result<String> {
    let output = Command::new(binaries::path(program)?)
        .args(["--print-settings-table", which])
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} --print-settings-table: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn markers(name: &str) -> (String, String) {
    (
        format!("<!-- settings:{name} -->"),
        format!("<!-- /settings:{name} -->"),
    )
}

/// Returns what stands between the markers of `name`.
fn between<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (start, end) = markers(name);
    let (_, rest) = text.split_once(&start)?;
    rest.split_once(&end).map(|(inside, _)| inside)
}

/// Puts a table between the markers of `name`.
fn replaced(text: &str, name: &str, table: &str) -> Result<String> {
    let (start, end) = markers(name);
    let parts = text.split_once(&start).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) =
        parts.with_context(|| format!("{FILE} lacks the markers {start} and {end}"))?;
    Ok(format!("{before}{start}\n{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = "a\n<!-- settings:broker -->\nold\n<!-- /settings:broker -->\nz\n";
        let new = replaced(text, "broker", "new\n").unwrap();
        let wanted = "a\n<!-- settings:broker -->\nnew\n<!-- /settings:broker -->\nz\n";
        assert_eq!(new, wanted);
        assert_eq!(between(&new, "broker"), Some("\nnew\n"));
    }

    /// Negative control: an old table is named, and missing markers are an error that names them.
    #[test]
    fn what_is_out_of_date_is_named() {
        let present = "<!-- settings:api -->old<!-- /settings:api -->".to_owned();
        let wanted = replaced(&present, "api", "new\n").unwrap();
        let compared = Compared {
            path: PathBuf::new(),
            present,
            wanted,
        };
        assert_eq!(compared.outdated(), ["api"]);
        let missing = replaced("nothing", "broker", "x").unwrap_err();
        assert!(missing.to_string().contains("settings:broker"), "{missing}");
    }
}
