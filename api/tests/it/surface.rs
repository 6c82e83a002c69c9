//! What the service shows of itself: documents, health, metrics, and what browsers may do.

use api::Settings;
use reqwest::Method;
use serde_json::Value;

use crate::harness::{Server, TOPIC, item};

#[tokio::test]
async fn every_documented_operation_is_served_and_no_other_method() {
    let server = Server::start().await;
    let document = server.json("/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with('3'));
    for (path, operations) in document["paths"].as_object().unwrap() {
        let url = path
            .replace("{order_id}", "43")
            .replace("{deliverer_id}", "1");
        let unusual = Method::from_bytes(b"UNUSUAL").unwrap();
        let request = server
            .client
            .request(unusual, format!("{}{url}", server.base));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 405, "{path}");
        let allowed = response.headers()["allow"].to_str().unwrap().to_lowercase();
        let served: Vec<_> = allowed
            .split(',')
            .filter(|method| *method != "head")
            .collect();
        let documented: Vec<_> = operations.as_object().unwrap().keys().collect();
        assert_eq!(served, documented, "{path}");
    }
}

#[tokio::test]
async fn the_documents_problems_are_those_there_are() {
    let server = Server::start().await;
    let document = server.json("/openapi.json").await;
    let codes = document["x-problem-codes"].as_array().unwrap();
    let unknown = server.problem("/nowhere", 404, "route_unknown").await;
    assert!(
        codes
            .iter()
            .any(|entry| entry["code"] == unknown["code"] && entry["status"] == 404)
    );
    // An answer holds no field the schema does not know.
    let schema = &document["components"]["schemas"]["Problem"]["properties"];
    for path in ["/nowhere", "/api/v1/rejected?limit=0"] {
        let problem: Value = server.get(path).await.json().await.unwrap();
        for field in problem.as_object().unwrap().keys() {
            assert!(schema.get(field).is_some(), "{field}");
        }
    }
}

#[tokio::test]
async fn the_page_asks_nobody_else() {
    let server = Server::start().await;
    let root = server.get("/").await;
    assert_eq!(
        (root.status().as_u16(), &root.headers()["location"]),
        (307, &"/docs".parse().unwrap())
    );
    let page = server.get("/docs").await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.starts_with("default-src 'none'"));
    let text = page.text().await.unwrap();
    assert!(text.contains("/openapi.json") && text.contains("curl"));
    for elsewhere in ["http://", "https://", "src=\"//", "@import", "<link"] {
        assert!(!text.contains(elsewhere), "{elsewhere}");
    }
}

#[tokio::test]
async fn health_and_metrics_are_served() {
    let server = Server::start().await;
    assert_eq!(server.json("/healthz").await["status"], "ok");
    assert_eq!(server.get("/readyz").await.status(), 503);
    server.context.announce_ready("api", &[]);
    assert_eq!(server.get("/readyz").await.status(), 200);

    server.pipeline.publish(TOPIC, item("43", 1)).await;
    server.json("/api/v1/orders/43/location").await;
    server
        .problem("/api/v1/orders/44/location", 404, "order_unknown")
        .await;
    server.problem("/nowhere", 404, "route_unknown").await;
    server
        .post("/api/v1/locations", format!("[{},5]", item("43", 2)))
        .await;
    let metrics = server.get("/metrics").await.text().await.unwrap();
    let location = "/api/v1/orders/{order_id}/location";
    for line in [
        format!("api_requests_total{{route=\"{location}\",status=\"2xx\"}} 1"),
        format!("api_requests_total{{route=\"{location}\",status=\"4xx\"}} 1"),
        "api_requests_total{route=\"none\",status=\"4xx\"} 1".to_owned(),
        format!("api_request_seconds_count{{route=\"{location}\"}} 2"),
        "api_last_location_seconds_count 1".to_owned(),
        "api_items_total{outcome=\"accepted\"} 1".to_owned(),
        "api_items_total{outcome=\"rejected\"} 1".to_owned(),
        "api_streams 0".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn browsers_may_read_from_anywhere_and_write_from_where_allowed() {
    let preflight = async |server: &Server, origin: &str, method: &str| {
        let url = format!("{}/api/v1/locations", server.base);
        let request = server.client.request(Method::OPTIONS, url);
        let request = request.header("origin", origin);
        let response = request
            .header("access-control-request-method", method)
            .send();
        let headers = response.await.unwrap().headers().clone();
        let value = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
        (
            value("access-control-allow-origin"),
            value("access-control-allow-methods"),
        )
    };
    let open = Server::start().await;
    let (origin, methods) = preflight(&open, "https://a.example", "GET").await;
    assert_eq!(
        (origin.as_deref(), methods.as_deref()),
        (Some("*"), Some("GET,HEAD"))
    );
    let headers = open.get("/api/v1/status").await.headers().clone();
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert!(!headers.contains_key("server"));

    let listed = Server::with(Settings {
        http_cors: Some("https://a.example".to_owned()),
        ..Settings::default()
    })
    .await;
    let (origin, methods) = preflight(&listed, "https://a.example", "POST").await;
    assert_eq!(origin.as_deref(), Some("https://a.example"));
    assert!(methods.unwrap().contains("POST"));
    assert_eq!(
        preflight(&listed, "https://b.example", "POST").await.0,
        None
    );

    let closed = Server::with(Settings {
        http_cors: Some("none".to_owned()),
        ..Settings::default()
    })
    .await;
    let headers = closed.get("/api/v1/status").await.headers().clone();
    assert!(!headers.contains_key("access-control-allow-origin"));
}
