//! What is refused: everything that is no query, whoever may not ask, and bodies that cannot be read.

use std::fs;

use serde_json::json;

use super::{Server, files, problem};
use crate::program::{lake_ingest, store};

/// A file that is none of the lake's, a file of the lake, and one that is not there.
fn refused_statements(secret: &str, parquet: &str, target: &str) -> Vec<String> {
    let table = "raw.deliverer_location";
    vec![
        // Files as tables.
        "SELECT * FROM '/etc/passwd'".to_owned(),
        "SELECT * FROM \"/etc/passwd\"".to_owned(),
        format!("SELECT * FROM '{secret}'"),
        format!("SELECT * FROM 'file://{secret}'"),
        format!("SELECT * FROM '{parquet}'"),
        format!("SELECT * FROM read_csv('{secret}')"),
        format!("SELECT * FROM read_parquet('{parquet}')"),
        format!("SELECT * FROM parquet_metadata('{parquet}')"),
        format!("SELECT pg_read_file('{secret}')"),
        "SELECT * FROM 'http://127.0.0.1:1/x.csv'".to_owned(),
        // Writing.
        format!("COPY {table} TO '{target}'"),
        format!("COPY (SELECT 1) TO '{target}' STORED AS PARQUET"),
        format!("INSERT INTO {table} SELECT * FROM {table}"),
        format!("INSERT OVERWRITE {table} SELECT * FROM {table}"),
        format!("DELETE FROM {table}"),
        format!("UPDATE {table} SET lat = 0"),
        format!("TRUNCATE TABLE {table}"),
        format!("EXPLAIN INSERT INTO {table} SELECT * FROM {table}"),
        format!("EXPLAIN ANALYZE INSERT INTO {table} SELECT * FROM {table}"),
        format!("EXPLAIN ANALYZE COPY {table} TO '{target}'"),
        // Definitions.
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{secret}'"),
        format!("CREATE TABLE t AS SELECT * FROM {table}"),
        format!("CREATE VIEW v AS SELECT * FROM {table}"),
        "CREATE SCHEMA s".to_owned(),
        "CREATE DATABASE d".to_owned(),
        "CREATE FUNCTION f(BIGINT) RETURNS BIGINT RETURN $1".to_owned(),
        format!("DROP TABLE {table}"),
        "DROP SCHEMA raw CASCADE".to_owned(),
        // Statements.
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "SET datafusion.runtime.memory_limit = '10G'".to_owned(),
        "RESET datafusion.runtime.memory_limit".to_owned(),
        "PREPARE p AS SELECT 1".to_owned(),
        "EXECUTE p".to_owned(),
        "BEGIN".to_owned(),
        // Several, none, nonsense.
        format!("SELECT 1; DROP TABLE {table}"),
        format!("SELECT * FROM {table}; COPY (SELECT 1) TO '{target}'"),
        String::new(),
        "hello".to_owned(),
        "SELECT nothing FROM raw.deliverer_location".to_owned(),
        // Values of any length.
        "SELECT repeat('x', 2000000000)".to_owned(),
        "SELECT lpad('x', 2000000000, 'y')".to_owned(),
        "SELECT array_repeat(1, 2000000000)".to_owned(),
        "SELECT range(1, 2000000000)".to_owned(),
    ]
}

#[tokio::test]
async fn nothing_but_queries_over_the_lakes_tables_is_answered() {
    let server = Server::start(&[]).await;
    let lake = server.data.path().join("lake");
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("out.parquet");
    let target = target.display().to_string();
    let secret = elsewhere.path().join("secret.csv");
    fs::write(&secret, "word\nhunter2\n").unwrap();
    let secret = secret.display().to_string();
    let parquet = files(&lake).into_keys();
    let mut parquet = parquet.filter(|path| path.extension().is_some_and(|e| e == "parquet"));
    let parquet = parquet.next().unwrap().display().to_string();
    let before = files(&lake);
    for sql in refused_statements(&secret, &parquet, &target) {
        let refused = problem(server.ask(&sql).await, 400, "query_invalid").await;
        assert!(refused["detail"].is_string(), "{sql}");
        let tables = refused["tables"].as_array().unwrap();
        assert!(tables.contains(&json!("raw.deliverer_location")), "{sql}");
        let text = refused.to_string();
        assert!(
            !text.contains("hunter2") && !text.contains("root:"),
            "{text}"
        );
    }
    assert!(files(&lake) == before, "the lake was changed");
    assert!(!fs::exists(&target).unwrap());
    let still = server
        .answer("SELECT count(*) AS n FROM raw.deliverer_location")
        .await;
    assert_eq!(still["rows"], json!([[300]]));

    // The control: a change is seen, and so is what a later query finds.
    store(server.data.path(), 300, 1).await;
    let once = lake_ingest(server.data.path()).arg("--once").output();
    assert!(once.unwrap().status.success());
    assert!(files(&lake) != before);
    let more = server
        .answer("SELECT count(*) AS n FROM raw.deliverer_location")
        .await;
    assert_eq!(more["rows"], json!([[301]]));
}

#[tokio::test]
async fn whoever_may_not_ask_is_not_answered() {
    let token = "a-token-of-a-generator";
    let server = Server::over(tempfile::tempdir().unwrap(), &["--query-token", token]);
    problem(server.ask("SELECT 1").await, 401, "unauthorized").await;
    for wrong in ["", "a-token-of-a-generato", "a-token-of-a-generator2"] {
        let request = server.request("SELECT 1").bearer_auth(wrong).send();
        let response = request.await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        problem(response, 401, "unauthorized").await;
    }
    let right = || server.request("SELECT 1").bearer_auth(token);
    assert_eq!(right().send().await.unwrap().status(), 200);
    let page = right().header("origin", "https://evil.example").send();
    problem(page.await.unwrap(), 403, "web_page_refused").await;

    let folder = tempfile::tempdir().unwrap();
    let open = lake_ingest(folder.path())
        .args(["--check-config", "--query-listen", ":9105"])
        .output();
    let open = open.unwrap();
    assert_eq!(open.status.code(), Some(2));
    let said = String::from_utf8(open.stderr).unwrap();
    assert!(said.contains("query_token"), "{said}");
    let shown = lake_ingest(folder.path())
        .args([
            "--print-config",
            "--query-listen",
            ":9105",
            "--query-token",
            token,
        ])
        .output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    assert!(
        shown.contains("0.0.0.0:9105") && !shown.contains(token),
        "{shown}"
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let server = Server::over(tempfile::tempdir().unwrap(), &[]);
    let url = format!("{}/v1/query", server.query);
    let long = format!("SELECT '{}'", "x".repeat(64 << 10));
    let sent = server.client.post(&url).body(long).send().await.unwrap();
    problem(sent, 413, "body_too_large").await;
    let post = |media_type: &str, body: &'static str| {
        let request = server.client.post(&url).header("content-type", media_type);
        request.body(body).send()
    };
    let sent = post("application/json", "SELECT 1").await.unwrap();
    problem(sent, 400, "invalid_body").await;
    let sent = post("application/json", r#"{"sql":"SELECT 1","rows":9}"#)
        .await
        .unwrap();
    problem(sent, 400, "invalid_body").await;
    let sent = post("image/png", "SELECT 1").await.unwrap();
    problem(sent, 415, "unsupported_media_type").await;
    let elsewhere = server
        .client
        .post(format!("{}/v1/other", server.query))
        .send();
    problem(elsewhere.await.unwrap(), 404, "route_unknown").await;
    let get = server.client.get(&url).send().await.unwrap();
    assert_eq!(get.headers()["allow"], "POST");
    problem(get, 405, "method_not_allowed").await;

    // An empty lake has no table, and says so.
    let refused = problem(server.ask("SELECT * FROM t").await, 400, "query_invalid").await;
    assert_eq!(refused["tables"], json!([]));
}

#[tokio::test]
async fn a_lake_that_cannot_be_read_is_not_the_clients_fault_and_tells_no_path() {
    let server = Server::start(&[]).await;
    let lake = server.data.path().join("lake");
    let of_table = lake.join("raw/deliverer_location");
    let data = files(&of_table).into_keys();
    for file in data.filter(|path| path.extension().is_some_and(|e| e == "parquet")) {
        fs::remove_file(file).unwrap();
    }
    let sent = server
        .ask("SELECT sum(lat) FROM raw.deliverer_location")
        .await;
    let refused = problem(sent, 500, "internal").await;
    assert!(!refused.to_string().contains("raw/"), "{refused}");
}
