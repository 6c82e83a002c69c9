//! Tells the crate which git revision it is built from.
//!
//! `LASTMILE_REVISION` wins (container builds have no `.git`). Debug builds say `dev`: asking git there
//! would rebuild the whole workspace after every commit.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LASTMILE_REVISION");
    let given = env::var("LASTMILE_REVISION")
        .ok()
        .filter(|text| !text.is_empty());
    let revision = given.unwrap_or_else(|| {
        if env::var("PROFILE").as_deref() == Ok("release") {
            from_git().unwrap_or_else(|| "unknown".to_owned())
        } else {
            "dev".to_owned()
        }
    });
    println!("cargo::rustc-env=LASTMILE_REVISION={revision}");
}

/// Asks git, and has cargo ask again when the branch moves.
fn from_git() -> Option<String> {
    let revision = git(&["rev-parse", "--short=12", "HEAD"])?;
    let mut watched = vec!["HEAD".to_owned(), "packed-refs".to_owned()];
    watched.extend(git(&["symbolic-ref", "-q", "HEAD"]));
    for name in watched {
        // A path that does not exist would make cargo run this on every build.
        if let Some(path) = git(&["rev-parse", "--git-path", &name])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    Some(revision)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
