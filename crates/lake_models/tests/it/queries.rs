//! Queries: names, refusals, formats.

use std::error::Error;

use crate::world::{World, at, position};

async fn filled() -> World {
    let world = World::new();
    world
        .store([position("a", at(0, 0), 52.0), position("b", at(1, 0), 53.0)])
        .await;
    world.refresh().await;
    world
}

#[tokio::test]
async fn tables_are_found_by_layer_and_by_an_unambiguous_name() {
    let world = filled().await;
    for table in [
        "raw.deliverer_location",
        "treated.deliverer_location",
        "vehicle_position_data",
    ] {
        let sql = format!("SELECT count(*) FROM {table}");
        assert_eq!(world.cells(&sql).await, [["2"]], "{table}");
    }
    let sql =
        "SELECT deliverer_id FROM raw.deliverer_location WHERE event_date = DATE '2026-01-02'";
    assert_eq!(world.cells(sql).await, [["b"]]);
    let error = world
        .query("SELECT * FROM deliverer_location")
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("raw.deliverer_location, treated.deliverer_location"),
        "{text}"
    );
    assert!(
        error
            .source()
            .unwrap()
            .to_string()
            .contains("deliverer_location")
    );
}

#[tokio::test]
async fn bad_sql_and_anything_but_a_query_is_refused() {
    let world = filled().await;
    for sql in [
        "SELEC 1",
        "DROP TABLE raw.deliverer_location",
        "INSERT INTO raw.deliverer_location SELECT * FROM raw.deliverer_location",
        "COPY raw.deliverer_location TO 'x.parquet'",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "SET datafusion.execution.batch_size = 1",
    ] {
        assert!(world.query(sql).await.is_err(), "{sql}");
    }
    assert_eq!(
        world
            .cells("SELECT count(*) FROM raw.deliverer_location")
            .await,
        [["2"]]
    );
}

#[tokio::test]
async fn answers_are_printed_as_csv_and_json() {
    let world = filled().await;
    let sql = "SELECT deliverer_id, lat, seq FROM raw.deliverer_location ORDER BY 1";
    let rows = world.query(sql).await.unwrap();
    assert_eq!(
        rows.columns(),
        [("deliverer_id", false), ("lat", true), ("seq", true)]
    );
    let (mut csv, mut json) = (Vec::new(), Vec::new());
    rows.write_csv(&mut csv).unwrap();
    rows.write_json(&mut json).unwrap();
    assert_eq!(
        String::from_utf8(csv).unwrap(),
        "deliverer_id,lat,seq\na,52.0,\nb,53.0,\n"
    );
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        json[1],
        serde_json::json!({"deliverer_id": "b", "lat": 53.0, "seq": null})
    );
    let none = world
        .query("SELECT lat FROM raw.deliverer_location WHERE lat < 0")
        .await
        .unwrap();
    let (mut csv, mut json) = (Vec::new(), Vec::new());
    none.write_csv(&mut csv).unwrap();
    none.write_json(&mut json).unwrap();
    assert_eq!(
        (csv.as_slice(), json.as_slice()),
        (&b"lat\n"[..], &b"[]"[..])
    );
}
