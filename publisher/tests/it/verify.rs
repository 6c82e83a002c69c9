use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use model::{FleetEvent, FleetSubject, UtcMicros, fleet_event::FleetAction};
use serde_json::{Value, json};

use crate::{Finished, run};

/// Items in a page, whatever was asked for.
const PAGE: usize = 3;

/// An API of a page: lists by path, in pages; the last item of each comes only after some requests.
#[derive(Debug, Clone, Default)]
struct Lists {
    by_name: Arc<Mutex<HashMap<String, Vec<Value>>>>,
    requests: Arc<AtomicUsize>,
    late_until: usize,
}

async fn history(
    State(lists): State<Lists>,
    Path((kind, id)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    assert!(query.contains_key("from") && query.contains_key("to") && query.contains_key("limit"));
    lists.page(&format!("{kind}/{id}"), &query)
}

async fn events(
    State(lists): State<Lists>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    let name = format!(
        "{}/{}/{}",
        query["organization_id"], query["on"], query["entity_id"]
    );
    lists.page(&name, &query)
}

impl Lists {
    fn page(&self, name: &str, query: &HashMap<String, String>) -> Json<Value> {
        let late = self.requests.fetch_add(1, Ordering::SeqCst) < self.late_until;
        let lists = self.by_name.lock().unwrap();
        let mut items = lists.get(name).cloned().unwrap_or_default();
        if late {
            items.pop();
        }
        let from: usize = query
            .get("cursor")
            .map_or(0, |cursor| cursor.parse().unwrap());
        let to = items.len().min(from + PAGE);
        let next = (to < items.len()).then(|| to.to_string());
        Json(json!({ "data": items[from..to], "next_cursor": next }))
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<Value>)) {
        change(self.by_name.lock().unwrap().get_mut(name).unwrap());
    }

    async fn serve(&self) -> SocketAddr {
        let router = Router::new()
            .route("/healthz", get(|| async { "" }))
            .route("/api/v1/{kind}/{id}/locations", get(history))
            .route("/api/v1/fleet/events", get(events))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move { axum::serve(listener, router).await.unwrap() };
        tokio::task::JoinSet::spawn(Box::leak(Box::default()), serve);
        address
    }
}

/// A ledger with ten points of each of two orders, two points without an order, and two events; and an
/// API that holds all of it, and one point of somebody else.
fn complete() -> (String, Lists) {
    let lists = Lists::default();
    let mut ledger = String::new();
    let time = |seq: i64| UtcMicros::new(1_700_000_000_000_000 + seq * 1_000).unwrap();
    let mut add = |list: String, entry: Value, item: Value| {
        writeln!(ledger, "{entry}").unwrap();
        lists
            .by_name
            .lock()
            .unwrap()
            .entry(list)
            .or_default()
            .push(item);
    };
    for (order, deliverer) in [(Some("43"), "1"), (Some("86/x y"), "2"), (None, "3")] {
        for seq in 0..if order.is_some() { 10 } else { 2 } {
            let mut entry = json!({"deliverer_id": deliverer, "order_id": order,
                "event_time_us": time(seq).as_micros(), "seq": seq});
            let item = json!({"deliverer_id": deliverer, "order_id": order,
                "event_time": time(seq), "lat": 52.0, "lon": 4.0, "seq": seq});
            let list = if let Some(order) = order {
                format!("orders/{order}")
            } else {
                entry.as_object_mut().unwrap().remove("order_id");
                format!("deliverers/{deliverer}")
            };
            add(list, entry, item);
        }
    }
    for number in 0..2 {
        let data = json!({"id": "v", "n": number});
        let event = FleetEvent {
            organization_id: "org".into(),
            on: FleetSubject::Vehicle,
            event: FleetAction::Update,
            entity_id: "v".into(),
            at: time(0),
            received_time: time(1),
            data: data.to_string().into(),
        };
        let entry = json!({"organization_id": "org", "on": "vehicle", "entity_id": "v",
            "event": "update", "event_time_us": event.at.as_micros(),
            "data_hash": event.discriminator()});
        let item = json!({"organization_id": "org", "on": "vehicle", "entity_id": "v",
            "event": "update", "at": event.at, "received_time": event.received_time, "data": data});
        add("org/vehicle/v".to_owned(), entry, item);
    }
    lists.change("orders/43", |items| {
        let mut stranger = items[0].clone();
        stranger["seq"] = json!(99);
        items.insert(0, stranger);
    });
    (ledger, lists)
}

async fn verify(ledger: &str, lists: &Lists, wait: &'static str) -> Finished {
    let address = lists.serve().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    std::fs::write(&path, ledger).unwrap();
    let run = move || {
        let (path, api) = (path.to_str().unwrap(), format!("http://{address}"));
        run(&["verify", "--ledger", path, "--api", &api, "--wait", wait])
    };
    let finished = tokio::task::spawn_blocking(run).await.unwrap();
    drop(directory);
    finished
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_holds_once_is_verified() {
    let (ledger, lists) = complete();
    let finished = verify(&ledger, &lists, "0s").await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        (finished.count("acknowledged"), finished.count("found")),
        (24, 24)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_missing_point_is_named() {
    let (ledger, lists) = complete();
    lists.change("orders/86/x y", |items| drop(items.remove(4)));
    let finished = verify(&ledger, &lists, "0s").await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(
        (finished.count("found"), finished.count("missing")),
        (23, 1)
    );
    let missing = &finished.summary["first_missing"][0];
    assert_eq!(
        (&missing["order_id"], &missing["seq"]),
        (&json!("86/x y"), &json!(4))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_missing_event_is_named() {
    let (ledger, lists) = complete();
    lists.change("org/vehicle/v", |items| items[1]["data"]["n"] = json!(7));
    let finished = verify(&ledger, &lists, "0s").await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(finished.count("missing"), 1);
    assert_eq!(finished.summary["first_missing"][0]["entity_id"], "v");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_found_twice_is_named() {
    let (ledger, lists) = complete();
    lists.change("deliverers/3", |items| items.push(items[0].clone()));
    let finished = verify(&ledger, &lists, "0s").await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(
        (finished.count("missing"), finished.count("found_twice")),
        (0, 1)
    );
    assert_eq!(
        finished.summary["first_found_twice"][0]["deliverer_id"],
        "3"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_lags_is_waited_for() {
    let (ledger, mut lists) = complete();
    lists.late_until = 20;
    let finished = verify(&ledger, &lists, "60s").await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.stderr.contains("waiting for the rest"),
        "{finished:?}"
    );
}

#[test]
fn an_api_that_does_not_answer_and_a_ledger_that_is_none_are_wrong_usage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    std::fs::write(
        &path,
        "{\"deliverer_id\":\"1\",\"event_time_us\":1,\"seq\":1}\n",
    )
    .unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let api = format!("http://127.0.0.1:{port}");
    let path_text = path.to_str().unwrap();
    let finished = run(&[
        "verify", "--ledger", path_text, "--api", &api, "--wait", "0s",
    ]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("does not answer"), "{finished:?}");

    std::fs::write(&path, "{\"deliverer_id\":\"1\"}\n").unwrap();
    let finished = run(&[
        "verify", "--ledger", path_text, "--api", &api, "--wait", "0s",
    ]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("line 1"), "{finished:?}");
}
