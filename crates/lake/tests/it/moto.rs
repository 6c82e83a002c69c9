//! moto, an S3 service of other makers, as a process beside the tests.
//!
//! Several test programs take this file in; it needs nothing but the standard library.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The process; it ends when this program does, because its standard input closes then.
struct Moto {
    endpoint: String,
    _process: Child,
}

static MOTO: OnceLock<Option<Moto>> = OnceLock::new();
static BUCKETS: AtomicU32 = AtomicU32::new(0);

/// Returns the service's URL and the name of a bucket no other test uses, which does not exist yet; or reports the
/// test as skipped.
pub(crate) fn moto(test: &str) -> Option<(String, String)> {
    let Some(moto) = MOTO.get_or_init(start) else {
        skipped(test, "needs Python with moto; run tools/install.sh");
        return None;
    };
    let number = BUCKETS.fetch_add(1, Ordering::Relaxed);
    Some((moto.endpoint.clone(), format!("bucket-{number}")))
}

/// Reports a test as skipped.
pub(crate) fn skipped(test: &str, why: &str) {
    // Past the test harness's capture, so that it is seen whether the test passes or not.
    drop(writeln!(std::io::stderr(), "SKIPPED {test}: {why}"));
}

/// Returns the Python the tests use.
pub(crate) fn python() -> PathBuf {
    let of_workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut of_workspace = of_workspace.map(|folder| folder.join(".venv/bin/python"));
    match std::env::var_os("LASTMILE_PYTHON") {
        Some(given) => given.into(),
        None => of_workspace
            .find(|python| python.exists())
            .unwrap_or_else(|| "python3".into()),
    }
}

fn start() -> Option<Moto> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let script = here
        .map(|folder| folder.join("crates/lake/tests/moto_server.py"))
        .find(|script| script.exists())?;
    let process = Command::new(python())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut process = process.ok()?;
    let mut port = String::new();
    BufReader::new(process.stdout.take()?)
        .read_line(&mut port)
        .ok()?;
    let port: u16 = port.trim().parse().ok()?;
    Some(Moto {
        endpoint: format!("http://127.0.0.1:{port}"),
        _process: process,
    })
}
