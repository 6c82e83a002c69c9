//! Fills a new SQLite store with what a simulated fleet reports over days, as broker and subscriber would have stored
//! it: `fill_store FILE ROWS [DELIVERERS [SEED]]`. The same arguments give the same rows.
//!
//! Positions are parsed from the payloads the publisher sends, and appended in batches. They were received 20 to
//! 200 ms after they were sent, to the microsecond, as networks have it.

#![expect(
    clippy::print_stdout,
    reason = "a program for developers prints its result"
)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use model::{Record, UtcMicros, native};
use publisher::simulation::{Report, SimulatedFleet};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use store::{Batch, Writer};
use store_sqlite::{Options, SqliteStore};

/// Records of a batch, as many as a busy subscriber brings.
const BATCH: usize = 10_000;

/// 2026-01-01, UTC, in milliseconds since the epoch.
const BEGIN_MS: i64 = 1_767_225_600_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let file = words.next().ok_or("which file?")?;
    let rows: u64 = words.next().ok_or("how many rows?")?.parse()?;
    let deliverers: u64 = words.next().map_or(Ok(500), |word| word.parse())?;
    let seed: u64 = words.next().map_or(Ok(1), |word| word.parse())?;
    let fleet = SimulatedFleet {
        deliverers,
        locations: 15,
        seconds: 10.0,
        seed,
        begin_ms: BEGIN_MS,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let store = SqliteStore::open(Path::new(&file), &Options::default())?;
    let begun = Instant::now();
    let mut delays = SmallRng::seed_from_u64(seed);
    let mut reports = fleet.reports();
    let (mut stored, mut left) = (0, rows);
    while left > 0 {
        let count = BATCH.min(usize::try_from(left)?);
        let records = reports
            .by_ref()
            .take(count)
            .map(|report| record(&report, delays.random_range(20_000..200_000)));
        let batch = Batch {
            records: records.collect::<Result<_, _>>()?,
            ..Batch::default()
        };
        left -= batch.len() as u64;
        stored += runtime.block_on(store.append(batch))?.stored;
    }
    println!(
        "{{\"rows\":{stored},\"seconds\":{:.3}}}",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn record(report: &Report, delay_us: i64) -> Result<Record, Box<dyn Error>> {
    let received = UtcMicros::new(report.sent_ms * 1_000 + delay_us).ok_or("not in time")?;
    let position = native::parse(&report.payload, None, received);
    let position = position.map_err(|defect| format!("{defect:?}: {}", report.payload))?;
    Ok(Record::Position(position))
}
