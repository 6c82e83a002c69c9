//! Where the programs under test are, and building them when nobody has.
//!
//! `LASTMILE_BIN_DIR` names a folder of ready-made binaries (`test.sh` sets it after its one build).
//! Without it the first request for a program runs `cargo build` for it, so that a plain `cargo test`
//! never tests an old binary.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};

/// Programs built so far by this process; also keeps two tests from building at once.
static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);

/// Returns the root of the workspace.
pub fn workspace_root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder).to_path_buf()
}

/// Returns the path of a program of this workspace, built from the present source.
///
/// # Errors
/// When it cannot be built, or is not in `LASTMILE_BIN_DIR`.
pub fn path(program: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("LASTMILE_BIN_DIR") {
        let path = workspace_root().join(folder).join(program);
        anyhow::ensure!(
            path.is_file(),
            "{} is missing; build it or unset LASTMILE_BIN_DIR",
            path.display()
        );
        return Ok(path);
    }
    let mut built = BUILT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let built = built.get_or_insert_with(HashMap::new);
    if let Some(path) = built.get(program) {
        return Ok(path.clone());
    }
    let path = build(program, "dev")?;
    built.insert(program.to_owned(), path.clone());
    Ok(path)
}

/// Builds a program with a profile (`dev`, `release`) and returns its path.
///
/// # Errors
/// When cargo fails.
pub fn build(program: &str, profile: &str) -> Result<PathBuf> {
    build_target(program, "--bin", program, profile)
}

/// Builds an example of a package with a profile and returns its path.
///
/// # Errors
/// When cargo fails.
pub fn build_example(package: &str, example: &str, profile: &str) -> Result<PathBuf> {
    build_target(package, "--example", example, profile)
}

fn build_target(package: &str, kind: &str, name: &str, profile: &str) -> Result<PathBuf> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--quiet",
            "--message-format=json-render-diagnostics",
        ])
        .args(["--package", package, kind, name, "--profile", profile])
        .current_dir(workspace_root())
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo build of {name} ended with {}", output.status);
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo built no executable {name}"))
}
