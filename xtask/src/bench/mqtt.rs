//! `cargo xtask bench mqtt`: the broker alone, beside mosquitto with the same client in the same run.
//!
//! For each number of connections: acknowledged messages per second while an absent session has to keep all of them;
//! messages per second end to end, to one subscriber with a persistent session; latency of acknowledgements at half of
//! the rate that was reached. Ours acknowledges after `fdatasync`. Then the memory of idle connections,
//! over TCP, WebSocket and TLS.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement awaits the tasks it spawns"
)]

pub(super) mod client;
mod idle;
mod tls;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use system_tests::process::{Launch, Process};
use system_tests::{binaries, proc_stat};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use self::client::Load;
use super::measure::as_f64;
use super::median;
use super::subject::{Kind, start_mosquitto};
use crate::machine::Machine;
use crate::{print, progress};

/// Messages on their way in all, and of one connection at most.
const IN_FLIGHT: u64 = 65_536;
const WINDOW: u64 = 1_000;
/// Seconds of the load at half the rate.
const HALF_LOAD_S: f64 = 5.0;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Connections that publish, one measurement each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 512])]
    connections: Vec<u32>,
    /// Runs of everything; medians are reported
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Messages of each burst into ours
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Messages of each burst into mosquitto, which is slower
    #[arg(long, default_value_t = 200_000)]
    peer_messages: u64,
    /// Idle connections whose memory is looked at; 0 leaves it out
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Leave mosquitto out
    #[arg(long)]
    without_peer: bool,
    /// Build profile of the broker; figures count only for release. With `dev` and `LASTMILE_BIN_DIR` that of the
    /// folder
    #[arg(long, default_value = "release")]
    profile: String,
}

/// The whole result.
#[derive(Debug, Serialize)]
struct Report {
    what: &'static str,
    profile: String,
    machine: Machine,
    load_average_before: String,
    runs: u32,
    payload_bytes: usize,
    medians: Vec<Cell>,
    /// Medians of the runs below.
    idle: Vec<idle::Idle>,
    idle_runs: Vec<idle::Idle>,
    cells: Vec<Cell>,
}

/// One subject at one number of connections.
#[derive(Debug, Clone, Serialize)]
struct Cell {
    subject: Kind,
    connections: u32,
    messages: u64,
    acked_per_s: f64,
    delivered_per_s: f64,
    /// Half of `acked_per_s`, and what acknowledgements took at that rate.
    half_load_per_s: f64,
    ack_p50_ms: f64,
    ack_p99_ms: f64,
    server_cpu_us_per_message: f64,
    server_peak_memory_mib: f64,
    load_average: String,
    /// Ours divided by this subject's, in the medians.
    #[serde(skip_serializing_if = "Option::is_none")]
    acked_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_ratio: Option<f64>,
}

/// A running broker on data of its own.
#[derive(Debug)]
struct Broker {
    process: Process,
    mqtt: String,
    ws: Option<String>,
    tls: Option<String>,
    /// Goes with it; the certificate of its TLS is in it.
    folder: TempDir,
}

impl Broker {
    fn start(kind: Kind, program: &Path) -> Result<Self> {
        let folder = TempDir::with_prefix("lastmile-bench-")?;
        let Some(persistence) = persistence(kind) else {
            let (certificate, key) = tls::write_certificate(folder.path())?;
            let (process, ready) = Launch::of("broker", program, folder.path())
                .arg("--data")
                .arg(folder.path())
                .args([
                    "--mqtt-listen",
                    "127.0.0.1:0",
                    "--mqtt-ws-listen",
                    "127.0.0.1:0",
                    "--mqtt-tls-listen",
                    "127.0.0.1:0",
                ])
                .arg("--mqtt-tls-cert")
                .arg(certificate)
                .arg("--mqtt-tls-key")
                .arg(key)
                .args(["--admin-listen", "127.0.0.1:0", "--log", "warn"])
                .args(["--hold-for", "none"])
                .start_ready()?;
            return Ok(Self {
                process,
                mqtt: ready.address("mqtt")?,
                ws: Some(ready.address("mqtt_ws")?),
                tls: Some(ready.address("mqtt_tls")?),
                folder,
            });
        };
        let (process, port) = start_mosquitto(folder.path(), persistence)?;
        Ok(Self {
            process,
            mqtt: format!("127.0.0.1:{port}"),
            ws: None,
            tls: None,
            folder,
        })
    }

    fn id(&self) -> u32 {
        self.process.id()
    }

    fn address(&self, over: &str) -> Result<String> {
        match over {
            "mqtt" => Ok(self.mqtt.clone()),
            "tls" => self.tls.clone().context("it has no TLS"),
            _ => self.ws.clone().context("it has no WebSocket"),
        }
    }
}

/// Tells whether mosquitto is to write; `None`: it is ours.
fn persistence(kind: Kind) -> Option<bool> {
    match kind {
        Kind::Lastmile => None,
        Kind::MosquittoPersistent => Some(true),
        Kind::MosquittoInMemory => Some(false),
    }
}

/// Builds, measures, prints.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let kinds: &[Kind] = if options.without_peer {
        &Kind::ALL[..1]
    } else {
        &Kind::ALL
    };
    // The client is in this process.
    ensure!(
        options.profile == "dev" || !cfg!(debug_assertions),
        "the client would not be optimised: run it as `cargo run --release -p xtask -- bench mqtt`"
    );
    progress(&format!("building broker ({})", options.profile));
    let program = binaries::build("broker", &options.profile)?;
    let load_average_before = proc_stat::load_average();
    let runtime = Runtime::new()?;
    let mut cells = Vec::new();
    for run in 1..=options.runs {
        for &connections in &options.connections {
            for &kind in kinds {
                let messages = match kind {
                    Kind::Lastmile => options.messages,
                    _ => options.peer_messages,
                };
                let measured = cell(&runtime, kind, &program, connections, messages);
                let cell = measured.with_context(|| format!("{kind:?}, {connections}"))?;
                progress(&format!(
                    "run {run}/{}: {kind:?}, {connections} connections: {:.0} acked/s, {:.0} delivered/s, \
                     at half load p50 {:.2} p99 {:.2} ms, load {}",
                    options.runs,
                    cell.acked_per_s,
                    cell.delivered_per_s,
                    cell.ack_p50_ms,
                    cell.ack_p99_ms,
                    cell.load_average,
                ));
                cells.push(cell);
            }
        }
    }
    let mut idle_runs = Vec::new();
    for run in 1..=options.runs {
        for &kind in kinds.iter().filter(|_| options.idle > 0) {
            let overs: &[&'static str] = if kind == Kind::Lastmile {
                &["mqtt", "ws", "tls"]
            } else {
                &["mqtt"]
            };
            for &over in overs {
                let broker = Broker::start(kind, &program)?;
                let found = runtime.block_on(idle::measure(kind, over, &broker, options.idle))?;
                progress(&format!("run {run}/{}: {found:?}", options.runs));
                idle_runs.push(found);
            }
        }
    }
    print(&Report {
        what: "mqtt",
        profile: options.profile.clone(),
        machine: Machine::read(),
        load_average_before,
        runs: options.runs,
        payload_bytes: client::PAYLOAD_BYTES,
        medians: medians(&cells),
        idle: idle::medians(&idle_runs),
        idle_runs,
        cells,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Measures one subject at one number of connections, each figure with a broker of its own.
fn cell(
    runtime: &Runtime,
    kind: Kind,
    program: &Path,
    connections: u32,
    messages: u64,
) -> Result<Cell> {
    let load_average = proc_stat::load_average();
    let broker = Broker::start(kind, program)?;
    // Without a session to keep them for, a broker may acknowledge and forget.
    runtime.block_on(async {
        let mut keeper = client::connect(&broker.mqtt, "keeper", false).await?;
        client::subscribe(&mut keeper).await
    })?;
    let cpu_before = proc_stat::read(broker.id())?.cpu_s;
    let (_, acked_s) = runtime.block_on(publish(&broker, connections, messages, None))?;
    let acked_per_s = as_f64(messages) / acked_s;
    let cpu_s = proc_stat::read(broker.id())?.cpu_s - cpu_before;
    let server_peak_memory_mib = as_f64(proc_stat::peak_memory_bytes(broker.id())?) / 1_048_576.0;
    drop(broker);

    let half_load_per_s = acked_per_s / 2.0;
    let broker = Broker::start(kind, program)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is a positive number of messages"
    )]
    let some = (half_load_per_s * HALF_LOAD_S) as u64;
    let (mut latencies, _) = runtime.block_on(async {
        let mut keeper = client::connect(&broker.mqtt, "keeper", false).await?;
        client::subscribe(&mut keeper).await?;
        drop(keeper);
        publish(&broker, connections, some, Some(half_load_per_s)).await
    })?;
    latencies.sort_unstable();
    drop(broker);

    let broker = Broker::start(kind, program)?;
    let delivered_s = runtime.block_on(deliver(&broker, connections, messages))?;
    Ok(Cell {
        subject: kind,
        connections,
        messages,
        acked_per_s,
        delivered_per_s: as_f64(messages) / delivered_s,
        half_load_per_s,
        ack_p50_ms: quantile_ms(&latencies, 50),
        ack_p99_ms: quantile_ms(&latencies, 99),
        server_cpu_us_per_message: cpu_s * 1e6 / as_f64(messages),
        server_peak_memory_mib,
        load_average,
        acked_ratio: None,
        delivered_ratio: None,
    })
}

/// Publishes over all connections at once, from when the last is connected; returns latencies in microseconds and
/// seconds.
async fn publish(
    broker: &Broker,
    connections: u32,
    messages: u64,
    rate: Option<f64>,
) -> Result<(Vec<u32>, f64)> {
    let window = (IN_FLIGHT / u64::from(connections)).clamp(1, WINDOW);
    let share = messages / u64::from(connections);
    let extra = messages % u64::from(connections);
    let mut streams = Vec::new();
    for number in 0..connections {
        streams.push(client::connect(&broker.mqtt, &format!("p{number}"), true).await?);
    }
    let began = Instant::now();
    let publishers = (0..connections).zip(streams).map(|(number, stream)| {
        let load = Load {
            number,
            messages: share + u64::from(u64::from(number) < extra),
            window,
            rate: rate.map(|rate| rate / f64::from(connections)),
        };
        tokio::spawn(client::publish(stream, load))
    });
    let mut latencies = Vec::new();
    for publisher in publishers.collect::<Vec<_>>() {
        latencies.extend(publisher.await??);
    }
    Ok((latencies, began.elapsed().as_secs_f64()))
}

/// Publishes while a persistent subscriber takes everything; returns how long it takes until it has all.
async fn deliver(broker: &Broker, connections: u32, messages: u64) -> Result<f64> {
    let mut subscriber = client::connect(&broker.mqtt, "subscriber", false).await?;
    client::subscribe(&mut subscriber).await?;
    let consuming = tokio::spawn(async move {
        client::consume(subscriber, messages).await?;
        Ok::<_, anyhow::Error>(Instant::now())
    });
    let (_, published_s) = publish(broker, connections, messages, None).await?;
    let published = Instant::now();
    let consumed = consuming.await??;
    // The subscriber may be through before the last acknowledgement is read.
    Ok(published_s + consumed.saturating_duration_since(published).as_secs_f64())
}

fn quantile_ms(sorted: &[u32], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    let micros = sorted.get(at).copied().unwrap_or_default();
    Duration::from_micros(micros.into()).as_secs_f64() * 1e3
}

/// Returns the medians of the runs of each subject, and how ours compare.
fn medians(cells: &[Cell]) -> Vec<Cell> {
    let mut all: Vec<Cell> = Vec::new();
    for cell in cells {
        let key = (cell.subject, cell.connections);
        if all
            .iter()
            .any(|there| (there.subject, there.connections) == key)
        {
            continue;
        }
        let of = |value: fn(&Cell) -> f64| {
            let same = cells.iter().filter(|c| (c.subject, c.connections) == key);
            median(same.map(value))
        };
        all.push(Cell {
            acked_per_s: of(|cell| cell.acked_per_s),
            delivered_per_s: of(|cell| cell.delivered_per_s),
            half_load_per_s: of(|cell| cell.half_load_per_s),
            ack_p50_ms: of(|cell| cell.ack_p50_ms),
            ack_p99_ms: of(|cell| cell.ack_p99_ms),
            server_cpu_us_per_message: of(|cell| cell.server_cpu_us_per_message),
            server_peak_memory_mib: of(|cell| cell.server_peak_memory_mib),
            ..cell.clone()
        });
    }
    let ours = all.clone();
    for cell in &mut all {
        let same =
            |our: &&Cell| our.subject == Kind::Lastmile && our.connections == cell.connections;
        if cell.subject != Kind::Lastmile
            && let Some(our) = ours.iter().find(same)
        {
            cell.acked_ratio = Some(our.acked_per_s / cell.acked_per_s);
            cell.delivered_ratio = Some(our.delivered_per_s / cell.delivered_per_s);
        }
    }
    all
}
