//! SQL over the lake from where a client stands: the all-in-one's API, and a `lake_ingest` that answers.

use std::time::Duration;

use serde_json::json;
use system_tests::http::Http;
use system_tests::pipeline::{Counts, Pipeline};
use system_tests::poll;
use system_tests::process::Launch;
use tempfile::TempDir;

/// The development build needs a while for the lake's models.
const PATIENCE: Duration = Duration::from_mins(5);
const TOKEN: &str = "a-token-of-a-generator";
const QUERY: &str = "/api/v1/lake/query";
/// Works for hours.
const ENDLESS: &str = "SELECT sum(a.value % b.value) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";

#[test]
fn what_was_posted_is_counted_by_sql_within_limits() {
    let folder = TempDir::with_prefix("lastmile-query-").unwrap();
    let lake = folder.path().join("lake");
    let lake = lake.to_str().unwrap();
    // It answers for the lake, whatever becomes of a store; this one never comes.
    let (mut answering, ready) = Launch::new("lake_ingest", folder.path())
        .unwrap()
        .arg("--data")
        .arg(folder.path().join("data"))
        .args(["--lake", lake, "--admin-listen", "127.0.0.1:0"])
        .args(["--query-listen", "127.0.0.1:0", "--query-timeout", "2s"])
        .env("LASTMILE_QUERY_TOKEN", TOKEN)
        .start_ready()
        .unwrap();
    let url = format!("http://{}", ready.address("query").unwrap());
    let asked = ["--lake-query", &*url, "--lake-query-token", TOKEN];
    let pipeline = Pipeline::start(&asked).unwrap();
    let http = pipeline.http();

    let positions: Vec<_> = (1..=25)
        .map(|second| {
            json!({
                "order_id": "43", "deliverer_id": "1", "seq": second, "lat": 52.5, "lon": 4.25,
                "event_time": format!("2026-01-02T03:04:{second:02}Z"),
            })
        })
        .collect();
    let posted = http.post("/api/v1/locations", &json!(positions)).unwrap();
    assert_eq!(posted.status, 202, "{}", posted.body);
    let stored = Counts {
        positions: 25,
        fleet_events: 0,
        rejected: 0,
    };
    pipeline.until_counts(stored, poll::PATIENCE).unwrap();
    Launch::new("lake_ingest", pipeline.folder())
        .unwrap()
        .arg("--data")
        .arg(pipeline.data())
        .args(["--lake", lake, "--once"])
        .run(PATIENCE)
        .unwrap()
        .success()
        .unwrap();

    let sql = "SELECT deliverer_id, count(*) AS n FROM raw.deliverer_location GROUP BY 1";
    let answer = http.post(QUERY, &json!({ "sql": sql })).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json().unwrap()["rows"], json!([["1", 25]]));
    let path = format!(
        "{QUERY}?sql=SELECT%20count(*)%20AS%20n%20FROM%20raw.deliverer_location&format=csv"
    );
    assert_eq!(http.get(&path).unwrap().body, "n\n25\n");

    let refused = |sql: &str, status: u16, code: &str| {
        let answer = http.post(QUERY, &json!({ "sql": sql })).unwrap();
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(answer.json().unwrap()["code"], code);
    };
    refused("DROP TABLE raw.deliverer_location", 400, "query_invalid");
    refused("SELECT * FROM '/etc/passwd'", 400, "query_invalid");
    refused(ENDLESS, 504, "query_timeout");

    // Without who answers, or without having been told of it, the rest goes on.
    answering.terminate().unwrap();
    refused(sql, 503, "lake_unavailable");
    let untold = Pipeline::start(&[]).unwrap();
    let off: &Http = untold.http();
    let answer = off.post(QUERY, &json!({ "sql": sql })).unwrap();
    assert_eq!(answer.status, 501, "{}", answer.body);
    assert_eq!(http.get("/api/v1/orders/43/location").unwrap().status, 200);
}
