//! Queries over the lake: what is passed on to who answers them, and what comes back.

use std::sync::{Arc, Mutex};

use api::{LakeSettings, Settings};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use service::{HumanDuration, Secret, Stage};
use tokio::net::TcpListener;

use crate::harness::{Server, problem};

const PATH: &str = "/api/v1/lake/query";
const TOKEN: &str = "a-token-of-a-generator";

/// What the one who answers was sent.
#[derive(Debug, Clone, Default)]
struct Asked {
    headers: HeaderMap,
    body: Bytes,
}

/// An API, and somebody who answers every query with `answer`.
async fn with_lake(
    answer: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> (Server, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let handler = async move |headers: HeaderMap, body: Bytes| {
        seen.lock().unwrap().push(Asked { headers, body });
        answer()
    };
    let routes = Router::new().route("/v1/query", post(handler));
    let server = Server::with(to(&format!("http://{address}"))).await;
    server.context.tasks.spawn_child(Stage::Serve, async {
        axum::serve(listener, routes).await.unwrap();
    });
    (server, asked)
}

fn to(url: &str) -> Settings {
    Settings {
        lake: LakeSettings {
            lake_query: Some(url.to_owned()),
            lake_query_token: Some(Secret::new(TOKEN.to_owned())),
            lake_query_timeout: None,
        },
        ..Settings::default()
    }
}

fn refusal(status: u16, code: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    let body = json!({
        "type": format!("/docs#{code}"), "title": "t", "status": status.as_u16(), "code": code,
        "detail": "d", "tables": ["raw.deliverer_location"],
    });
    let headers = [("content-type", "application/problem+json")];
    let mut response = (status, headers, body.to_string()).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let header = response.headers_mut();
        header.insert("retry-after", "1".parse().unwrap());
    }
    response
}

#[tokio::test]
async fn without_somebody_who_answers_it_says_how_to_have_one() {
    let server = Server::start().await;
    let post = server.post(PATH, r#"{"sql":"SELECT 1"}"#).await;
    let off = problem(post, 501, "lake_query_off").await;
    assert!(off["detail"].as_str().unwrap().contains("--lake-query"));
    let path = format!("{PATH}?sql=SELECT%201");
    server.problem(&path, 501, "lake_query_off").await;
}

#[tokio::test]
async fn a_query_and_its_answer_are_passed_on() {
    let answer = json!({"columns": [], "rows": [[1]], "truncated": true, "elapsed_ms": 1});
    let sent = answer.to_string();
    let (server, asked) = with_lake(move || {
        let headers = [
            ("content-type", "application/json"),
            ("lastmile-truncated", "true"),
            ("set-cookie", "inside=1"),
        ];
        (headers, sent.clone()).into_response()
    })
    .await;
    let request = server.client.post(format!("{}{PATH}", server.base));
    let request = request
        .header("content-type", "text/plain")
        .header("accept", "text/csv")
        .header("origin", "https://a.example")
        .header("cookie", "outside=1");
    let response = request.body("SELECT 1").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["lastmile-truncated"], "true");
    assert_eq!(headers["cache-control"], "no-store");
    assert!(!headers.contains_key("set-cookie"));
    assert_eq!(response.json::<Value>().await.unwrap(), answer);

    let seen = asked.lock().unwrap().pop().unwrap();
    assert_eq!(seen.body, "SELECT 1");
    assert_eq!(seen.headers["content-type"], "text/plain");
    assert_eq!(seen.headers["accept"], "text/csv");
    assert_eq!(seen.headers["authorization"], format!("Bearer {TOKEN}"));
    for kept in ["origin", "cookie"] {
        assert!(!seen.headers.contains_key(kept), "{kept}");
    }

    server
        .json(&format!("{PATH}?sql=SELECT%20%27x%27&format=csv"))
        .await;
    let seen = asked.lock().unwrap().pop().unwrap();
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(body, json!({"sql": "SELECT 'x'", "format": "csv"}));
    assert_eq!(seen.headers["content-type"], "application/json");
}

#[tokio::test]
async fn a_refused_query_is_refused_in_the_same_words() {
    for (status, code) in [
        (400, "query_invalid"),
        (413, "body_too_large"),
        (415, "unsupported_media_type"),
        (422, "query_memory"),
        (500, "internal"),
        (503, "overloaded"),
        (504, "query_timeout"),
    ] {
        let (server, _) = with_lake(move || refusal(status, code)).await;
        let response = server.post(PATH, r#"{"sql":"SELEC 1"}"#).await;
        let told = problem(response, status, code).await;
        assert_eq!(told["tables"], json!(["raw.deliverer_location"]));
        // Whatever may come is in the document.
        let document = server.json("/openapi.json").await;
        let codes = document["x-problem-codes"].as_array().unwrap();
        let listed = |entry: &&Value| entry["code"] == code && entry["status"] == status;
        assert!(codes.iter().any(|entry| listed(&entry)), "{code}");
        let schema = &document["components"]["schemas"]["Problem"]["properties"];
        for field in told.as_object().unwrap().keys() {
            assert!(schema.get(field).is_some(), "{field}");
        }
    }
}

#[tokio::test]
async fn what_is_no_clients_doing_is_not_passed_on() {
    let answers: [fn() -> Response; 5] = [
        || refusal(401, "unauthorized"),
        || refusal(404, "route_unknown"),
        || (StatusCode::INTERNAL_SERVER_ERROR, "I/O at /srv/secret").into_response(),
        || (StatusCode::FOUND, [("location", "http://elsewhere/secret")]).into_response(),
        // Without a length nothing tells how much would come.
        || {
            let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>("secret")]);
            axum::body::Body::from_stream(chunks).into_response()
        },
    ];
    for answer in answers {
        let (server, asked) = with_lake(answer).await;
        let response = server.post(PATH, r#"{"sql":"SELECT 1"}"#).await;
        problem(response, 503, "lake_unavailable").await;
        assert_eq!(asked.lock().unwrap().len(), 1);
    }
    let nobody = Server::with(to("http://127.0.0.1:1")).await;
    let response = nobody.post(PATH, r#"{"sql":"SELECT 1"}"#).await;
    problem(response, 503, "lake_unavailable").await;
}

#[tokio::test]
async fn what_cannot_be_a_query_is_not_asked() {
    let (server, asked) = with_lake(|| refusal(500, "internal")).await;
    let long = format!("SELECT '{}'", "x".repeat(64 << 10));
    let response = server.post(PATH, long).await;
    problem(response, 413, "body_too_large").await;
    for (query, parameter) in [
        ("", "sql"),
        ("?sql=", "sql"),
        ("?sql=SELECT&format=xml", "format"),
        ("?sql=SELECT&limit=1", "limit"),
        ("?sql=SELECT&sql=SELECT", "sql"),
    ] {
        let path = format!("{PATH}{query}");
        let told = server.problem(&path, 400, "invalid_parameter").await;
        assert_eq!(told["parameter"], parameter);
    }
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    // Taken, never answered: the backlog takes the connection.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = to(&format!("http://{}", silent.local_addr().unwrap()));
    settings.lake.lake_query_timeout = Some(HumanDuration::from_millis(200));
    let server = Server::with(settings).await;
    let response = server.post(PATH, r#"{"sql":"SELECT 1"}"#).await;
    problem(response, 504, "query_timeout").await;
}
