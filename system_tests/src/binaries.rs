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

/// The profile whose programs may be ready-made.
const DEV: &str = "dev";

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
    let mut built = BUILT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let built = built.get_or_insert_with(HashMap::new);
    if let Some(path) = built.get(program) {
        return Ok(path.clone());
    }
    let path = build(program, DEV)?;
    built.insert(program.to_owned(), path.clone());
    Ok(path)
}

/// Builds a program with a profile (`dev`, `release`) and returns its path.
///
/// # Errors
/// When cargo fails.
pub fn build(program: &str, profile: &str) -> Result<PathBuf> {
    build_all(&[program], &[], profile)?.path(program)
}

/// Executables by name.
#[derive(Debug)]
pub struct Built(HashMap<String, PathBuf>);

impl Built {
    /// Returns the path of one.
    ///
    /// # Errors
    /// When it was not built.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.get(name).cloned();
        path.with_context(|| format!("cargo built no executable {name}"))
    }
}

/// Builds programs, and examples given as package and name, with a profile. It is one command, so that what
/// they share is compiled once. Those of `dev` are taken from `LASTMILE_BIN_DIR` where it is set, examples from
/// `examples` in it, so that no figure of a release build comes from another.
///
/// # Errors
/// When cargo fails, or when that folder lacks one.
pub fn build_all(programs: &[&str], examples: &[(&str, &str)], profile: &str) -> Result<Built> {
    if profile == DEV
        && let Some(folder) = std::env::var_os("LASTMILE_BIN_DIR")
    {
        return ready_made(&workspace_root().join(folder), programs, examples);
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([
        "build",
        "--quiet",
        "--message-format=json-render-diagnostics",
        "--profile",
        profile,
    ]);
    for program in programs {
        command.args(["--package", program, "--bin", program]);
    }
    for (package, example) in examples {
        command.args(["--package", package, "--example", example]);
    }
    let output = command
        .current_dir(workspace_root())
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "cargo build of {programs:?} {examples:?} ended with {}",
            output.status
        );
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let found = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let executable = message["executable"].as_str()?;
        let name = message["target"]["name"].as_str()?;
        Some((name.to_owned(), PathBuf::from(executable)))
    });
    Ok(Built(found.collect()))
}

fn ready_made(folder: &Path, programs: &[&str], examples: &[(&str, &str)]) -> Result<Built> {
    let programs = programs.iter().map(|name| (*name, folder.join(name)));
    let examples = examples.iter().map(|(_, name)| {
        let path = folder.join("examples").join(name);
        (*name, path)
    });
    let found = programs.chain(examples).map(|(name, path)| {
        let missing = "is missing; build it or unset LASTMILE_BIN_DIR";
        anyhow::ensure!(path.is_file(), "{} {missing}", path.display());
        Ok((name.to_owned(), path))
    });
    found.collect::<Result<_>>().map(Built)
}
