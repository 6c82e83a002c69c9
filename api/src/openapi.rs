//! The OpenAPI document: the routes' own descriptions, put together.

use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::OpenApi;

use crate::error::{CODES, PASSED_ON};
use crate::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "lastmile",
        description = "Where is my order now? Positions of deliverers: the last, the history, live, and the way in. \
            Times are RFC 3339 in UTC. Lists answer `{\"data\": […], \"next_cursor\": …}`; give `next_cursor` as `cursor` \
            until it is null. Errors are problem documents (RFC 9457) with a stable `code`; 503 carries \
            `Retry-After`, and sending a POST again is always harmless."
    ),
    paths(
        routes::order_last,
        routes::order_history,
        routes::order_stream,
        routes::deliverer_last,
        routes::deliverer_history,
        routes::post_locations,
        routes::fleet_events,
        routes::rejected,
        routes::status,
        routes::lake_query,
        routes::lake_query_get,
        routes::original_post,
        routes::original_last,
        routes::openapi,
        routes::page,
        routes::root,
    ),
    tags(
        (name = "positions", description = "Last positions, histories, live streams, and the way in"),
        (name = "fleet", description = "What happened to vehicles and operating periods"),
        (name = "lake", description = "Questions to all of history, in SQL; off unless the service was told what answers them"),
        (name = "original pipeline", description = "The routes of the pipeline this one continues, with its answers"),
        (name = "operation", description = "For those who run the service"),
        (name = "description", description = "What you are reading"),
    )
)]
struct Document;

/// Returns the document as it is sent.
pub(crate) fn document() -> Bytes {
    let mut document =
        serde_json::to_value(Document::openapi()).expect("the document has text keys only");
    document["info"]["version"] = Value::from(service::VERSION);
    let plain = |content_type: &str, summary: &str, more: Value| {
        let ok = json!({"description": summary, "content": {content_type: {"schema": {"type": "string"}}}});
        let mut responses = json!({"200": ok});
        if let (Some(responses), Value::Object(more)) = (responses.as_object_mut(), more) {
            responses.extend(more);
        }
        json!({"get": {"tags": ["operation"], "summary": summary, "responses": responses}})
    };
    let not_ready =
        json!({"503": {"description": "A part is not ready, or the service is stopping"}});
    let paths = &mut document["paths"];
    paths["/healthz"] = plain(
        "application/json",
        "Tells that the process lives.",
        Value::Null,
    );
    paths["/readyz"] = plain(
        "application/json",
        "Tells whether every part is ready.",
        not_ready,
    );
    paths["/metrics"] = plain(
        "application/openmetrics-text",
        "Returns the metrics.",
        Value::Null,
    );
    let codes = CODES.iter().chain(PASSED_ON).map(|(code, status, meaning)| {
        json!({"code": code, "status": status.as_u16(), "meaning": meaning})
    });
    document["x-problem-codes"] = codes.collect();
    let bytes = serde_json::to_vec(&document).expect("a JSON value is JSON");
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::UtcMicros;

    use super::*;

    fn properties(schema: &str) -> BTreeSet<String> {
        let document: Value = serde_json::from_slice(&document()).unwrap();
        let properties = &document["components"]["schemas"][schema]["properties"];
        let properties = properties
            .as_object()
            .unwrap_or_else(|| panic!("no {schema}"));
        properties.keys().cloned().collect()
    }

    #[test]
    fn a_position_has_the_fields_described() {
        let item = r#"{"deliverer_id":1,"event_time":1,"lat":2,"lon":3}"#;
        let position = model::native::parse(item, None, UtcMicros::default()).unwrap();
        let sent = serde_json::to_value(position).unwrap();
        let sent: BTreeSet<String> = sent.as_object().unwrap().keys().cloned().collect();
        assert_eq!(properties("Position"), sent);
        let mut input = properties("PositionInput");
        input.extend(["received_time".to_owned(), "source".to_owned()]);
        assert_eq!(input, sent);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = String::from_utf8(document().to_vec()).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        for part in text.split("\"#/").skip(1) {
            let pointer = format!("/{}", part.split('"').next().unwrap());
            assert!(document.pointer(&pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn every_operation_says_what_it_does_and_every_code_used_exists() {
        let document: Value = serde_json::from_slice(&document()).unwrap();
        let known = CODES.iter().chain(PASSED_ON).map(|(code, ..)| *code);
        let known: BTreeSet<&str> = known.collect();
        for (path, item) in document["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values() {
                assert!(operation["summary"].is_string(), "{path}");
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let problem = !response["content"]["application/problem+json"].is_null();
                    let text = response["description"].as_str().unwrap();
                    let codes = text.split('`').skip(1).step_by(2);
                    for code in codes.filter(|_| problem) {
                        assert!(known.contains(code), "{path} {status}: {code}");
                    }
                }
            }
        }
    }
}
