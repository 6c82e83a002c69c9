//! Measures appends beside the bare driver: documents per second, and CPU of client and server.
//!
//! `store_bench URI ROWS BATCH ORDERS TASKS ROUNDS [SERVER_PID]` writes the same positions in the same batches,
//! round by round in turn: `bare` with `insert_many` into a collection without secondary indexes, `store` with
//! `MongoStore::append`. The bare driver sends a batch in the same commands, as many at once. Prints one JSON line per measurement and the ratio of the medians at the end. Each measurement
//! has a database of its own, dropped after it.
#![expect(clippy::print_stdout, reason = "its output is what it is run for")]

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::bson::{DateTime, RawDocumentBuf, serialize_to_raw_document_buf};
use mongodb::options::{Acknowledgment, CollectionOptions, WriteConcern};
use mongodb::{Client, Collection};
use serde::Serialize;
use store::conformance::build::{Chance, batch, position};
use store::{Batch, Writer};
use store_mongo::{MongoStore, Options};
use tokio::task::JoinSet;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Rows in one command and commands at once per task: what the store does.
const CHUNK: usize = 1_000;
const UNDER_WAY: usize = 4;

/// The document the store writes for such a position.
#[derive(Clone, Serialize)]
struct Row {
    #[serde(rename = "_id")]
    id: String,
    order_id: String,
    deliverer_id: String,
    delivery_state: &'static str,
    event_time: DateTime,
    event_time_us: Option<i32>,
    received_time: DateTime,
    received_time_us: Option<i32>,
    lat: f64,
    lon: f64,
    speed_mps: f64,
    heading_deg: f64,
    seq: i64,
    source: &'static str,
    w: &'static str,
    s: i64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Bare,
    Store,
}

struct Plan {
    uri: String,
    rows: usize,
    batch: usize,
    orders: u64,
    tasks: usize,
    server: Option<String>,
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, rows, batch, orders, tasks, rounds, rest @ ..] = arguments.as_slice() else {
        return Err("usage: store_bench URI ROWS BATCH ORDERS TASKS ROUNDS [SERVER_PID]".into());
    };
    let plan = Plan {
        uri: uri.clone(),
        rows: rows.parse()?,
        batch: batch.parse()?,
        orders: orders.parse()?,
        tasks: tasks.parse()?,
        server: rest.first().cloned(),
    };
    let rounds: usize = rounds.parse()?;
    // Never shut down: the driver's farewell to the server would panic without the tasks it needs.
    let runtime = ManuallyDrop::new(
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?,
    );
    let all = [How::Bare, How::Store];
    let mut rates: [Vec<f64>; 2] = Default::default();
    for round in 0..rounds {
        // Another one goes first each time, so that none has the quiet server to itself.
        for step in 0..all.len() {
            let which = (round + step) % all.len();
            rates[which].push(runtime.block_on(measure(&plan, all[which], round))?);
        }
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_unstable_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let [bare, store] = rates.each_mut().map(median);
    println!(
        r#"{{"bare":{bare:.0},"store":{store:.0},"store_to_bare":{:.2}}}"#,
        store / bare
    );
    Ok(())
}

/// CPU time of a process, in seconds.
fn cpu(pid: &str) -> Fallible<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
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

/// Makes the batches of one task: orders report in random turn.
fn batches(plan: &Plan, task: usize) -> Vec<Batch> {
    let mut chance = Chance::new(task as u64);
    let each = plan.rows / plan.tasks;
    let mut seq = 0;
    (0..each.div_ceil(plan.batch))
        .map(|_| {
            batch((0..plan.batch).map(|_| {
                seq += 1;
                let number = chance.below(plan.orders);
                let micros = i64::try_from(seq * 1_000).unwrap_or(0);
                let (order, rider) = (
                    format!("order-{task}-{number:06}"),
                    format!("rider-{task}-{number:06}"),
                );
                let mut point = position(Some(&order), &rider, micros, Some(seq));
                point.speed_mps = Some(4.5);
                point.heading_deg = Some(90.0);
                point
            }))
        })
        .collect()
}

fn row(position: &model::Position, s: i64) -> Row {
    let order = position.order_id.as_ref().map_or("", |id| id.as_str());
    let deliverer = position.deliverer_id.as_str();
    let micros = position.event_time.as_micros();
    let date = DateTime::from_millis(micros / 1_000);
    Row {
        id: format!(
            "{order}\u{1f}{micros:015x}\u{1f}{deliverer}\u{1f}{:016x}",
            position.discriminator().cast_unsigned() ^ (1 << 63)
        ),
        order_id: order.to_owned(),
        deliverer_id: deliverer.to_owned(),
        delivery_state: "on_the_way",
        event_time: date,
        event_time_us: None,
        received_time: date,
        received_time_us: None,
        lat: position.lat.degrees(),
        lon: position.lon.degrees(),
        speed_mps: 4.5,
        heading_deg: 90.0,
        seq: position.discriminator(),
        source: "native",
        w: "bench-1",
        s,
    }
}

async fn measure(plan: &Plan, how: How, round: usize) -> Fallible<f64> {
    let name = format!("lastmile_bench_{}_{how:?}_{round}", std::process::id());
    let client = Client::with_uri_str(&plan.uri).await?;
    let database = client.database(&name);
    database.drop().await?;
    let work: Vec<Vec<Batch>> = (0..plan.tasks).map(|task| batches(plan, task)).collect();
    let server = |plan: &Plan| plan.server.as_deref().map_or(Ok(0.0), cpu);
    let rows = work.iter().flatten().map(Batch::len).sum::<usize>();
    let (took, client_cpu, server_cpu) = if how == How::Store {
        let options = Options {
            database: Some(name),
            ..Options::new(&plan.uri)
        };
        let store = MongoStore::open(&options).await?;
        let tasks = work.into_iter().map(|batches| {
            let store = store.another_writer();
            async move {
                for batch in batches {
                    store.append(batch).await?;
                }
                Fallible::Ok(())
            }
        });
        timed(plan, &server, tasks).await?
    } else {
        let durable = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .build();
        let options = CollectionOptions::builder().write_concern(durable).build();
        database.create_collection("positions").await?;
        let rows: Collection<Row> = database.collection_with_options("positions", options);
        let tasks = work
            .into_iter()
            .map(|batches| insert(rows.clone(), batches));
        timed(plan, &server, tasks).await?
    };
    database.drop().await?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let count = rows as f64;
    println!(
        r#"{{"how":"{how:?}","rows":{rows},"per_second":{:.0},"client_cpu_us":{:.1},"server_cpu_us":{:.1}}}"#,
        count / took,
        client_cpu * 1e6 / count,
        server_cpu * 1e6 / count
    );
    Ok(count / took)
}

/// Waits for tasks; returns wall time and CPU of client and server, in seconds.
async fn timed(
    plan: &Plan,
    server: &impl Fn(&Plan) -> Fallible<f64>,
    tasks: impl Iterator<Item = impl Future<Output = Fallible<()>> + Send + 'static>,
) -> Fallible<(f64, f64, f64)> {
    let (client_before, server_before, began) = (cpu("self")?, server(plan)?, Instant::now());
    let mut running: JoinSet<Fallible<()>> = tasks.collect();
    while let Some(task) = running.join_next().await {
        task??;
    }
    let took = began.elapsed().as_secs_f64();
    Ok((
        took,
        cpu("self")? - client_before,
        server(plan)? - server_before,
    ))
}

async fn insert(rows: Collection<Row>, batches: Vec<Batch>) -> Fallible<()> {
    let rows = Arc::new(rows);
    let mut s = 0;
    for batch in batches {
        let documents: Vec<Row> = batch
            .records
            .iter()
            .filter_map(model::Record::position)
            .map(|position| {
                s += 1;
                row(position, s)
            })
            .collect();
        let size = documents
            .first()
            .map(serialize_to_raw_document_buf)
            .transpose()?;
        debug_assert!(size.is_none_or(|row: RawDocumentBuf| row.as_bytes().len() < 600));
        let chunks: Vec<Vec<Row>> = documents.chunks(CHUNK).map(<[Row]>::to_vec).collect();
        stream::iter(chunks)
            .map(|chunk| {
                let rows = rows.clone();
                async move { rows.insert_many(chunk).ordered(false).await.map(drop) }
            })
            .buffer_unordered(UNDER_WAY)
            .try_collect::<()>()
            .await?;
    }
    Ok(())
}
