//! Measures durable appends per second, alone on the log.
//!
//! ```text
//! cargo run --release -p ingest_log --example append_bench -- DIR [SECONDS] [BATCH]
//! ```
//! Runs 1, 8 and 64 tasks for SECONDS (default 5) each. A task appends BATCH (default 16) records of 180
//! bytes, like a connection that got them in one read; it keeps up to 64 batches unconfirmed, like a
//! client with that window. Prints one JSON line for each run; `records_per_s` counts records whose
//! commit has resolved. Then reads everything back and prints how fast.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest_log::{Commit, Log, LogConfig, LogError, RealDisk, RecordBatch, RecordHead};
use tokio::task::JoinSet;

/// Batches a task keeps unconfirmed.
const WINDOW: usize = 64;

struct Outcome {
    records: u64,
    latencies: Vec<Duration>,
}

async fn append(log: Log, until: Instant, batch_len: usize) -> Result<Outcome, LogError> {
    let payload = [b'x'; 180];
    let head = RecordHead {
        qos: 1,
        retain: false,
        received_us: 0,
        topic: "deliveries/1234/location",
        client_id: "device-1234",
        properties: &[],
    };
    let mut batch = RecordBatch::new();
    let mut window: VecDeque<(Instant, Commit)> = VecDeque::new();
    let mut outcome = Outcome {
        records: 0,
        latencies: Vec::new(),
    };
    loop {
        let ended = Instant::now() >= until;
        while window.len() >= WINDOW || (ended && !window.is_empty()) {
            let Some((since, commit)) = window.pop_front() else {
                break;
            };
            let seqs = commit.await?;
            outcome.records += seqs.end - seqs.start;
            outcome.latencies.push(since.elapsed());
        }
        if ended {
            return Ok(outcome);
        }
        for _ in 0..batch_len {
            batch.push(&head, &payload)?;
        }
        window.push_back((Instant::now(), log.append_from(&mut batch).await?));
    }
}

async fn run(dir: &Path, tasks: usize, seconds: u64, batch: usize) -> Result<(), Box<dyn Error>> {
    let dir = dir.join(format!("append_bench_{tasks}"));
    let (log, _) = Log::open(Arc::new(RealDisk), LogConfig::new(&dir))?;
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        running.spawn(append(log.clone(), until, batch));
    }
    let (mut records, mut latencies) = (0, Vec::new());
    while let Some(outcome) = running.join_next().await {
        let outcome = outcome??;
        records += outcome.records;
        latencies.extend(outcome.latencies);
    }
    let took = started.elapsed();
    latencies.sort_unstable();
    let percentile = |p: usize| latencies[(latencies.len() - 1) * p / 100].as_micros();
    let status = log.status();
    println!(
        r#"{{"tasks":{tasks},"batch":{batch},"records":{records},"records_per_s":{},"mib_per_s":{},"commits":{},"p50_us":{},"p99_us":{}}}"#,
        u128::from(records) * 1_000_000 / took.as_micros(),
        u128::from(status.bytes) * 1_000 / took.as_millis() / (1 << 20),
        status.commits,
        percentile(50),
        percentile(99),
    );
    read_back(&log, records).await?;
    log.close().await?;
    let reopened = Instant::now();
    let (log, report) = Log::open(Arc::new(RealDisk), LogConfig::new(&dir))?;
    println!(
        r#"{{"reopen_ms":{},"segments":{},"scanned_records":{}}}"#,
        reopened.elapsed().as_millis(),
        report.segments,
        report.scanned_records
    );
    log.close().await?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

async fn read_back(log: &Log, records: u64) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let (mut reader, mut read, mut bytes) = (log.reader(log.first()), 0, 0);
    while read < records {
        let chunk = reader.next_chunk(1 << 20).await?.ok_or("the log ended")?;
        for record in &chunk {
            read += 1;
            bytes += record.payload.len();
        }
    }
    let took = started.elapsed().as_micros();
    println!(
        r#"{{"read_records":{read},"payload_bytes":{bytes},"records_per_s":{}}}"#,
        u128::from(read) * 1_000_000 / took
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments
        .next()
        .ok_or("give a folder on the disk to measure")?;
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let batch = arguments.next().map_or(Ok(16), |text| text.parse())?;
    for tasks in [1, 8, 64] {
        run(Path::new(&dir), tasks, seconds, batch).await?;
    }
    Ok(())
}
