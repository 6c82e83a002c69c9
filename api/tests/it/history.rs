//! Histories.

use std::collections::BTreeSet;

use model::OrderId;
use reqwest::header::{ACCEPT, LINK};
use serde_json::Value;
use store::{HistoryOf, HistoryQuery, Reader};

use crate::harness::{Server, TOPIC, item};

async fn with_positions(count: i64) -> Server {
    let server = Server::start().await;
    let items: Vec<_> = (0..count).map(|second| item("43", second)).collect();
    server
        .pipeline
        .publish(TOPIC, format!("[{}]", items.join(",")))
        .await;
    server.pipeline.publish(TOPIC, item("other", 3)).await;
    server
}

fn seqs(list: &Value) -> Vec<i64> {
    let data = list["data"].as_array().unwrap().iter();
    data.map(|position| position["seq"].as_i64().unwrap())
        .collect()
}

#[tokio::test]
async fn pages_to_the_end_are_the_store() {
    let server = with_positions(25).await;
    for limit in [1, 7, 24, 25, 26] {
        let mut found = Vec::new();
        let mut path = format!("/api/v1/orders/43/locations?limit={limit}");
        loop {
            let page = server.json(&path).await;
            assert!(seqs(&page).len() <= limit);
            found.extend(page["data"].as_array().unwrap().iter().cloned());
            let Some(cursor) = page["next_cursor"].as_str() else {
                break;
            };
            let cursor: String = form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
            path = format!("/api/v1/orders/43/locations?limit={limit}&cursor={cursor}");
        }
        let query = HistoryQuery {
            of: HistoryOf::Order(OrderId::new("43").unwrap()),
            from: None,
            to: None,
            limit: 1_000,
            after: None,
        };
        let stored = server.store.history(&query).await.unwrap().items;
        assert_eq!(stored.len(), 25);
        assert_eq!(
            Value::from(found),
            serde_json::to_value(stored).unwrap(),
            "{limit}"
        );
    }
}

#[tokio::test]
async fn from_is_within_and_to_is_not() {
    let server = with_positions(10).await;
    let path = "/api/v1/orders/43/locations?from=1970-01-01T00:00:03Z&to=7";
    assert_eq!(seqs(&server.json(path).await), [3, 4, 5, 6]);
    let path = "/api/v1/deliverers/1/locations?from=8";
    assert_eq!(seqs(&server.json(path).await), [8, 9]);
    let all = server.json("/api/v1/deliverers/1/locations").await;
    assert_eq!(seqs(&all).len(), 11);
    assert_eq!(all["next_cursor"], Value::Null);
    assert_eq!(
        seqs(&server.json("/api/v1/orders/unknown/locations").await).len(),
        0
    );
}

#[tokio::test]
async fn every_form_has_the_same_positions_and_leads_on() {
    let server = with_positions(5).await;
    let ask = async |accept: &str, path: &str| {
        let request = server.request(path).header(ACCEPT, accept);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let content_type = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(content_type.starts_with(accept), "{content_type}");
        let link = response
            .headers()
            .get(LINK)
            .map(|link| link.to_str().unwrap().to_owned());
        (response.text().await.unwrap(), link)
    };
    let path = "/api/v1/orders/43/locations?limit=3";
    for accept in ["application/x-ndjson", "text/csv", "application/geo+json"] {
        let mut found = BTreeSet::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let (body, link) = ask(accept, &path).await;
            found.extend(seqs_in(accept, &body));
            next = link.map(|link| {
                let (path, rel) = link.split_once('>').unwrap();
                assert_eq!(rel, "; rel=\"next\"");
                path.trim_start_matches('<').to_owned()
            });
        }
        assert_eq!(found, (0..5).collect(), "{accept}");
    }
}

fn seqs_in(accept: &str, body: &str) -> Vec<i64> {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    match accept {
        "application/x-ndjson" => {
            let lines = body.lines();
            lines
                .map(|line| json(line)["seq"].as_i64().unwrap())
                .collect()
        }
        "text/csv" => {
            let mut lines = body.lines();
            let heads: Vec<_> = lines.next().unwrap().split(',').collect();
            let column = heads.iter().position(|head| *head == "seq").unwrap();
            lines
                .map(|line| line.split(',').nth(column).unwrap().parse().unwrap())
                .collect()
        }
        _ => {
            let collection = json(body);
            let features = collection["features"].as_array().unwrap().iter();
            features
                .map(|feature| feature["properties"]["seq"].as_i64().unwrap())
                .collect()
        }
    }
}

#[tokio::test]
async fn parameters_that_cannot_be_used_are_named() {
    let server = with_positions(1).await;
    for (query, parameter) in [
        ("from=yesterday", "from"),
        ("to=-1", "to"),
        ("from=9&to=3", "from"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=%00%FF", "cursor"),
        ("form=3", "form"),
    ] {
        for of in ["orders/43", "deliverers/1"] {
            let path = format!("/api/v1/{of}/locations?{query}");
            let problem = server.problem(&path, 400, "invalid_parameter").await;
            assert_eq!(problem["parameter"], parameter, "{query}");
            assert!(problem["detail"].as_str().unwrap().len() > 10, "{problem}");
        }
    }
}
