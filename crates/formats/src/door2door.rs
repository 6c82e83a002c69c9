//! The door2door event format: one JSON object per event.
//!
//! ```json
//! {"event": "update", "on": "vehicle", "at": "2019-06-01T18:17:10.101Z", "organization_id": "org-id",
//!  "data": {"id": "bac5", "location": {"lat": 52.45, "lng": 13.46, "at": "2019-06-01T18:17:10.101Z"}}}
//! ```
//!
//! `on` is `vehicle` (with `register`, `update`, `deregister`) or `operating_period` (with `create`,
//! `delete`). An `update` whose location has both coordinates is also a position of that vehicle; one
//! without them is an event only.

use std::borrow::Cow;

use model::fleet_event::FleetAction;
use model::native::{IdText, WireTime, explain_as, invalid_id, latitude, longitude, missing};
use model::reject::{Defect, RejectReason};
use model::{DelivererId, FleetEvent, FleetSubject, Position, Record, Source, UtcMicros};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    on: Option<Cow<'a, str>>,
    at: Option<WireTime>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    organization_id: Option<IdText<'a>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    id: Option<IdText<'a>>,
    location: Option<Location>,
}

#[derive(Deserialize)]
struct Location {
    lat: Option<f64>,
    lng: Option<f64>,
    at: Option<WireTime>,
}

/// Parses one door2door event.
///
/// # Errors
/// A [`Defect`] that names the field and what to send instead.
pub fn parse(item: &str, received_time: UtcMicros) -> Result<Record, Defect> {
    let wire: Wire<'_> =
        serde_json::from_str(item).map_err(|e| explain_as::<Wire<'_>>(item, &e))?;
    let on: FleetSubject = word("on", wire.on, "vehicle or operating_period")?;
    let action: FleetAction = word(
        "event",
        wire.event,
        "register, update, deregister, create or delete",
    )?;
    if !action.applies_to(on) {
        return Err(Defect::new(
            RejectReason::InvalidField,
            format!(
                "event {} does not happen to {}",
                action.as_str(),
                on.as_str()
            ),
        ));
    }
    let at = wire.at.ok_or_else(|| missing("at"))?.0;
    let raw_data = wire.data.ok_or_else(|| missing("data"))?.get();
    let data: Data<'_> =
        serde_json::from_str(raw_data).map_err(|e| explain_as::<Data<'_>>(raw_data, &e))?;
    let id = data.id.ok_or_else(|| missing("data.id"))?.0;
    let entity_id = DelivererId::new(id).map_err(|e| invalid_id("data.id", e))?;
    let organization_id = wire
        .organization_id
        .ok_or_else(|| missing("organization_id"))?
        .0;
    let organization_id =
        model::OrderId::new(organization_id).map_err(|e| invalid_id("organization_id", e))?;

    let position = match data.location {
        Some(Location {
            lat: Some(lat),
            lng: Some(lng),
            at: located,
        }) if action == FleetAction::Update => Some(Position {
            order_id: None,
            deliverer_id: entity_id.clone(),
            delivery_state: None,
            event_time: located.map_or(at, |time| time.0),
            received_time,
            lat: latitude("data.location.lat", Some(lat))?,
            lon: longitude("data.location.lng", Some(lng))?,
            speed_mps: None,
            heading_deg: None,
            accuracy_m: None,
            altitude_m: None,
            battery: None,
            seq: None,
            source: Source::Door2door,
        }),
        _ => None,
    };
    let event = FleetEvent {
        organization_id: organization_id.as_str().into(),
        on,
        event: action,
        entity_id: entity_id.as_str().into(),
        at,
        received_time,
        data: raw_data.into(),
    };
    Ok(Record::FleetEvent { event, position })
}

fn word<T: std::str::FromStr>(
    field: &str,
    word: Option<Cow<'_, str>>,
    expected: &str,
) -> Result<T, Defect> {
    let word = word.ok_or_else(|| missing(field))?;
    word.parse().map_err(|_| {
        Defect::new(
            RejectReason::InvalidField,
            format!("{field} is {word:?}; give {expected}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(item: &str) -> Result<Record, RejectReason> {
        parse(item, UtcMicros::default()).map_err(|defect| defect.reason)
    }

    #[test]
    fn an_update_is_also_a_position() {
        let item = r#"{"event":"update","on":"vehicle","at":"2019-06-01T18:17:10.101Z","data":{"id":"v","location":{"lat":52.4,"lng":13.4,"at":"2019-06-01T18:17:10.100Z"}},"organization_id":"o"}"#;
        let record = outcome(item).unwrap();
        let position = record.position().unwrap();
        assert_eq!(position.event_time.to_string(), "2019-06-01T18:17:10.100Z");
        assert_eq!(position.deliverer_id.as_str(), "v");
        let Record::FleetEvent { event, .. } = record else {
            panic!("not an event")
        };
        assert!(event.data.starts_with(r#"{"id":"v""#));
    }

    #[test]
    fn null_and_absent_locations_are_events_only() {
        for location in [
            r#","location":{"lat":null,"lng":null,"at":null}"#,
            "",
            r#","location":null"#,
        ] {
            let item = format!(
                r#"{{"event":"update","on":"vehicle","at":1,"data":{{"id":1{location}}},"organization_id":"o"}}"#
            );
            assert!(outcome(&item).unwrap().position().is_none(), "{item}");
        }
    }

    #[test]
    fn what_the_format_does_not_know_is_rejected() {
        for (item, reason) in [
            (
                r#"{"event":"create","on":"vehicle","at":1,"data":{"id":1},"organization_id":"o"}"#,
                RejectReason::InvalidField,
            ),
            (
                r#"{"event":"explode","on":"vehicle","at":1,"data":{"id":1},"organization_id":"o"}"#,
                RejectReason::InvalidField,
            ),
            (
                r#"{"event":"register","on":"vehicle","at":1,"data":{},"organization_id":"o"}"#,
                RejectReason::MissingField,
            ),
            (
                r#"{"event":"register","on":"vehicle","at":1,"organization_id":"o"}"#,
                RejectReason::MissingField,
            ),
            (
                r#"{"event":"update","on":"vehicle","at":1,"data":{"id":1,"location":{"lat":100,"lng":0}},"organization_id":"o"}"#,
                RejectReason::InvalidField,
            ),
            ("[]", RejectReason::InvalidField),
            ("{", RejectReason::Malformed),
        ] {
            assert_eq!(outcome(item), Err(reason), "{item}");
        }
    }
}
