//! The independent checkers, in Python: they share no code with what they check.

use std::path::PathBuf;
use std::process::Command;

use crate::{binaries, process, skip};

/// Returns the interpreter of `.venv` when it has all `modules`; otherwise reports `test` as skipped.
pub fn with_modules(test: &str, modules: &[&str]) -> Option<PathBuf> {
    let python = binaries::workspace_root().join(".venv/bin/python");
    let imports = format!("import {}", modules.join(", "));
    let has_all = Command::new(&python)
        .args(["-c", &imports])
        .output()
        .is_ok_and(|output| output.status.success());
    if has_all {
        return Some(python);
    }
    let modules = modules.join(", ");
    skip::report(
        test,
        &format!("needs Python with {modules} in .venv; run tools/install.sh"),
    );
    None
}

/// Returns a Python interpreter with its standard library, or reports `test` as skipped.
pub fn plain(test: &str) -> Option<PathBuf> {
    let found = Command::new("python3")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if found {
        return Some(PathBuf::from("python3"));
    }
    skip::report(test, "needs python3");
    None
}

/// Prepares a script of `system_tests/clients`.
pub fn script(
    python: &std::path::Path,
    name: &str,
    log_folder: &std::path::Path,
) -> process::Launch {
    let script = binaries::workspace_root()
        .join("system_tests/clients")
        .join(name);
    process::Launch::of(name, python, log_folder)
        .args([std::ffi::OsStr::new("-u"), script.as_os_str()])
}
