//! Debian's mosquitto: the broker our subscriber must also work with, and the one measured beside ours.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process::Launch;
use crate::skip;

/// Tells whether it is installed, or reports `test` as skipped.
pub fn is_installed(test: &str) -> bool {
    let found = Command::new("mosquitto").arg("-h").output().is_ok();
    if !found {
        skip::report(test, "needs mosquitto; run tools/install.sh as root");
    }
    found
}

/// Prepares a broker on a port of the loopback interface that queues without limit for absent sessions,
/// and, with `persistence`, writes them to a file now and then.
///
/// # Errors
/// When its configuration cannot be written.
pub fn launch(folder: &Path, port: u16, persistence: bool) -> Result<Launch> {
    let configuration = folder.join("mosquitto.conf");
    // As root, mosquitto becomes another user unless told whom to be.
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence {persistence}\n\
         persistence_location {}/\nmax_queued_messages 0\nset_tcp_nodelay true\nmax_inflight_messages 1000\n",
        folder.display()
    );
    std::fs::write(&configuration, text)?;
    Ok(Launch::of("mosquitto", "mosquitto", folder)
        .arg("-c")
        .arg(&configuration))
}
