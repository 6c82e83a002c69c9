use proptest::prelude::*;

use super::*;

fn received() -> UtcMicros {
    UtcMicros::new(1_700_000_000_000_000).unwrap()
}

fn reason(item: &str) -> (RejectReason, String) {
    let defect = parse(item, None, received()).unwrap_err();
    (defect.reason, defect.detail)
}

#[test]
fn both_spellings_read_the_same() {
    let short = r#"{"order_id":43,"deliverer_id":"1","event_time":"2026-01-02T03:04:05Z","lat":52.3,"lon":4.8}"#;
    let long = r#"{"order_id":"43","deliverer_id":1,"timestamp":1767323045,"latitude":52.3,"longitude":4.8}"#;
    let position = parse(short, None, received()).unwrap();
    assert_eq!(position, parse(long, None, received()).unwrap());
    assert_eq!(position.order_id.unwrap().as_str(), "43");
    assert_eq!(position.event_time.to_string(), "2026-01-02T03:04:05.000Z");
}

#[test]
fn the_topic_names_the_deliverer_and_wins_no_argument() {
    let without = r#"{"timestamp":1,"lat":1,"lon":2}"#;
    assert_eq!(
        parse(without, Some("7"), received())
            .unwrap()
            .deliverer_id
            .as_str(),
        "7"
    );
    assert_eq!(reason(without).0, RejectReason::MissingField);
    let with = r#"{"deliverer_id":8,"timestamp":1,"lat":1,"lon":2}"#;
    let defect = parse(with, Some("7"), received()).unwrap_err();
    assert_eq!(defect.reason, RejectReason::TopicMismatch);
}

#[test]
fn defects_name_the_field() {
    for (item, expected, field) in [
        ("{", RejectReason::Malformed, "JSON"),
        ("7", RejectReason::InvalidField, "struct"),
        (
            r#"{"deliverer_id":1,"timestamp":1,"lat":91,"lon":0}"#,
            RejectReason::InvalidField,
            "lat is 91",
        ),
        (
            r#"{"deliverer_id":1,"timestamp":1,"lat":"91","lon":0}"#,
            RejectReason::InvalidField,
            "lat: ",
        ),
        (
            r#"{"deliverer_id":1,"timestamp":1,"lon":0}"#,
            RejectReason::MissingField,
            "lat",
        ),
        (
            r#"{"deliverer_id":1,"lat":1,"lon":0}"#,
            RejectReason::MissingField,
            "event_time",
        ),
        (
            r#"{"deliverer_id":1,"timestamp":"no","lat":1,"lon":0}"#,
            RejectReason::InvalidField,
            "RFC 3339",
        ),
        (
            r#"{"deliverer_id":1,"timestamp":-5,"lat":1,"lon":0}"#,
            RejectReason::InvalidField,
            "before 1970",
        ),
        (
            r#"{"deliverer_id":{"$gt":""},"timestamp":1,"lat":1,"lon":0}"#,
            RejectReason::InvalidField,
            "deliverer_id",
        ),
        (
            r#"{"deliverer_id":1,"timestamp":1,"lat":1,"lon":0,"speed_mps":-1}"#,
            RejectReason::InvalidField,
            "speed_mps",
        ),
        (
            r#"{"deliverer_id":1,"timestamp":1,"lat":1,"lon":0,"seq":18446744073709551615}"#,
            RejectReason::InvalidField,
            "seq",
        ),
        (
            r#"{"deliverer_id":1,"timestamp":1,"lat":1,"latitude":1,"lon":0}"#,
            RejectReason::InvalidField,
            "lat",
        ),
        (
            r#"{"deliverer_id":1,"timestamp":1,"lat":1e999,"lon":0}"#,
            RejectReason::Malformed,
            "number out of range",
        ),
        (
            r#"{"deliverer_id":"a/b","timestamp":1,"lat":1,"lon":0}"#,
            RejectReason::InvalidField,
            "deliverer_id",
        ),
    ] {
        let (got, detail) = reason(item);
        assert_eq!(got, expected, "{item}: {detail}");
        assert!(detail.contains(field), "{item}: {detail}");
    }
}

#[test]
fn unknown_states_are_kept() {
    let item = r#"{"deliverer_id":1,"timestamp":1,"lat":1,"lon":0,"delivery_state":"lost"}"#;
    let state = parse(item, None, received())
        .unwrap()
        .delivery_state
        .unwrap();
    assert!(!state.is_known());
    assert_eq!(state.as_str(), "lost");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}") {
        let outcome = parse(&text, Some("1"), received());
        prop_assert!(outcome.is_ok() || !outcome.unwrap_err().detail.is_empty());
    }

    #[test]
    fn what_we_serve_is_what_we_read(
        lat in -90.0..=90.0f64, lon in -180.0..=180.0f64, micros in 0..=4_000_000_000_000_000i64,
        seq in proptest::option::of(0..=9_223_372_036_854_775_807u64),
    ) {
        let position = Position {
            order_id: Some(OrderId::new("o 1/2").unwrap()),
            deliverer_id: DelivererId::new("d").unwrap(),
            delivery_state: DeliveryState::new("arrived"),
            event_time: UtcMicros::new(micros).unwrap(),
            received_time: received(),
            lat: Latitude::from_degrees(lat).unwrap(),
            lon: Longitude::from_degrees(lon).unwrap(),
            speed_mps: Some(1.5),
            heading_deg: None,
            accuracy_m: None,
            altitude_m: Some(-3.0),
            battery: Some(0.5),
            seq,
            source: Source::Native,
        };
        let text = serde_json::to_string(&position).unwrap();
        prop_assert_eq!(parse(&text, None, received()).unwrap(), position);
    }
}
