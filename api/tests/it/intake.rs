//! Positions taken over HTTP.

use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use reqwest::Response;
use serde_json::{Value, json};

use crate::harness::{Server, item, problem};

const PATH: &str = "/api/v1/locations";

async fn receipt(response: Response) -> (u64, u64, Value) {
    assert_eq!(response.status(), 202);
    let body: Value = response.json().await.unwrap();
    let count = |name: &str| body[name].as_u64().unwrap();
    (count("accepted"), count("rejected"), body["errors"].clone())
}

#[tokio::test]
async fn one_array_and_lines_are_all_taken() {
    let server = Server::start().await;
    for (body, count) in [
        (item("a", 1), 1),
        (format!("[{},{}]", item("a", 2), item("b", 1)), 2),
        (
            format!("{}\n{}\n{}\n", item("a", 3), item("c", 1), item("c", 2)),
            3,
        ),
        ("[]".to_owned(), 0),
    ] {
        let answer = receipt(server.post(PATH, body).await).await;
        assert_eq!(answer, (count, 0, json!([])));
    }
    assert_eq!(server.json("/api/v1/status").await["positions"], 6);
    // What was answered can be read at once, and every item went its own way.
    assert_eq!(server.json("/api/v1/orders/c/location").await["seq"], 2);
    assert_eq!(
        *server.pipeline.topics.lock().unwrap(),
        ["deliveries/1/location"; 6]
    );
}

#[tokio::test]
async fn accepted_and_rejected_are_what_was_sent_and_what_is_stored() {
    let server = Server::start().await;
    let bad = [
        r#"{"deliverer_id":7,"lat":99,"lon":1,"timestamp":1}"#,
        r#"{"lat":9,"lon":1,"timestamp":1}"#,
        r#"[{"deliverer_id":7,"lat":9,"lon":1,"timestamp":1}]"#,
        "[]",
        "null",
    ];
    let body = format!("[{},{},{}]", item("a", 1), bad.join(","), item("a", 2));
    let (accepted, rejected, errors) = receipt(server.post(PATH, body).await).await;
    assert_eq!((accepted, rejected), (2, 5));
    let found: Vec<_> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["index"].as_u64().unwrap(), e["reason"].as_str().unwrap()))
        .collect();
    let invalid = "invalid_field";
    let expected = [
        (1, invalid),
        (2, "missing_field"),
        (3, invalid),
        (4, invalid),
        (5, invalid),
    ];
    assert_eq!(found, expected);

    let status = server.json("/api/v1/status").await;
    assert_eq!(
        (&status["positions"], &status["rejected"]),
        (&json!(2), &json!(5))
    );
    let letters = server.json("/api/v1/rejected").await;
    let mut kept: Vec<_> = letters["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| {
            (
                letter["payload"].as_str().unwrap(),
                letter["reason"].as_str().unwrap(),
            )
        })
        .collect();
    let reasons = expected.map(|(_, reason)| reason);
    let mut sent: Vec<_> = bad.into_iter().zip(reasons).collect();
    kept.sort_unstable();
    sent.sort_unstable();
    assert_eq!(kept, sent);
    assert_eq!(
        server.pipeline.topics.lock().unwrap()[1],
        "deliveries/7/location"
    );
    assert_eq!(
        server.pipeline.topics.lock().unwrap()[2],
        "test/deliverer_data"
    );
}

#[tokio::test]
async fn a_body_without_a_valid_item_is_refused_and_kept() {
    let server = Server::start().await;
    let refused = server.post(PATH, r#"{"order_id":1}"#).await;
    let answer = problem(refused, 422, "items_invalid").await;
    assert_eq!(answer["rejected"], 1);
    assert_eq!(answer["errors"][0]["index"], 0);
    assert_eq!(answer["errors"][0]["reason"], "missing_field");

    let many = format!("[{}0]", "1,".repeat(150));
    let answer = problem(server.post(PATH, many).await, 422, "items_invalid").await;
    assert_eq!(answer["rejected"], 151);
    assert_eq!(answer["errors"].as_array().unwrap().len(), 100);

    for body in ["", "{", "{\"a\":1}\n{oops", "not json"] {
        let answer = problem(server.post(PATH, body).await, 400, "invalid_body").await;
        assert_eq!(answer["rejected"], 1, "{body}");
    }
    let letters = server.json("/api/v1/rejected").await;
    let letters = letters["data"].as_array().unwrap();
    // The same bytes on the same topic are one letter: "0" and "1" are two of the 151.
    assert!(letters.iter().any(|letter| letter["payload"] == "not json"));
    assert!(letters.iter().any(|letter| letter["reason"] == "empty"));
    assert_eq!(server.json("/api/v1/status").await["positions"], 0);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let server = Server::with(api::Settings {
        http_max_body: Some("1KiB".parse().unwrap()),
        ..api::Settings::default()
    })
    .await;
    let fits = format!("{}{}", item("a", 1), " ".repeat(1_024 - item("a", 1).len()));
    assert_eq!(receipt(server.post(PATH, fits.clone()).await).await.0, 1);
    let over = server.post(PATH, format!("{fits} ")).await;
    let answer = problem(over, 413, "body_too_large").await;
    assert!(answer["detail"].as_str().unwrap().contains("1024"));

    // Without a declared length it is found while reading.
    let chunks = (0..5).map(|_| Ok::<_, std::io::Error>(" ".repeat(300)));
    let request = server.client.post(format!("{}{PATH}", server.base));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let over = request.body(body).send().await.unwrap();
    problem(over, 413, "body_too_large").await;
    assert_eq!(server.json("/api/v1/status").await["positions"], 1);
}

#[tokio::test]
async fn more_items_than_a_message_holds_are_refused_whole() {
    let server = Server::start().await;
    let many = format!("[{}1]", "1,".repeat(10_000));
    problem(server.post(PATH, many).await, 413, "body_too_large").await;
    let letters = server.json("/api/v1/rejected").await;
    assert_eq!(letters["data"][0]["reason"], "too_many_items");
}

#[tokio::test]
async fn only_json_is_read() {
    let server = Server::start().await;
    let send = async |headers: &[(&str, &str)]| {
        let mut request = server.client.post(format!("{}{PATH}", server.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(item("a", 1)).send().await.unwrap()
    };
    for content_type in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/x-ndjson",
        "application/vnd.fleet+json",
    ] {
        receipt(send(&[("content-type", content_type)]).await).await;
    }
    receipt(send(&[]).await).await;
    for content_type in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "image/png",
    ] {
        let refused = send(&[("content-type", content_type)]).await;
        let answer = problem(refused, 415, "unsupported_media_type").await;
        assert!(
            answer["detail"]
                .as_str()
                .unwrap()
                .contains("application/json")
        );
    }
    let refused = send(&[("content-encoding", "gzip")]).await;
    problem(refused, 415, "unsupported_media_type").await;
}

#[tokio::test]
async fn nothing_is_claimed_while_the_broker_is_away() {
    let server = Server::start().await;
    server.pipeline.down.store(true, Ordering::SeqCst);
    for body in [item("a", 1), "{\"a\":1}".to_owned(), "{".to_owned()] {
        let answer = problem(server.post(PATH, body).await, 503, "ingest_unavailable").await;
        assert_eq!(answer.get("accepted"), None);
        assert_eq!(answer.get("rejected"), None);
    }
    let original = server.post("/v1/deliverer_location/", item("a", 1)).await;
    problem(original, 503, "ingest_unavailable").await;
    let status = server.json("/api/v1/status").await;
    assert_eq!(
        (&status["positions"], &status["rejected"]),
        (&json!(0), &json!(0))
    );

    // The control: the same bodies are taken once it is back.
    server.pipeline.down.store(false, Ordering::SeqCst);
    assert_eq!(receipt(server.post(PATH, item("a", 1)).await).await.0, 1);
}

#[tokio::test]
async fn no_answer_leaves_before_the_messages_are_durable() {
    let server = Server::start().await;
    let hold = server.pipeline.permits.acquire_many(1_000).await.unwrap();
    let post = server.post(PATH, item("a", 1));
    tokio::pin!(post);
    tokio::select! {
        _ = &mut post => panic!("answered before it was durable"),
        begun = server.pipeline.begun.acquire() => begun.unwrap().forget(),
    }
    // The message has been handed over and is not yet durable: there is still no answer.
    server
        .problem("/api/v1/orders/a/location", 404, "order_unknown")
        .await;
    assert!(post.as_mut().now_or_never().is_none());
    drop(hold);
    assert_eq!(receipt(post.await).await.0, 1);
    assert_eq!(server.json("/api/v1/orders/a/location").await["seq"], 1);
}

#[tokio::test]
async fn the_original_route_answers_as_it_did() {
    let server = Server::start().await;
    for path in ["/v1/deliverer_location/", "/v1/deliverer_location"] {
        let ask = async |body: &str| {
            let response = server.post(path, body).await;
            let status = response.status().as_u16();
            (status, response.json::<Value>().await.unwrap())
        };
        let original = r#"{"order_id":43,"deliverer_id":1,"delivery_state":"start",
            "timestamp":"2022-07-01T10:00:00.123456","latitude":52.3,"longitude":4.8}"#;
        assert_eq!(ask(original).await, (200, json!({"status": "OK"})));
        let error = |message: &str| json!({"status": "ERROR", "message": message});
        assert_eq!(ask("{oops").await, (400, error("Invalid JSON")));
        assert_eq!(ask("").await, (400, error("Invalid JSON")));
        let without_order = r#"{"deliverer_id":1,"timestamp":1,"lat":1,"lon":2}"#;
        assert_eq!(
            ask(without_order).await,
            (422, error("order_id not found."))
        );
        assert_eq!(ask("[]").await, (422, error("order_id not found.")));
        let (status, answer) =
            ask(r#"{"order_id":1,"deliverer_id":1,"timestamp":1,"lat":99,"lon":2}"#).await;
        assert_eq!((status, &answer["status"]), (422, &json!("ERROR")));
        assert!(answer["message"].as_str().unwrap().contains("lat is 99"));
    }
    let status = server.json("/api/v1/status").await;
    assert_eq!(status["positions"], 1);
    assert_eq!(
        server.json("/v1/deliverer_location/last/43").await["data"][0]["deliverer_id"],
        "1"
    );
}
