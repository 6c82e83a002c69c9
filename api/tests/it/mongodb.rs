//! The program over a real MongoDB-protocol server, in a process of its own: what it answers, and what it
//! answers while the server is away.

use std::time::Duration;

use model::UtcMicros;
use reqwest::{Client, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use service::{Common, Secret};
use store::Batch;
use system_tests::mongo_server::MongoServer;
use system_tests::ports;
use system_tests::process::{Launch, Process};
use tempfile::TempDir;

use crate::harness::{DEADLINE, TOPIC, client, item, problem};

/// How long an outage may take to be noticed: the longest wait for a server that keeps silent, and then some for a
/// machine that does other things too.
const PATIENCE: Duration = Duration::from_mins(2);

/// Starts the API on `port` with `uri` as its store.
fn launch(folder: &TempDir, port: u16) -> Launch {
    Launch::of("api", env!("CARGO_BIN_EXE_api"), folder.path())
        .args(["--broker", "127.0.0.1:1", "--log-format", "json"])
        .args(["--http-listen", &format!("127.0.0.1:{port}")])
}

/// A running API over a database.
struct Over {
    client: Client,
    base: String,
    // Before the server, which drops the database.
    process: Process,
    server: MongoServer,
    _folder: TempDir,
    port: u16,
}

impl Over {
    async fn start(test: &str) -> Option<Self> {
        let base = ports::free_base().unwrap();
        let server = MongoServer::for_test(test, ports::SPARE_PORTS.start + base).unwrap()?;
        fill(&server).await;
        let folder = tempfile::tempdir().unwrap();
        let port = base + 8080;
        let launch = server.reached_by(launch(&folder, port));
        let (process, _) = launch.start_ready().unwrap();
        Some(Self {
            client: client(),
            base: format!("http://127.0.0.1:{port}"),
            process,
            server,
            _folder: folder,
            port,
        })
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.client.get(format!("{}{path}", self.base));
        request.send().await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    async fn until_readyz(&self, status: StatusCode) {
        let asked = async {
            while self.get("/readyz").await.status() != status {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap();
    }

    /// What a container's health check says: the exit code and the text.
    fn healthcheck(&self) -> (Option<i32>, String) {
        let own_log = tempfile::tempdir().unwrap();
        let launch = launch(&own_log, self.port).arg("--healthcheck");
        let ended = self.server.reached_by(launch).run(DEADLINE).unwrap();
        (ended.status.code(), ended.stderr)
    }

    /// Everything that needs the store is refused as it should be, and nothing else is.
    async fn is_away(&self) {
        self.until_readyz(StatusCode::SERVICE_UNAVAILABLE).await;
        for path in [
            "/api/v1/orders/43/location",
            "/api/v1/deliverers/1/location",
            "/api/v1/orders/43/locations",
            "/api/v1/fleet/events",
            "/api/v1/rejected",
            "/api/v1/status",
            "/v1/deliverer_location/last/43",
        ] {
            let refused = self.get(path).await;
            if path.starts_with("/v1/") {
                // The original pipeline's route has a shape of its own.
                assert_eq!(refused.status(), 503, "{path}");
            } else {
                problem(refused, 503, "store_unavailable").await;
            }
        }
        for path in ["/healthz", "/metrics", "/openapi.json", "/docs"] {
            assert_eq!(self.get(path).await.status(), 200, "{path}");
        }
        let (code, said) = self.healthcheck();
        assert_eq!(code, Some(1));
        assert!(said.contains("store: the store does not answer"), "{said}");
    }

    async fn is_back(&self) {
        self.until_readyz(StatusCode::OK).await;
        let last = self.json("/api/v1/orders/43/location").await;
        assert_eq!(last["seq"], 4);
        assert_eq!(self.healthcheck().0, Some(0));
    }
}

/// Stores what the subscriber would have stored.
async fn fill(server: &MongoServer) {
    let settings = stores::Settings {
        mongodb_uri: Some(Secret::new(server.uri().to_owned())),
        mongodb_database: Some(server.database().to_owned()),
        ..stores::Settings::default()
    };
    let config = stores::Config::resolve(settings, &Common::new("unused")).unwrap();
    let store = config.with_writer("test").open().await.unwrap();
    let event = json!({
        "event": "register", "on": "vehicle", "at": 1, "organization_id": "org", "data": {"id": "v1"},
    });
    let mut decoded = formats::Decoded::default();
    let messages = (1..=4).map(|second| (TOPIC, item("43", second))).chain([
        ("fleet/org/events", event.to_string()),
        (TOPIC, "{".to_owned()),
    ]);
    for (topic, payload) in messages {
        let message = formats::Message {
            topic,
            payload: payload.as_bytes(),
            received_time: UtcMicros::default(),
            log_seq: None,
        };
        formats::decode(message, &mut decoded);
    }
    let batch = Batch {
        records: decoded.records,
        rejects: decoded.rejects,
        cursor: None,
    };
    store.append(batch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_positions_histories_and_lists_come_from_mongodb() {
    let test = "mongodb::last_positions_histories_and_lists_come_from_mongodb";
    let Some(mut api) = Over::start(test).await else {
        return;
    };
    let last = api.json("/api/v1/orders/43/location").await;
    assert_eq!((&last["seq"], &last["lat"]), (&json!(4), &json!(52.5)));
    let of_deliverer = api.json("/api/v1/deliverers/1/location").await;
    assert_eq!(of_deliverer["order_id"], "43");
    problem(
        api.get("/api/v1/orders/44/location").await,
        404,
        "order_unknown",
    )
    .await;
    // An id is only ever an id.
    let operator = "/api/v1/orders/%7B%22%24gt%22%3A%22%22%7D/location";
    problem(api.get(operator).await, 404, "order_unknown").await;

    let page = api.json("/api/v1/orders/43/locations?limit=3").await;
    let seqs = |page: &Value| -> Vec<u64> {
        let items = page["data"].as_array().unwrap().iter();
        items.map(|item| item["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(seqs(&page), [1, 2, 3]);
    let cursor: String =
        form_urlencoded::byte_serialize(page["next_cursor"].as_str().unwrap().as_bytes()).collect();
    let rest = api
        .json(&format!("/api/v1/orders/43/locations?cursor={cursor}"))
        .await;
    assert_eq!(seqs(&rest), [4]);
    problem(
        api.get("/api/v1/orders/43/locations?cursor=nonsense").await,
        400,
        "invalid_parameter",
    )
    .await;

    let events = api.json("/api/v1/fleet/events").await;
    assert_eq!(events["data"][0]["entity_id"], "v1");
    let rejected = api.json("/api/v1/rejected").await;
    assert_eq!(rejected["data"].as_array().unwrap().len(), 1);
    let status = api.json("/api/v1/status").await;
    assert_eq!(status["positions"], 4, "{status}");
    assert_eq!(api.healthcheck().0, Some(0));
    assert_eq!(api.process.terminate().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_refused_while_the_database_is_away_and_go_on_when_it_is_back() {
    let test = "mongodb::reads_are_refused_while_the_database_is_away_and_go_on_when_it_is_back";
    let Some(mut api) = Over::start(test).await else {
        return;
    };
    if !api.server.is_ours() {
        system_tests::skip::report(test, "stops the database, and this one is somebody else's");
        return;
    }
    api.is_back().await;
    // It keeps its connections open and says nothing.
    api.server.process().unwrap().signal(Signal::STOP).unwrap();
    api.is_away().await;
    api.server.process().unwrap().signal(Signal::CONT).unwrap();
    api.is_back().await;
    api.server.kill().unwrap();
    api.is_away().await;
    api.server.start_again().unwrap();
    api.is_back().await;
    // Each outage is told once.
    let log = api.process.stderr();
    assert_eq!(
        log.matches("the store does not answer; reads").count(),
        2,
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_comes_up_while_the_database_is_down_and_shows_no_password() {
    let folder = tempfile::tempdir().unwrap();
    let base = ports::free_base().unwrap();
    let port = base + 8080;
    let nobody = base + ports::SPARE_PORTS.start;
    let mut process = launch(&folder, port)
        .env(
            "MONGODB_URI",
            format!("mongodb://ann:hunter2@127.0.0.1:{nobody}/db"),
        )
        .start()
        .unwrap();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let client = client();
    let served = async {
        loop {
            match client.get(url("/readyz")).send().await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let readyz = tokio::time::timeout(DEADLINE, served).await.unwrap();
    assert_eq!(readyz.status(), 503);
    assert_eq!(
        client.get(url("/healthz")).send().await.unwrap().status(),
        200
    );
    let last = client.get(url("/api/v1/orders/43/location"));
    problem(last.send().await.unwrap(), 503, "store_unavailable").await;
    // The reason stands there once the first attempt has failed.
    let told = async {
        loop {
            let readyz = client.get(url("/readyz")).send().await.unwrap();
            let text = readyz.text().await.unwrap();
            if text.contains("does not answer") {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let readyz = tokio::time::timeout(DEADLINE, told).await.unwrap();
    assert!(!readyz.contains("hunter2"), "{readyz}");
    assert_eq!(process.terminate().unwrap().code(), Some(0));
    let log = process.stderr();
    assert!(
        log.contains(&format!("mongodb://***@127.0.0.1:{nobody}/db")),
        "{log}"
    );
    assert_eq!(
        log.matches("the store does not answer; reads").count(),
        1,
        "{log}"
    );
    assert!(!log.contains("hunter2"), "{log}");
}
