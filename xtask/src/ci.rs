//! The same command as continuous integration; the steps themselves are in `test.sh`.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use system_tests::binaries::workspace_root;

/// Runs `test.sh` with these steps, all of them when none is named.
pub(crate) fn run(steps: &[String]) -> Result<ExitCode> {
    let status = Command::new(workspace_root().join("test.sh"))
        .args(steps)
        .status()
        .context("cannot run test.sh")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
