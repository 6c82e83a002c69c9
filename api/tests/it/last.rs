//! Last positions.

use serde_json::json;

use crate::harness::{Server, TOPIC, item};

#[tokio::test]
async fn the_last_position_has_every_field_its_age_and_a_tag() {
    let server = Server::at("2026-01-02T03:04:07Z").await;
    let sent = json!({
        "order_id": 43, "delivery_state": "on_the_way", "event_time": "2026-01-02T03:04:05.500Z",
        "latitude": 52.5, "longitude": 4.25, "speed_mps": 1.5, "heading_deg": 90, "accuracy_m": 3.0,
        "altitude_m": -2.0, "battery": 0.5, "seq": 17,
    });
    server.pipeline.publish(TOPIC, sent.to_string()).await;

    let response = server.get("/api/v1/orders/43/location").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert!(response.headers().contains_key("etag"));
    let expected = json!({
        "order_id": "43", "deliverer_id": "1", "delivery_state": "on_the_way",
        "event_time": "2026-01-02T03:04:05.500Z", "received_time": "2026-01-02T03:04:07.000Z",
        "lat": 52.5, "lon": 4.25, "speed_mps": 1.5, "heading_deg": 90.0, "accuracy_m": 3.0,
        "altitude_m": -2.0, "battery": 0.5, "seq": 17, "source": "native", "age_s": 1.5,
    });
    let answer: serde_json::Value = response.json().await.unwrap();
    assert_eq!(answer, expected);
    assert_eq!(server.json("/api/v1/deliverers/1/location").await, expected);
}

#[tokio::test]
async fn a_tag_holds_until_there_is_a_newer_position() {
    let server = Server::start().await;
    let path = "/api/v1/orders/43/location";
    server.pipeline.publish(TOPIC, item("43", 10)).await;
    let first = server.get(path).await;
    let tag = first.headers()["etag"].clone();

    let ask = || server.request(path).header("if-none-match", &tag).send();
    let unchanged = ask().await.unwrap();
    assert_eq!(unchanged.status(), 304);
    assert_eq!(unchanged.headers()["etag"], tag);
    assert_eq!(unchanged.bytes().await.unwrap().len(), 0);

    // An older position changes nothing, whenever it arrives.
    server.pipeline.publish(TOPIC, item("43", 9)).await;
    assert_eq!(ask().await.unwrap().status(), 304);

    server.pipeline.publish(TOPIC, item("43", 11)).await;
    let changed = ask().await.unwrap();
    assert_eq!(changed.status(), 200);
    assert_ne!(changed.headers()["etag"], tag);
}

/// Ids that break careless servers, as they stand in the path.
const ODD_IDS: [(&str, &str); 9] = [
    ("2024/113", "2024%2F113"),
    (
        "Zoë 北京 🚚",
        "Zo%C3%AB%20%E5%8C%97%E4%BA%AC%20%F0%9F%9A%9A",
    ),
    (r#"{"$gt":""}"#, "%7B%22%24gt%22%3A%22%22%7D"),
    ("$ne", "$ne"),
    ("' OR 1=1; --", "'%20OR%201=1;%20--"),
    ("50%", "50%25"),
    ("a?b#c", "a%3Fb%23c"),
    ("order_id", "order_id"),
    ("0043", "0043"),
];

#[tokio::test]
async fn odd_ids_are_only_ids() {
    let server = Server::start().await;
    for (at, (id, encoded)) in (1_i64..).zip(ODD_IDS) {
        // Before it is stored it is unknown, so no id is taken for a pattern that matches another.
        let path = format!("/api/v1/orders/{encoded}/location");
        let problem = server.problem(&path, 404, "order_unknown").await;
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains(&format!("{id:?}"))
        );
        server.pipeline.publish(TOPIC, item(id, at)).await;
        let answer = server.json(&path).await;
        assert_eq!(
            (&answer["order_id"], &answer["seq"]),
            (&json!(id), &json!(at))
        );
        let original = server
            .json(&format!("/v1/deliverer_location/last/{encoded}"))
            .await;
        assert_eq!(original["data"][0]["order_id"], id);
        let history = server
            .json(&format!("/api/v1/orders/{encoded}/locations"))
            .await;
        assert_eq!(history["data"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn what_is_no_id_is_refused_by_name() {
    let server = Server::start().await;
    let long = "x".repeat(129);
    for id in ["", "%00", "a%0Ab", "%FF", &long] {
        for route in ["location", "locations", "stream"] {
            let path = format!("/api/v1/orders/{id}/{route}");
            let problem = server.problem(&path, 400, "invalid_parameter").await;
            assert_eq!(problem["parameter"], "order_id");
        }
        if id.is_empty() {
            continue;
        }
        let path = format!("/v1/deliverer_location/last/{id}");
        server.problem(&path, 400, "invalid_parameter").await;
    }
    let problem = server.problem(
        "/api/v1/deliverers/a%2Fb/location",
        400,
        "invalid_parameter",
    );
    assert_eq!(problem.await["parameter"], "deliverer_id");
    server
        .problem(
            "/api/v1/deliverers/nobody/location",
            404,
            "deliverer_unknown",
        )
        .await;
}

#[tokio::test]
async fn the_original_route_answers_a_list() {
    let server = Server::start().await;
    server
        .pipeline
        .publish("test/deliverer_data", item("order-a", 10))
        .await;
    for slash in ["", "/"] {
        let known = server
            .json(&format!("/v1/deliverer_location/last/order-a{slash}"))
            .await;
        assert_eq!(known["data"].as_array().unwrap().len(), 1);
        assert_eq!(known["data"][0]["seq"], 10);
        let unknown = server
            .json(&format!("/v1/deliverer_location/last/7{slash}"))
            .await;
        assert_eq!(unknown, json!({"data": []}));
    }
}
