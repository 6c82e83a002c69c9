//! `cargo xtask docs`: what is generated in the documentation.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use system_tests::settings_docs::{self, REMEDY};

/// How to treat the files.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only say whether they are up to date
    #[arg(long)]
    check: bool,
}

/// Writes the tables of settings into docs/operations.md.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let compared = settings_docs::compare()?;
    let outdated = compared.outdated();
    let path = compared.path.display();
    if outdated.is_empty() {
        crate::progress(&format!("{path} is up to date"));
        return Ok(ExitCode::SUCCESS);
    }
    let tables = outdated.join(", ");
    if options.check {
        crate::progress(&format!("{path} is out of date ({tables}); {REMEDY}"));
        return Ok(ExitCode::FAILURE);
    }
    std::fs::write(&compared.path, &compared.wanted)
        .with_context(|| format!("cannot write {path}"))?;
    crate::progress(&format!("{path}: wrote {tables}"));
    Ok(ExitCode::SUCCESS)
}
