use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use formats::{Decoded, Message, decode};
use lake_ddl::{Engine, Target, checked_in, render};
use lake_models::{Definition, builtin, catalog};
use model::UtcMicros;

use crate::python::{INSTALL, python, workspace};
use crate::world::{World, at, position};

/// Puts the large engines there, which not every machine gets.
const INSTALL_ENGINES: &str =
    ".venv/bin/pip install -r tools/requirements-engines.txt (and Java 17 for Spark)";

/// Makes a lake, and returns the declared tables that have rows in it, and how many.
async fn lake() -> (World, Vec<Definition>, String) {
    let world = World::new();
    let positions = (0..400).map(|i| {
        let mut position = position(&format!("d{}", i % 7), at(i / 200, i * 60 % 80_000), 52.0);
        position.speed_mps = (i % 3 == 0).then_some(4.5);
        position
    });
    world.store(positions).await;
    let mut events = String::new();
    let event = |on: &str, event: &str, at: &str, data: &str| {
        format!(
            "{{\"event\":\"{event}\",\"on\":\"{on}\",\"at\":\"{at}\",\"data\":{data},\"organization_id\":\"it's us\"}}\n"
        )
    };
    events += &event(
        "vehicle",
        "register",
        "2026-01-01T06:00:00Z",
        r#"{"id":"v1"}"#,
    );
    events += &event(
        "operating_period",
        "create",
        "2026-01-01T06:00:00Z",
        r#"{"id":"op1","start":"2026-01-01T06:00:00Z","finish":"2026-01-01T22:00:00Z"}"#,
    );
    for minute in 0..50 {
        let time = format!("2026-01-01T07:{minute:02}:00Z");
        let data = format!(
            r#"{{"id":"v1","location":{{"lat":52.{minute:02},"lng":13.4,"at":"{time}"}}}}"#
        );
        events += &event("vehicle", "update", &time, &data);
    }
    events += &event(
        "vehicle",
        "deregister",
        "2026-01-01T23:00:00Z",
        r#"{"id":"v1"}"#,
    );
    let mut decoded = Decoded::default();
    let message = Message {
        topic: "fleet/org-id/events",
        payload: events.as_bytes(),
        received_time: UtcMicros::parse("2026-01-02T00:00:00Z").unwrap(),
        log_seq: None,
    };
    decode(message, &mut decoded);
    assert!(decoded.rejects.is_empty(), "{:?}", decoded.rejects.first());
    world.append(decoded.records).await;
    world.refresh().await;
    let mut tables = Vec::new();
    for table in catalog(&builtin()).await.unwrap() {
        if world.lake_folder().join(table.folder()).is_dir() {
            tables.push(table);
        }
    }
    let mut expected = Vec::new();
    let mut filled = Vec::new();
    for table in tables {
        let count = format!("SELECT COUNT(*) FROM {}", table.full_name());
        let rows = world.cells(&count).await;
        if rows[0][0] != "0" {
            expected.push(format!("{} {}\n", table.full_name(), rows[0][0]));
            filled.push(table);
        }
    }
    let expected = expected.concat();
    assert!(expected.contains("raw.fleet_event 53\n"), "{expected}");
    assert!(
        expected.contains("raw.deliverer_location 450\n"),
        "{expected}"
    );
    (world, filled, expected)
}

fn target(world: &World) -> Target {
    Target {
        root: world.lake_folder().to_str().unwrap().to_owned(),
        prefix: String::new(),
    }
}

/// Hands statements to an engine; it prints the rows of each table.
fn run(python: &Path, engine: &str, statements: &str, tables: &[Definition]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines.py");
    let names = tables.iter().map(Definition::full_name);
    let mut child = Command::new(python)
        .arg(script)
        .arg(engine)
        .args(names)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(statements.as_bytes()).unwrap();
    drop(input);
    child.wait_with_output().unwrap()
}

/// The engine counts what the lake holds; and one file less is noticed.
async fn counts(test: &str, (modules, install): (&str, &str), name: &str, engines: &[Engine]) {
    let Some(python) = python(test, modules, install) else {
        return;
    };
    let (world, tables, expected) = lake().await;
    let statements: String = engines
        .iter()
        .map(|engine| render(*engine, &tables, &target(&world)))
        .collect();
    let output = run(&python, name, &statements, &tables);
    let told = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{statements}\n{told}\n{complaint}");
    assert_eq!(told, expected);
    let (path, _) = world
        .files("raw/deliverer_location/event_date=2026-01-01")
        .remove(0);
    std::fs::remove_file(path).unwrap();
    let output = run(&python, name, &statements, &tables);
    assert_ne!(String::from_utf8_lossy(&output.stdout), expected);
}

#[tokio::test]
async fn duckdb_counts_what_the_lake_holds() {
    counts(
        "duckdb_counts_what_the_lake_holds",
        ("duckdb", INSTALL),
        "duckdb",
        &[Engine::DuckDb],
    )
    .await;
}

#[tokio::test]
async fn clickhouse_loads_what_the_lake_holds() {
    // Loading twice leaves the same.
    let engines = [
        Engine::ClickHouse,
        Engine::ClickHouseLoad,
        Engine::ClickHouseLoad,
    ];
    counts(
        "clickhouse_loads_what_the_lake_holds",
        ("chdb", INSTALL_ENGINES),
        "clickhouse",
        &engines,
    )
    .await;
}

#[tokio::test]
async fn spark_counts_what_the_lake_holds() {
    counts(
        "spark_counts_what_the_lake_holds",
        ("pyspark", INSTALL_ENGINES),
        "spark",
        &[Engine::Spark],
    )
    .await;
}

#[tokio::test]
async fn hive_s_dialect_counts_what_the_lake_holds() {
    counts(
        "hive_s_dialect_counts_what_the_lake_holds",
        ("pyspark", INSTALL_ENGINES),
        "hive",
        &[Engine::Hive],
    )
    .await;
}

/// Moto's Glue takes the tables as Terraform would hand them over.
#[tokio::test]
async fn glue_takes_the_tables() {
    let Some(python) = python("glue_takes_the_tables", "moto, boto3, pyparsing", INSTALL) else {
        return;
    };
    let tables = catalog(&builtin()).await.unwrap();
    let target = Target {
        root: "s3://example/fleet".to_owned(),
        prefix: "lastmile_".to_owned(),
    };
    let output = run(
        &python,
        "glue",
        &render(Engine::Glue, &tables, &target),
        &tables,
    );
    let told = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{complaint}");
    let folders = tables.iter().map(|table| {
        format!(
            "{} s3://example/fleet/{}/\n",
            table.full_name(),
            table.folder()
        )
    });
    assert_eq!(told, folders.collect::<String>());
}

#[tokio::test]
async fn what_is_checked_in_is_what_the_declarations_say() {
    for (file, text) in checked_in(&catalog(&builtin()).await.unwrap()) {
        let path = workspace().join("deploy").join(file);
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        let remedy = "run `cargo run -p lake_ddl --example generate`";
        assert!(found == text, "{} is out of date; {remedy}", path.display());
    }
}
