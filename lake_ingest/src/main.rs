//! The `lake_ingest` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::main::<lake_ingest::LakeIngest>()
}
