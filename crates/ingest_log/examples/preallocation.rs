//! Compares ways to prepare a segment file: none, `fallocate`, filled with zeros.
//!
//! ```text
//! cargo run -p ingest_log --example preallocation -- DIR
//! ```
//! Prints one JSON line for each way and group size. Each commit is one positioned write and one
//! `fdatasync` into a 64 MiB file; `prepare_ms` is what making the file took.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{FallocateFlags, fallocate};

const SEGMENT_BYTES: u64 = 64 << 20;
/// Enough commits to be past the first, few enough to end soon.
const MOST_COMMITS: u64 = 256;

fn prepare(way: &str, path: &Path) -> Result<File, Box<dyn Error>> {
    let file = File::create(path)?;
    match way {
        "fallocate" => fallocate(&file, FallocateFlags::empty(), 0, SEGMENT_BYTES)?,
        "zeros" => {
            let zeros = vec![0; 1 << 20];
            for at in (0..SEGMENT_BYTES).step_by(zeros.len()) {
                file.write_all_at(&zeros, at)?;
            }
        }
        _ => {}
    }
    file.sync_all()?;
    Ok(file)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args()
        .nth(1)
        .ok_or("give a folder on the disk to measure")?;
    let path = Path::new(&dir).join("preallocation.tmp");
    for group_bytes in [200, 4 << 10, 64 << 10, 1 << 20] {
        for way in ["none", "fallocate", "zeros"] {
            let started = Instant::now();
            let file = prepare(way, &path)?;
            let prepare_ms = started.elapsed().as_millis();
            let group = vec![0x5a; group_bytes];
            let size = group.len() as u64;
            let commits = MOST_COMMITS.min(SEGMENT_BYTES / size);
            let started = Instant::now();
            for at in (0..commits).map(|i| i * size) {
                file.write_all_at(&group, at)?;
                file.sync_data()?;
            }
            let commit_us = started.elapsed().as_micros() / u128::from(commits);
            println!(
                r#"{{"way":"{way}","group_bytes":{group_bytes},"commits":{commits},"commit_us":{commit_us},"prepare_ms":{prepare_ms}}}"#
            );
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
