//! The program on its schedule.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{lake_ingest, store};

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Asks again and again until the metrics hold `line`.
async fn metrics_hold(address: &str, line: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let metrics = get(address, "/metrics");
        if metrics.lines().any(|found| found == line) {
            return;
        }
        assert!(Instant::now() < deadline, "no {line:?} in\n{metrics}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn it_runs_on_its_schedule_tells_so_and_stops_on_a_signal() {
    let data = tempfile::tempdir().unwrap();
    let child = lake_ingest(data.path())
        .args(["--schedule", "* * * * * *", "--admin-listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn();
    let mut running = Running(child.unwrap());
    let mut line = String::new();
    let stdout = running.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let ready: serde_json::Value =
        serde_json::from_str(line.strip_prefix("READY ").unwrap()).unwrap();
    let address = ready.get("admin").unwrap().as_str().unwrap();

    // Without a store every run fails, and the process says so and goes on.
    let deadline = Instant::now() + Duration::from_mins(1);
    while !get(address, "/readyz").contains("no store at") {
        assert!(Instant::now() < deadline, "{}", get(address, "/readyz"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store(data.path(), 0, 40).await;
    metrics_hold(
        address,
        "lake_ingest_rows_total{table=\"deliverer_location\"} 40",
    )
    .await;
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
    store(data.path(), 40, 2).await;
    metrics_hold(
        address,
        "lake_ingest_watermark{table=\"deliverer_location\"} 42",
    )
    .await;
    assert!(get(address, "/metrics").contains("lake_ingest_lag_seconds"));

    let pid = running.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}
