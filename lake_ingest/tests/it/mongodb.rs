//! From a MongoDB to a bucket: the store is filled by several writers, the program takes it to S3, and its own queries
//! and other makers' programs count the same. Also while the server is away, and when the rows have left the store.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use model::OrderId;
use serde_json::{Value, json};
use service::{Common, Secret};
use store::Store;
use system_tests::mongo_server::MongoServer;
use system_tests::ports;
use tempfile::TempDir;

use crate::place::{Place, readers, rows};
use crate::program::lake_ingest;

/// A database, a bucket, and nothing in either.
struct World {
    server: MongoServer,
    place: Place,
    data: TempDir,
}

impl World {
    fn new(test: &str) -> Option<Self> {
        if !readers(test) {
            return None;
        }
        let place = Place::bucket(test)?;
        let port = ports::SPARE_PORTS.start + ports::free_base().unwrap();
        let server = MongoServer::for_test(test, port).unwrap()?;
        let data = tempfile::tempdir().unwrap();
        Some(Self {
            server,
            place,
            data,
        })
    }

    async fn writers(&self, count: usize) -> Vec<Arc<dyn Store>> {
        let settings = stores::Settings {
            mongodb_uri: Some(Secret::new(self.server.uri().to_owned())),
            mongodb_database: Some(self.server.database().to_owned()),
            ..stores::Settings::default()
        };
        let config = stores::Config::resolve(settings, &Common::new("unused")).unwrap();
        config
            .with_writer("test")
            .open_writers(count)
            .await
            .unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = lake_ingest(self.data.path());
        command
            .env("MONGODB_URI", self.server.uri())
            .env("LASTMILE_MONGODB_DATABASE", self.server.database())
            .args(["--lake", &self.place.lake()])
            .args(arguments);
        self.place.reached_by(&mut command);
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every count is that of `stored` rows, by our queries and by other makers' programs.
    fn all_agree(&self, stored: u64) {
        let found = self.place.read(stored, false).unwrap();
        for (table, counted) in found.as_object().unwrap() {
            let table = table.replace('/', ".");
            let sql = format!("SELECT count(*) AS n FROM {table}");
            let answer = self.run(&["query", &sql, "--format", "json"]);
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer, json!([{ "n": counted }]), "{table}");
        }
    }
}

/// Stores rows by two writers at once, each row by both: one of the two is the first.
async fn fill(writers: &[Arc<dyn Store>], numbers: std::ops::Range<u64>) {
    let (first, second) = (&writers[0], &writers[1]);
    let mut from = numbers.start;
    while from < numbers.end {
        let to = (from + 50).min(numbers.end);
        let (one, other) =
            tokio::join!(first.append(rows(from..to)), second.append(rows(from..to)));
        one.unwrap();
        other.unwrap();
        from = to;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_writers_stored_is_in_the_bucket_once_and_stays_there() {
    let test = "lake_ingest::mongodb two writers";
    let Some(world) = World::new(test) else {
        return;
    };
    let writers = world.writers(2).await;
    fill(&writers, 0..400).await;
    let summary = world.run(&["--once", "--summary", "json", "--window-rows", "100"]);
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary.pointer("/offload/tables/0/rows"), Some(&json!(400)));
    world.all_agree(400);

    // Both wrote, so that rows of both were put together.
    let status = world.run(&["status", "--format", "json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    let marks = status.pointer("/watermarks").unwrap().as_array().unwrap();
    let positions = marks
        .iter()
        .filter(|mark| mark["table"] == "deliverer_location");
    let rows_of: Vec<_> = positions.map(|mark| mark["in_lake"].as_u64()).collect();
    assert!(rows_of.len() >= 2, "{status}");

    // The store lets go of what was read back, of both writers, and of nothing else; the last positions stay.
    let order = OrderId::new("o1").unwrap();
    let last = writers[0].last_by_order(&order).await.unwrap();
    assert!(last.is_some());
    let purging = ["--once", "--summary", "json", "--purge-after", "0s"];
    let summary: Value = serde_json::from_str(&world.run(&purging)).unwrap();
    let purged = "/offload/tables/0/purged_rows";
    assert_eq!(summary.pointer(purged), Some(&json!(400)));
    assert_eq!(writers[0].counts().await.unwrap().positions, 0);
    assert_eq!(writers[0].last_by_order(&order).await.unwrap(), last);
    world.all_agree(400);

    // What comes afterwards goes the same way; what is too young stays.
    fill(&writers, 400..430).await;
    world.run(&["--once", "--purge-after", "7d"]);
    assert_eq!(writers[0].counts().await.unwrap().positions, 30);
    world.all_agree(430);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_waits_for_the_server_and_says_so() {
    let test = "lake_ingest::mongodb a run waits";
    let Some(mut world) = World::new(test) else {
        return;
    };
    if !world.server.is_ours() {
        system_tests::skip::report(test, "stops the database, and this one is somebody else's");
        return;
    }
    let writers = world.writers(2).await;
    fill(&writers, 0..60).await;
    drop(writers);
    world.server.kill().unwrap();
    let mut command = world.command(&["--once"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut waiting = command.spawn().unwrap();
    let mut log = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let told = log.find(|line| line.as_ref().unwrap().contains("waiting for the store"));
    assert!(told.is_some());
    assert!(waiting.try_wait().unwrap().is_none());
    world.server.start_again().unwrap();
    log.for_each(drop);
    assert!(waiting.wait().unwrap().success());
    world.all_agree(60);
}
