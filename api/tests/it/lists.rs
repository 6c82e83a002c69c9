//! Fleet events, dead letters, status.

use serde_json::{Value, json};

use crate::harness::{Server, TOPIC, item};

fn event(event: &str, on: &str, id: &str, at: i64) -> String {
    json!({"event": event, "on": on, "at": at, "organization_id": "org", "data": {"id": id, "n": [at]}})
        .to_string()
}

#[tokio::test]
async fn fleet_events_are_filtered_and_paged() {
    let server = Server::start().await;
    for (at, (what, on, id)) in (1..).zip([
        ("register", "vehicle", "v1"),
        ("register", "vehicle", "v2"),
        ("create", "operating_period", "p1"),
        ("deregister", "vehicle", "v1"),
    ]) {
        server
            .pipeline
            .publish("fleet/org/events", event(what, on, id, at))
            .await;
    }
    let ids = async |query: &str| {
        let page = server.json(&format!("/api/v1/fleet/events?{query}")).await;
        let data = page["data"].as_array().unwrap().iter();
        data.map(|event| event["entity_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, ["v1", "v2", "p1", "v1"]);
    assert_eq!(ids("on=operating_period").await, ["p1"]);
    assert_eq!(
        ids("event=register&organization_id=org").await,
        ["v1", "v2"]
    );
    assert_eq!(ids("entity_id=v1").await, ["v1", "v1"]);
    assert_eq!(ids("organization_id=nobody").await, [""; 0]);

    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server
            .json(&format!("/api/v1/fleet/events?limit=3&cursor={cursor}"))
            .await;
        found.extend(page["data"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = form_urlencoded::byte_serialize(next.as_bytes()).collect();
    }
    assert_eq!(found.len(), 4);
    assert_eq!(found[2]["event"], "create");
    assert_eq!(found[2]["at"], "1970-01-01T00:00:03.000Z");
    assert_eq!(found[2]["data"], json!({"id": "p1", "n": [3]}));

    for (query, parameter) in [
        ("on=car", "on"),
        ("event=explode", "event"),
        ("vehicle=1", "vehicle"),
    ] {
        let path = format!("/api/v1/fleet/events?{query}");
        let problem = server.problem(&path, 400, "invalid_parameter").await;
        assert_eq!(problem["parameter"], parameter);
    }
}

#[tokio::test]
async fn dead_letters_are_kept_as_they_came() {
    let server = Server::start().await;
    server
        .pipeline
        .publish(TOPIC, r#"{"lat":99,"lon":1,"timestamp":1}"#)
        .await;
    server.pipeline.publish(TOPIC, b"\xff\xfe").await;
    let first = server.json("/api/v1/rejected?limit=1").await;
    let letter = &first["data"][0];
    assert_eq!(letter["reason"], "invalid_field");
    assert_eq!(letter["topic"], TOPIC);
    assert_eq!(letter["payload_encoding"], "text");
    assert_eq!(letter["payload"], r#"{"lat":99,"lon":1,"timestamp":1}"#);
    assert!(letter["detail"].as_str().unwrap().contains("lat is 99"));
    let cursor = first["next_cursor"].as_str().unwrap();
    let cursor: String = form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
    let second = server
        .json(&format!("/api/v1/rejected?cursor={cursor}"))
        .await;
    assert_eq!(second["data"].as_array().unwrap().len(), 1);
    assert_eq!(second["data"][0]["payload_encoding"], "base64");
    assert_eq!(second["data"][0]["payload"], "//4=");
    assert_eq!(second["next_cursor"], Value::Null);
    server
        .problem("/api/v1/rejected?cursor=x!", 400, "invalid_parameter")
        .await;
}

#[tokio::test]
async fn status_counts_what_is_stored() {
    let server = Server::start().await;
    server.pipeline.publish(TOPIC, item("a", 1)).await;
    server.pipeline.publish(TOPIC, item("b", 1)).await;
    server.pipeline.publish(TOPIC, item("b", 2)).await;
    server.pipeline.publish(TOPIC, "{").await;
    server
        .pipeline
        .publish("fleet/org/events", event("register", "vehicle", "v", 1))
        .await;
    let expected =
        json!({"positions": 3, "fleet_events": 1, "rejected": 1, "orders": 2, "deliverers": 1});
    assert_eq!(server.json("/api/v1/status").await, expected);
}
