//! The Python that programs of other makers are run with.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Puts the packages there.
pub(crate) const INSTALL: &str = "tools/install.sh";

/// Says by name that a test did not run.
pub(crate) fn skip(test: &str, reason: &str) {
    use std::io::Write;
    // Past the test harness's capture, so that it is seen whether the test passes or not.
    drop(writeln!(std::io::stderr(), "SKIPPED {test}: {reason}"));
}

/// Returns the root of the repository.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns a Python that has these packages, or reports the test as skipped.
pub(crate) fn python(test: &str, packages: &str, install: &str) -> Option<PathBuf> {
    let of_workspace = workspace().join(".venv/bin/python");
    let python = match std::env::var_os("LASTMILE_PYTHON") {
        Some(given) => given.into(),
        None if of_workspace.exists() => of_workspace,
        None => "python3".into(),
    };
    let import = format!("import {packages}");
    let probe = Command::new(&python).args(["-c", &import]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skip(
        test,
        &format!("needs Python with {packages}; run {install}"),
    );
    None
}
