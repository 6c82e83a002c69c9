//! The models on Spark: the same SQL over the same raw tables makes the same rows.

use std::path::Path;
use std::process::{Command, Output};

use crate::oracle::invented;
use crate::python::python;
use crate::world::World;

const TEST: &str = "lake_models::spark";

/// Spark is half a gigabyte, so it is not among what every test machine has.
const INSTALL: &str = ".venv/bin/pip install -r tools/requirements-engines.txt (and Java 17)";

fn spark(python: &Path, world: &World, more: &[&str]) -> Output {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    command.arg(here.join("tests/spark.py"));
    command.args([world.lake_folder(), here.join("models")]);
    command.args(more).output().unwrap()
}

#[tokio::test]
async fn every_model_makes_the_same_rows_on_spark() {
    let Some(python) = python(TEST, "pyspark, pyarrow, h3", INSTALL) else {
        return;
    };
    let (world, _messages) = invented(&python).await;
    let output = spark(&python, &world, &[]);
    let told = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{complaint}");
    println!("{told}");
    let compared = told.lines().filter(|line| line.contains("rows agree"));
    assert_eq!(compared.count(), lake_models::builtin().len(), "{told}");
    // Negative control: a part in a million is noticed.
    let output = spark(&python, &world, &["--wrong"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains("final.delivery_trip: "));
}
