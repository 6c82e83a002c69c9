//! The clients against a broker written for the test, which breaks connections where it hurts, and
//! against a real Mosquitto (skipped by name where none is installed).
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]
#![expect(clippy::print_stdout, reason = "a skipped test says so by name")]

mod consumer;
mod consumer_link;
mod fake_broker;
mod live;
mod mosquitto;
mod publisher;
mod subscribing;
mod tls;

use std::time::Duration;

use mqtt_client::ConnectOptions;
use tokio::sync::watch;

/// How long anything may take before the test fails; nothing is measured against it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for a step, and fails the test when it takes too long.
pub(crate) async fn within<F: Future>(what: &str, step: F) -> F::Output {
    let done = tokio::time::timeout(PATIENCE, step).await;
    assert!(done.is_ok(), "timed out: {what}");
    done.unwrap()
}

pub(crate) async fn connected(mut state: watch::Receiver<bool>) {
    within("connect", state.wait_for(|&connected| connected))
        .await
        .unwrap();
}

pub(crate) async fn disconnected(mut state: watch::Receiver<bool>) {
    within("disconnect", state.wait_for(|&connected| !connected))
        .await
        .unwrap();
}

pub(crate) fn connect(port: u16, client_id: &str) -> ConnectOptions {
    ConnectOptions::new("127.0.0.1", port, client_id)
}
