//! Measures parts of the offload by themselves; prints JSON.
//!
//! - `lake_bench offload FILE FOLDER` offloads an SQLite store to a lake in a folder, as `lake_ingest offload` does.
//! - `lake_bench bare FOLDER OUTPUT` writes the positions of the lake in `FOLDER` again, one file for each, and nothing
//!   else. What is timed begins with a file's rows in memory, as one Arrow batch in the file's order with ids as
//!   dictionaries, and ends when the new file, made with the lake's writer settings, is synced.

#![expect(
    clippy::print_stdout,
    reason = "a program for developers prints its result"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema};
use lake::parquet_file::FileWriter;
use lake::{Offload, OffloadConfig, Root};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::RowGroupMetaData;
use serde_json::{Value, json};
use service::SystemClock;
use store_sqlite::{Options, SqliteStore};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["offload", store, lake] => offload(Path::new(store), Path::new(lake))?,
        ["bare", lake, output] => bare(Path::new(lake), Path::new(output))?,
        _ => return Err("lake_bench offload FILE FOLDER | bare FOLDER OUTPUT".into()),
    };
    println!("{result}");
    Ok(())
}

fn offload(store: &Path, lake: &Path) -> Outcome<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let store = Arc::new(SqliteStore::open(store, &Options::default())?);
    let root = Root::from_folder(lake);
    let config = OffloadConfig::new("lake_bench");
    let offload = Offload::new(store, &root, config, Arc::new(SystemClock));
    let begun = Instant::now();
    let mut on_progress = |_: &lake::Progress| ControlFlow::Continue(());
    let summary = runtime.block_on(offload.run_once(&mut on_progress))?;
    Ok(json!({
        "wall_s": begun.elapsed().as_secs_f64(),
        "cpu_s": cpu_s("/proc/self/stat")?,
        "peak_memory_mib": peak_memory_mib()?,
        "summary": summary,
    }))
}

fn bare(lake: &Path, output: &Path) -> Outcome<Value> {
    let mut files = Vec::new();
    gather(&lake.join("raw/deliverer_location"), &mut files)?;
    files.sort();
    let (mut rows, mut bytes, mut wall_s, mut encode_cpu_s, mut cpu_s) = (0, 0, 0.0, 0.0, 0.0);
    let mut columns = BTreeMap::new();
    for (number, path) in files.iter().enumerate() {
        let (batch, of_columns) = load(path)?;
        for (name, size) in of_columns {
            *columns.entry(name).or_insert(0) += size;
        }
        let target = output.join(format!("{number}.parquet"));
        let (begun, cpu_before) = (Instant::now(), thread_cpu_s()?);
        let mut writer = FileWriter::new("bare", &batch.schema())?;
        writer.write(&batch)?;
        let (content, written) = writer.finish()?;
        encode_cpu_s += thread_cpu_s()? - cpu_before;
        let mut file = File::create(&target)?;
        file.write_all(&content)?;
        file.sync_all()?;
        wall_s += begun.elapsed().as_secs_f64();
        cpu_s += thread_cpu_s()? - cpu_before;
        rows += written;
        bytes += content.len();
        std::fs::remove_file(target)?;
    }
    Ok(json!({
        "files": files.len(),
        "rows": rows,
        "bytes": bytes,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "encode_cpu_s": encode_cpu_s,
        "peak_memory_mib": peak_memory_mib()?,
        "bytes_by_column": columns,
    }))
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) -> Outcome<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            gather(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "parquet")
            && !path
                .components()
                .any(|part| part.as_os_str() == "_delta_log")
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Reads a file's rows as the offload has them when it encodes them; and the bytes each column takes in the file.
fn load(path: &Path) -> Outcome<(RecordBatch, Vec<(String, i64)>)> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let groups = builder.metadata().row_groups().iter();
    let chunks = groups.flat_map(RowGroupMetaData::columns);
    let sizes = chunks.map(|chunk| (chunk.column_path().string(), chunk.compressed_size()));
    let sizes = sizes.collect();
    let schema = builder.schema().clone();
    let batches = builder.build()?.collect::<Result<Vec<_>, _>>()?;
    let batch = concat_batches(&schema, &batches)?;
    let word = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let (mut fields, mut arrays) = (Vec::new(), Vec::<ArrayRef>::new());
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let holds = match field.data_type() {
            DataType::Utf8 => word.clone(),
            other => other.clone(),
        };
        arrays.push(cast(array, &holds)?);
        fields.push(Field::new(field.name(), holds, field.is_nullable()));
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
    Ok((batch, sizes))
}

/// Seconds of processor time of this thread; the kernel counts nanoseconds.
fn thread_cpu_s() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanos / 1e9)
}

/// Seconds of processor time of a process, all threads.
fn cpu_s(path: &str) -> Outcome<f64> {
    let text = std::fs::read_to_string(path)?;
    let (_, rest) = text.rsplit_once(')').ok_or("no name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).copied().unwrap_or_default().parse::<f64>();
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn peak_memory_mib() -> Outcome<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap_or_default().trim().trim_end_matches(" kB");
    Ok(kib.parse::<f64>()? / 1024.0)
}
