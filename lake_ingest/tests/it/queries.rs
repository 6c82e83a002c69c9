//! Queries over HTTP, asked of the real program over a small lake: answers, and each limit.

mod refusals;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::program::{lake_ingest, store};

/// Deadline of every wait: far longer than anything here takes on a loaded machine.
const DEADLINE: Duration = Duration::from_mins(2);

/// Works for hours and needs next to no memory.
const ENDLESS: &str = "SELECT sum(a.value % b.value) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";

/// The program on a schedule that never comes, with queries over HTTP.
struct Server {
    program: Child,
    admin: String,
    query: String,
    client: Client,
    data: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

impl Server {
    /// Makes a lake of 300 positions and serves it.
    async fn start(flags: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        store(data.path(), 0, 300).await;
        let once = lake_ingest(data.path()).arg("--once").output().unwrap();
        assert!(once.status.success(), "{once:?}");
        Self::over(data, flags)
    }

    fn over(data: tempfile::TempDir, flags: &[&str]) -> Self {
        let mut program = lake_ingest(data.path())
            .args(["--schedule", "0 0 29 2 *", "--admin-listen", "127.0.0.1:0"])
            .args(["--query-listen", "127.0.0.1:0"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = program.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(line.strip_prefix("READY ").unwrap()).unwrap();
        let address = |name: &str| format!("http://{}", ready[name].as_str().unwrap());
        let client = Client::builder().no_proxy().timeout(DEADLINE);
        Self {
            admin: address("admin"),
            query: address("query"),
            client: client.build().unwrap(),
            program,
            data,
        }
    }

    fn request(&self, sql: &str) -> RequestBuilder {
        let request = self.client.post(format!("{}/v1/query", self.query));
        request.json(&json!({ "sql": sql }))
    }

    async fn ask(&self, sql: &str) -> Response {
        self.request(sql).send().await.unwrap()
    }

    async fn answer(&self, sql: &str) -> Value {
        let response = self.ask(sql).await;
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(status, 200, "{sql}: {answer}");
        answer
    }

    async fn metric(&self, name: &str) -> String {
        let response = self.client.get(format!("{}/metrics", self.admin)).send();
        let metrics = response.await.unwrap().text().await.unwrap();
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.unwrap_or_default().to_owned()
    }

    /// Returns the processes it has started, each with the processor time it has used, in ticks.
    fn workers(&self) -> Vec<(u32, u64)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap() {
            let stat = entry.unwrap().path().join("stat");
            let Ok(stat) = std::fs::read_to_string(stat) else {
                continue;
            };
            let id = stat.split(' ').next().unwrap().parse().unwrap();
            // After the name, which may hold anything: state, parent, …
            let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            if fields[1].parse() == Ok(self.program.id()) && fields[0] != "Z" {
                let time = |at: usize| fields[at].parse::<u64>().unwrap();
                found.push((id, time(11) + time(12)));
            }
        }
        found
    }

    /// Waits for a query that is at work.
    async fn at_work(&self) -> u32 {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some((id, _)) = self.workers().into_iter().find(|(_, ticks)| *ticks > 50) {
                return id;
            }
            assert!(Instant::now() < deadline, "{:?}", self.workers());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until nothing works any more and the place is free.
    async fn at_rest(&self) {
        let deadline = Instant::now() + DEADLINE;
        let free = "lake_ingest_queries_running 0";
        while !self.workers().is_empty() || self.metric("lake_ingest_queries_running").await != free
        {
            assert!(Instant::now() < deadline, "{:?}", self.workers());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Checks the form of an error answer and returns it.
async fn problem(response: Response, status: u16, code: &str) -> Value {
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let (found, media_type) = (response.status(), header("content-type"));
    let retry = header("retry-after").is_some();
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{text}");
    assert_eq!(media_type.as_deref(), Some("application/problem+json"));
    assert_eq!(retry, status == 503);
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["code"], code, "{text}");
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string());
    problem
}

#[tokio::test]
async fn a_query_is_answered_as_json_or_csv() {
    let server = Server::start(&[]).await;
    let sql = "SELECT deliverer_id, count(*) AS n, min(event_time) AS first, avg(lat) AS lat, NULL AS nothing \
               FROM raw.deliverer_location GROUP BY deliverer_id";
    let answer = server.answer(sql).await;
    let first = "2026-01-01T00:00:00Z";
    assert_eq!(answer["rows"], json!([["d", 300, first, 52.0, null]]));
    let types: Vec<_> = answer["columns"].as_array().unwrap().iter().collect();
    assert_eq!(*types[0], json!({"name": "deliverer_id", "type": "string"}));
    assert_eq!(*types[1], json!({"name": "n", "type": "long"}));
    assert_eq!(types[2]["type"], "timestamp");
    assert_eq!(answer["truncated"], false);
    assert!(answer["elapsed_ms"].is_u64());

    // The query itself as the body, and the form by Accept.
    let counted = "SELECT count(*) AS n FROM final.vehicle_position_data";
    let request = server.client.post(format!("{}/v1/query", server.query));
    let request = request.header("accept", "text/csv").body(counted).send();
    let response = request.await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "text/csv; charset=utf-8"
    );
    assert_eq!(response.headers()["lastmile-truncated"], "false");
    assert_eq!(response.text().await.unwrap(), "n\n300\n");
    let none = "SELECT order_id FROM raw.deliverer_location WHERE order_id = 'x'";
    assert_eq!(server.answer(none).await["rows"], json!([]));
    // Names of columns need not differ.
    let twice =
        "SELECT a.lat, b.lat FROM raw.deliverer_location a, raw.deliverer_location b LIMIT 1";
    assert_eq!(server.answer(twice).await["rows"], json!([[52.0, 52.0]]));
    for told in [
        "SHOW TABLES",
        "EXPLAIN SELECT 1",
        "DESCRIBE raw.deliverer_location",
    ] {
        let answer = server.answer(told).await;
        assert!(!answer["rows"].as_array().unwrap().is_empty(), "{told}");
    }
    server.at_rest().await;
    let ended = server
        .metric("lake_ingest_queries_total{outcome=\"ok\"}")
        .await;
    assert!(ended.ends_with(" 7"), "{ended}");
}

#[tokio::test]
async fn an_answer_ends_at_its_rows_or_bytes_and_says_so() {
    let flags = ["--query-max-rows", "5", "--query-max-answer", "1KiB"];
    let server = Server::start(&flags).await;
    let answer = server
        .answer("SELECT lat FROM raw.deliverer_location")
        .await;
    assert_eq!(answer["rows"].as_array().unwrap().len(), 5);
    assert_eq!(answer["truncated"], true);
    let exact = "SELECT lat FROM raw.deliverer_location LIMIT 5";
    assert_eq!(server.answer(exact).await["truncated"], false);

    let long = "SELECT replace('01234567890123456789', '1', '----------------------------------------------------\
                ------------------------------------------------------------------------') || value AS t \
                FROM generate_series(1, 5)";
    for (form, whole) in [("json", "]"), ("csv", "\n")] {
        let request = server.client.post(format!("{}/v1/query", server.query));
        let request = request.json(&json!({"sql": long, "format": form})).send();
        let response = request.await.unwrap();
        assert_eq!(response.headers()["lastmile-truncated"], "true");
        let text = response.text().await.unwrap();
        assert!(text.len() <= 1_024 + 64 && text.contains(whole), "{text}");
        assert!(text.contains("----"), "{text}");
        let last = text.lines().last().unwrap();
        assert!(form == "csv" || serde_json::from_str::<Value>(last).unwrap()["truncated"] == true);
    }
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_ended() {
    let server = Server::start(&["--query-timeout", "3s"]).await;
    let problem = problem(server.ask(ENDLESS).await, 504, "query_timeout").await;
    assert!(problem["detail"].as_str().unwrap().contains("3s"));
    server.at_rest().await;
    assert_eq!(server.answer("SELECT 1").await["rows"], json!([[1]]));
}

#[tokio::test]
async fn a_query_whose_client_has_gone_is_ended_and_only_so_many_run_at_a_time() {
    let server = Server::start(&["--query-concurrency", "1", "--query-timeout", "1h"]).await;
    let mut asked = Box::pin(server.request(ENDLESS).send());
    let worker = tokio::select! {
        answer = &mut asked => panic!("{answer:?}"),
        worker = server.at_work() => worker,
    };
    // The control: it goes on while its client waits, and holds its place.
    for _ in 0..3 {
        problem(server.ask("SELECT 1").await, 503, "overloaded").await;
    }
    assert_eq!(server.at_work().await, worker);
    drop(asked);
    server.at_rest().await;
    let gone = "lake_ingest_queries_total{outcome=\"client_gone\"}";
    assert_eq!(server.metric(gone).await, format!("{gone} 1"));
    assert_eq!(server.answer("SELECT 1").await["rows"], json!([[1]]));
}

#[tokio::test]
async fn a_query_that_needs_too_much_memory_is_refused_by_the_engine_or_by_the_kernel() {
    let many = "SELECT count(DISTINCT value) AS n FROM generate_series(1, 300000)";
    let small = Server::start(&["--query-memory", "1MiB"]).await;
    let refused = problem(small.ask(many).await, 422, "query_memory").await;
    assert!(refused["detail"].as_str().unwrap().contains("1MiB"));
    // One value that doubles again and again, which no pool of the engine's counts.
    let doubled = "WITH RECURSIVE t AS (SELECT 'x' AS s UNION ALL SELECT s || s FROM t WHERE length(s) < 4000000000) \
                   SELECT max(length(s)) FROM t";
    problem(small.ask(doubled).await, 422, "query_memory").await;
    small.at_rest().await;
    assert_eq!(small.answer("SELECT 1").await["rows"], json!([[1]]));

    // The control: the memory is what it was refused for.
    let data = tempfile::tempdir().unwrap();
    let large = Server::over(data, &[]);
    assert_eq!(large.answer(many).await["rows"], json!([[300_000]]));
}

#[tokio::test]
async fn the_stop_does_not_wait_for_queries() {
    let mut server = Server::start(&["--query-timeout", "1h"]).await;
    let stop = async {
        server.at_work().await;
        let id = server.program.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status();
        assert!(told.unwrap().success());
    };
    let (answer, ()) = tokio::join!(server.ask(ENDLESS), stop);
    problem(answer, 503, "stopping").await;
    assert_eq!(server.program.wait().unwrap().code(), Some(0));
    assert!(server.workers().is_empty());
}

/// Returns every file of a lake with its content.
fn files(lake: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(lake).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}
