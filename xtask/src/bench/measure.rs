//! One burst against one subject.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use system_tests::pipeline::Pipeline;
use system_tests::process::{Finished, Process};
use system_tests::publisher::{Burst, Identity, Summary};
use system_tests::{poll, proc_stat};

use super::subject::{Kind, Subject};

/// How long one burst may take before it counts as hung.
const BURST_PATIENCE: Duration = Duration::from_mins(10);

/// Orders whose last location is compared with what was published.
const SAMPLED_ORDERS: usize = 100;

/// What one burst showed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    /// The subject.
    pub(crate) subject: Kind,
    /// Connections of the client.
    pub(crate) connections: u32,
    /// Messages published, all acknowledged.
    pub(crate) messages: u64,
    /// Acknowledged messages per second.
    pub(crate) acked_per_s: f64,
    /// Messages per second from the start of the client's process until all were stored, counted by the
    /// API, and the last locations of sampled orders were right; absent for a peer, which stores none.
    pub(crate) stored_and_readable_per_s: Option<f64>,
    /// Milliseconds from publishing to the acknowledgement.
    pub(crate) ack_p50_ms: f64,
    /// The same, 99 of 100.
    pub(crate) ack_p99_ms: f64,
    /// The same, 999 of 1000.
    pub(crate) ack_p999_ms: f64,
    /// Processor time of the server in microseconds per message, storing included.
    pub(crate) server_cpu_us_per_message: f64,
    /// Processor time of the client in microseconds per message.
    pub(crate) client_cpu_us_per_message: f64,
    /// The server's peak resident memory in MiB.
    pub(crate) server_peak_memory_mib: f64,
    /// Load averages when the burst began: figures of a busy machine are worth less.
    pub(crate) load_average: String,
}

/// Starts a fresh subject, sends one burst to it and waits until everything is readable.
pub(crate) fn measure(
    kind: Kind,
    lastmile: &Path,
    publisher: &Path,
    connections: u32,
    messages: u64,
) -> Result<Measurement> {
    let mut subject = Subject::start(kind, lastmile)?;
    let load_average = proc_stat::load_average();
    let server = subject.process().id();
    let cpu_before = proc_stat::read(server)?.cpu_s;
    let folder = tempfile::TempDir::with_prefix("lastmile-bench-client-")?;
    let burst = Burst {
        mqtt: subject.mqtt()?,
        messages,
        connections,
        ledger: Some(folder.path().join("ledger")),
        rate: None,
    };
    let started = Instant::now();
    let client = burst.launch(publisher, folder.path()).start()?;
    let (finished, client_cpu_s) = finish(client, BURST_PATIENCE)?;
    let summary = Summary::read(&finished)?;
    ensure!(
        summary.acked == messages,
        "only {} of {messages} messages were acknowledged",
        summary.acked
    );
    let stored = match subject.pipeline() {
        Some(pipeline) => {
            until_readable(pipeline, messages, &burst)?;
            Some(started.elapsed().as_secs_f64())
        }
        None => None,
    };
    let server_cpu_s = proc_stat::read(server)?.cpu_s - cpu_before;
    let peak = proc_stat::peak_memory_bytes(server)?;
    subject.until_kept(messages)?;
    let count = as_f64(messages);
    Ok(Measurement {
        subject: kind,
        connections,
        messages,
        acked_per_s: count / summary.elapsed_s,
        stored_and_readable_per_s: stored.map(|seconds| count / seconds),
        ack_p50_ms: summary.ack_latency_ms.p50,
        ack_p99_ms: summary.ack_latency_ms.p99,
        ack_p999_ms: summary.ack_latency_ms.p99_9,
        server_cpu_us_per_message: server_cpu_s * 1e6 / count,
        client_cpu_us_per_message: client_cpu_s * 1e6 / count,
        server_peak_memory_mib: as_f64(peak) / 1_048_576.0,
        load_average,
    })
}

/// Waits for a program's end; returns what it said and its processor time.
///
/// The time is read after it has ended and before it is reaped, when it is final.
pub(crate) fn finish(process: Process, patience: Duration) -> Result<(Finished, f64)> {
    let pid = process.id();
    let cpu_s = poll::until("the end of the program", patience, || {
        let stat = proc_stat::read(pid)?;
        Ok(stat.is_zombie.then_some(stat.cpu_s))
    })?;
    Ok((process.finish(poll::PATIENCE)?.success()?, cpu_s))
}

/// Waits until the API counts every message and answers the last location of sampled orders rightly.
fn until_readable(pipeline: &Pipeline, messages: u64, burst: &Burst) -> Result<()> {
    poll::until("all messages to be stored", BURST_PATIENCE, || {
        Ok((pipeline.counts()?.positions == messages).then_some(()))
    })?;
    let ledger = burst.ledger.as_deref().context("the burst has a ledger")?;
    for last in Identity::last_of_orders(ledger, SAMPLED_ORDERS)? {
        let path = format!("/api/v1/orders/{}/location", last.order_id);
        let answer = pipeline.http().json(&path)?;
        ensure!(
            answer["seq"].as_u64() == Some(last.seq),
            "the last location of order {} is {answer}, expected sequence {}",
            last.order_id,
            last.seq
        );
    }
    Ok(())
}

/// Counts here stay far below 2^53, where this would begin to round.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts here stay far below 2^53"
)]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
