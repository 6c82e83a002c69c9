//! Measures appends: CPU and wall time per position with many orders reporting in turn.
//!
//! `store_bench FILE ROWS BATCH ORDERS` prints one JSON line per million rows. Positions are made before
//! the clock starts. FILE must not exist; it is left behind for a look.
#![expect(clippy::print_stdout, reason = "its output is what it is run for")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use store::conformance::build::{Chance, batch, position};
use store::{HistoryOf, HistoryQuery, LakeSource, Reader, Writer};
use store_sqlite::{Options, SqliteStore};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, file, rows, batch, orders] = arguments.as_slice() else {
        return Err("usage: store_bench FILE ROWS BATCH ORDERS".into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()?;
    let file = PathBuf::from(file);
    if file.exists() {
        return Err("the file exists; name a new one".into());
    }
    runtime.block_on(run(file, rows.parse()?, batch.parse()?, orders.parse()?))
}

/// CPU time of this process, in seconds.
fn cpu() -> Fallible<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |index: usize| -> Fallible<f64> {
        Ok(fields.get(index).ok_or("no field")?.parse::<f64>()?)
    };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

async fn run(file: PathBuf, rows: u64, size: u64, orders: u64) -> Fallible<()> {
    let store = Arc::new(SqliteStore::open(&file, &Options::default())?);
    let mut chance = Chance::new(1);
    let (mut done, mut seq) = (0, 0);
    let (mut busy_cpu, mut mark) = (0.0, 0);
    let mut walls: Vec<f64> = Vec::new();
    while done < rows {
        let points = (0..size).map(|_| {
            seq += 1;
            // An order lives for two million rows; points arrive up to two seconds late.
            let number = chance.below(orders);
            let micros = i64::try_from(seq * 10).unwrap_or(0)
                - i64::try_from(chance.below(2_000_000)).unwrap_or(0);
            let order = format!("order-{number:06}-{}", done / 2_000_000);
            position(
                Some(&order),
                &format!("rider-{number:06}"),
                micros,
                Some(seq),
            )
        });
        let batch = batch(points);
        let (cpu_before, began) = (cpu()?, Instant::now());
        store.append(batch).await?;
        walls.push(began.elapsed().as_secs_f64());
        busy_cpu += cpu()? - cpu_before;
        done += size;
        if done - mark >= 1_000_000 || done >= rows {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let count = (done - mark) as f64;
            walls.sort_unstable_by(f64::total_cmp);
            println!(
                r#"{{"rows":{done},"batch":{size},"orders":{orders},"cpu_us":{:.2},"wall_us":{:.2},"batch_p50_ms":{:.1},"batch_p99_ms":{:.1},"batch_max_ms":{:.1}}}"#,
                busy_cpu * 1e6 / count,
                walls.iter().sum::<f64>() * 1e6 / count,
                walls[walls.len() / 2] * 1e3,
                walls[walls.len() * 99 / 100] * 1e3,
                walls[walls.len() - 1] * 1e3
            );
            walls.clear();
            (busy_cpu, mark) = (0.0, done);
        }
    }
    reads(&store, orders, done).await?;
    println!(
        r#"{{"bytes_per_row":{}}}"#,
        std::fs::metadata(&file)?.len() / done
    );
    Ok(())
}

async fn reads(store: &SqliteStore, orders: u64, rows: u64) -> Fallible<()> {
    let mut chance = Chance::new(2);
    let newest = rows.saturating_sub(1) / 2_000_000;
    let mut times = Vec::new();
    for _ in 0..20_000 {
        let id = format!("order-{:06}-{newest}", chance.below(orders));
        let id = model::OrderId::new(id)?;
        let began = Instant::now();
        store.last_by_order(&id).await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!(
        r#"{{"last_p50_us":{},"last_p99_us":{}}}"#,
        times[10_000].as_micros(),
        times[19_800].as_micros()
    );
    for of in [
        HistoryOf::Order(model::OrderId::new("order-000007-0")?),
        HistoryOf::Deliverer(model::DelivererId::new("rider-000007")?),
    ] {
        let query = HistoryQuery {
            of,
            from: None,
            to: None,
            limit: 1_000,
            after: None,
        };
        let began = Instant::now();
        let page = store.history(&query).await?;
        println!(
            r#"{{"history_items":{},"history_us":{}}}"#,
            page.items.len(),
            began.elapsed().as_micros()
        );
    }
    let began = Instant::now();
    let (mut after, mut scanned) = (0, 0_u64);
    while scanned < rows.min(1_000_000) {
        let part = store
            .scan_positions(store.id(), after, rows, 50_000)
            .await?;
        let Some(last) = part.last() else { break };
        after = last.writer_seq;
        scanned += part.len() as u64;
    }
    println!(
        r#"{{"scanned":{scanned},"scan_ms":{}}}"#,
        began.elapsed().as_millis()
    );
    Ok(())
}
