//! What other engines are told, and single steps of a run, by the program itself.

use std::fs;

use crate::program::{lake_ingest, run, store};

#[tokio::test]
async fn the_steps_of_a_run_are_taken_one_by_one() {
    let data = tempfile::tempdir().unwrap();
    store(data.path(), 0, 30).await;
    let (code, _, complaint) = run(data.path(), &["ddl", "duckdb"]);
    assert_eq!(code, 1);
    assert!(complaint.contains("no rows yet"), "{complaint}");
    let (code, _, complaint) = run(data.path(), &["offload"]);
    assert_eq!(code, 0, "{complaint}");
    let lake = data.path().join("lake");
    assert!(lake.join("raw/deliverer_location").is_dir());
    assert!(!lake.join("treated").exists());
    let (code, _, complaint) = run(data.path(), &["models", "--select", "treated"]);
    assert_eq!(code, 0, "{complaint}");
    assert!(lake.join("treated/deliverer_location").is_dir());
    assert!(!lake.join("final").exists());
    let (code, _, complaint) = run(data.path(), &["models", "--select", "golden"]);
    assert_eq!(code, 1);
    let says = "there is no model or layer golden; the models are treated.deliverer_location";
    assert!(complaint.contains(says), "{complaint}");
}

#[tokio::test]
async fn other_engines_are_told_of_the_tables_that_have_rows() {
    let data = tempfile::tempdir().unwrap();
    store(data.path(), 0, 30).await;
    assert_eq!(run(data.path(), &["offload"]).0, 0);
    let (code, text, complaint) = run(data.path(), &["ddl", "duckdb"]);
    assert_eq!(code, 0, "{complaint}");
    let folder = data.path().join("lake/raw/deliverer_location");
    assert!(text.contains(folder.to_str().unwrap()), "{text}");
    assert!(!text.contains("fleet_event"), "{text}");
    let (code, text, _) = run(
        data.path(),
        &["ddl", "clickhouse", "--all", "--prefix", "p_"],
    );
    assert_eq!(code, 0);
    assert!(text.contains("`p_final`.`vehicle_day`"), "{text}");
}

#[tokio::test]
async fn a_job_for_spark_is_written_and_handed_over() {
    let data = tempfile::tempdir().unwrap();
    store(data.path(), 0, 30).await;
    assert_eq!(run(data.path(), &["offload"]).0, 0);
    let job = data.path().join("job");
    let to_job = [
        "models",
        "--engine",
        "spark",
        "--job",
        job.to_str().unwrap(),
    ];
    let (code, text, complaint) = run(data.path(), &to_job);
    assert_eq!(code, 0, "{complaint}");
    assert!(text.contains("spark-submit"), "{text}");
    assert!(job.join("models.py").is_file() && job.join("final/vehicle_day.sql").is_file());
    let tables = fs::read_to_string(job.join("tables.sql")).unwrap();
    assert!(tables.contains("MSCK REPAIR TABLE `raw`.`deliverer_location`"));
    // Nothing was ever sent for it: it is empty, and has no folder to look into.
    assert!(tables.contains("TABLE IF NOT EXISTS `raw`.`fleet_event`"));
    assert!(!tables.contains("MSCK REPAIR TABLE `raw`.`fleet_event`"));

    // What it is submitted with ends as that program ends.
    for (program, expected) in [("true", 0), ("false", 1)] {
        let mut command = lake_ingest(data.path());
        command.args(["models", "--engine", "spark", "--spark-submit", program]);
        assert_eq!(command.status().unwrap().code(), Some(expected));
    }
    let absent = [
        "models",
        "--engine",
        "spark",
        "--spark-submit",
        "no-such-program",
    ];
    let (code, _, complaint) = run(data.path(), &absent);
    assert_eq!(code, 1);
    assert!(complaint.contains("--spark-submit"), "{complaint}");
}
