//! What is refused, and how.

use std::sync::Arc;

use api::Settings;
use async_trait::async_trait;
use model::{DelivererId, FleetEvent, OrderId, Position, Reject};
use reqwest::Method;
use store::{Counts, ErrorKind, FleetEventQuery, HistoryQuery, Page, Reader, StoreError};

use crate::harness::{Server, client, item, problem, serve};

#[tokio::test]
async fn what_does_not_exist_is_a_problem_too() {
    let server = Server::start().await;
    for path in ["/nowhere", "/api/v1/orders", "/docs/", "/api/v2/status"] {
        server.problem(path, 404, "route_unknown").await;
    }
    let send = async |method: Method, path: &str| {
        let request = server
            .client
            .request(method, format!("{}{path}", server.base));
        request.send().await.unwrap()
    };
    for (method, path, allowed) in [
        (Method::DELETE, "/api/v1/orders/43/location", "GET,HEAD"),
        (Method::GET, "/api/v1/locations", "POST"),
        (Method::PUT, "/v1/deliverer_location/", "POST"),
        (Method::POST, "/healthz", "GET,HEAD"),
    ] {
        let refused = send(method, path).await;
        assert_eq!(refused.headers()["allow"], allowed, "{path}");
        problem(refused, 405, "method_not_allowed").await;
    }
}

/// Fails in a given way, with a cause nobody outside should see.
struct Broken(ErrorKind);

impl Broken {
    fn fail<T>(&self) -> Result<T, StoreError> {
        Err(StoreError {
            operation: "read",
            store: "broken",
            kind: self.0,
            source: "no such file: /srv/secret/store.sqlite".into(),
        })
    }
}

#[async_trait]
impl Reader for Broken {
    async fn last_by_order(&self, _: &OrderId) -> Result<Option<Position>, StoreError> {
        self.fail()
    }
    async fn last_by_deliverer(&self, _: &DelivererId) -> Result<Option<Position>, StoreError> {
        self.fail()
    }
    async fn history(&self, _: &HistoryQuery) -> Result<Page<Position>, StoreError> {
        self.fail()
    }
    async fn fleet_events(&self, _: &FleetEventQuery) -> Result<Page<FleetEvent>, StoreError> {
        self.fail()
    }
    async fn rejected(&self, _: usize, _: Option<&str>) -> Result<Page<Reject>, StoreError> {
        self.fail()
    }
    async fn counts(&self) -> Result<Counts, StoreError> {
        self.fail()
    }
}

#[tokio::test]
async fn a_failing_store_is_told_from_an_absent_one_and_its_cause_is_kept() {
    for (kind, status, code) in [
        (ErrorKind::Unavailable, 503, "store_unavailable"),
        (ErrorKind::Data, 500, "internal"),
        (ErrorKind::Internal, 500, "internal"),
    ] {
        let server = Server::start().await;
        let context = service::Context::for_tests();
        let reader = Arc::new(Broken(kind));
        let base = serve(Settings::default(), reader, &server.pipeline, &context).await;
        for path in [
            "/api/v1/orders/43/location",
            "/api/v1/orders/43/locations",
            "/api/v1/orders/43/stream",
            "/api/v1/deliverers/1/location",
            "/api/v1/deliverers/1/locations",
            "/api/v1/fleet/events",
            "/api/v1/rejected",
            "/api/v1/status",
            "/v1/deliverer_location/last/43",
        ] {
            let response = client().get(format!("{base}{path}")).send().await.unwrap();
            problem(response, status, code).await;
        }
    }
}

#[tokio::test]
async fn requests_beyond_the_bound_are_shed() {
    let server = Server::with(Settings {
        http_max_requests: Some(1),
        ..Settings::default()
    })
    .await;
    let hold = server.pipeline.permits.acquire_many(1_000).await.unwrap();
    let stuck = server.post("/api/v1/locations", item("a", 1));
    let meanwhile = async {
        server.pipeline.begun.acquire().await.unwrap().forget();
        server.problem("/api/v1/status", 503, "overloaded").await;
        // Who watches the service is still answered.
        assert_eq!(server.get("/healthz").await.status(), 200);
        drop(hold);
    };
    let (stuck, ()) = tokio::join!(stuck, meanwhile);
    assert_eq!(stuck.status(), 202);
    server.json("/api/v1/status").await;
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let server = Server::with(Settings {
        http_timeout: Some("20ms".parse().unwrap()),
        ..Settings::default()
    })
    .await;
    let _hold = server.pipeline.permits.acquire_many(1_000).await.unwrap();
    let stuck = server.post("/api/v1/locations", item("a", 1)).await;
    let answer = problem(stuck, 503, "timeout").await;
    assert!(answer["title"].as_str().unwrap().contains("may or may not"));
}
