//! A lake in a bucket: the same models, queries and numbers as in a folder, for this crate and for other readers.

use std::path::Path;
use std::process::Command;

use lake::Root;
use lake::storage::Access;
use lake::storage::s3::{Location, Options, S3Storage};
use lake_models::ModelOutcome;
use model::Position;

use crate::moto::{moto, python};
use crate::world::{World, at, position};

/// Table, its partition column, and a column to sum.
const TABLES: [(&str, &str, &str); 4] = [
    ("raw/deliverer_location", "event_date", "lat"),
    ("treated/deliverer_location", "event_date", "lat"),
    ("final/vehicle_position_data", "date", "driven_meters"),
    (
        "final/deliverer_location_aggregated",
        "date",
        "count_orders",
    ),
];

fn root(endpoint: &str, bucket: &str) -> Root {
    let options = Options {
        endpoint: Some(endpoint.to_owned()),
        create_bucket: true,
        credentials: Some(("tester".to_owned(), "hunter2".to_owned().into())),
        ..Options::default()
    };
    let location = Location::parse(&format!("{bucket}/my-lake/x")).unwrap();
    Root::from_s3(S3Storage::new(location, options))
}

fn positions(day: i64, count: i64) -> impl Iterator<Item = Position> {
    (0..count).map(move |number| {
        let lat = 52.0 + f64::from(i32::try_from(number).unwrap()) / 1e3;
        position(&format!("v{}", number % 5), at(day, number), lat)
    })
}

async fn numbers(world: &World) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for (table, _, column) in TABLES {
        let table = table.replace('/', ".");
        let sql = format!("SELECT count(*), sum({column}) FROM {table}");
        all.extend(world.cells(&sql).await);
    }
    all
}

#[tokio::test]
async fn a_bucket_holds_what_a_folder_holds_for_every_reader() {
    let Some((endpoint, bucket)) = moto("lake_models::bucket") else {
        return;
    };
    let (folder, in_s3) = (World::new(), World::of(root(&endpoint, &bucket)));
    in_s3.root().open().check(Access::Write).await.unwrap();
    for world in [&folder, &in_s3] {
        world.store(positions(0, 300)).await;
        world.store(positions(2, 40)).await;
        let summaries = world.refresh().await;
        assert!(summaries.iter().all(|s| s.outcome == ModelOutcome::Ran));
        // Late rows: partitions are replaced, and what was replaced leaves.
        world.store(positions(1, 25)).await;
        world.refresh().await;
        let summaries = world.refresh().await;
        assert!(
            summaries
                .iter()
                .all(|s| s.outcome == ModelOutcome::Unchanged)
        );
    }
    let (expected, found) = (numbers(&folder).await, numbers(&in_s3).await);
    for (found, expected) in found.iter().zip(&expected) {
        let sums = [found, expected].map(|row| row[1].parse::<f64>().unwrap());
        // Files are summed up side by side, in no order.
        let close = (sums[0] - sums[1]).abs() <= 1e-12 * sums[1].abs();
        assert!(found[0] == expected[0] && close, "{found:?} {expected:?}");
    }
    assert_eq!(
        (found.len(), expected[0][0].as_str()),
        (TABLES.len(), "365")
    );
    let sql = "SELECT vehicle_id, lat FROM final.vehicle_position_data \
               WHERE date = DATE '2026-01-02' AND lat > 52.01 ORDER BY 2 LIMIT 3";
    assert_eq!(in_s3.cells(sql).await, folder.cells(sql).await);

    let by_table = TABLES
        .iter()
        .zip(&expected)
        .map(|((table, partition, column), row)| {
            let (rows, sum): (u64, f64) = (row[0].parse().unwrap(), row[1].parse().unwrap());
            (
                (*table).to_owned(),
                serde_json::json!([partition, column, rows, sum]),
            )
        });
    let mut by_table: serde_json::Map<_, _> = by_table.collect();
    let read = |by_table: &serde_json::Map<_, _>| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers_s3.py");
        let mut command = Command::new(python());
        command
            .arg(script)
            .args([&endpoint, &format!("{bucket}/my-lake/x")]);
        command.arg(serde_json::Value::Object(by_table.clone()).to_string());
        command.output().unwrap()
    };
    let output = read(&by_table);
    let (told, complaint) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{told}\n{complaint}");
    assert_eq!(told.lines().count(), 8, "{told}");
    // Negative control: a row more is noticed.
    by_table["raw/deliverer_location"][2] = 366.into();
    let output = read(&by_table);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("expected 366"));
}
