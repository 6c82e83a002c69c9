//! Writes what is generated under `deploy/`: the statements for each engine, and Terraform's tables.
//!
//! `cargo run -p lake_ddl --example generate`; a test says when it has to be run again.

use std::path::Path;

use lake_ddl::checked_in;
use lake_models::{builtin, catalog};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    for (file, text) in checked_in(&catalog(&builtin()).await?) {
        std::fs::write(deploy.join(file), text)?;
    }
    Ok(())
}
