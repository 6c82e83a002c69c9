//! The native wire format: flat snake-case JSON, one object per position.
//!
//! ```json
//! {"order_id": "43", "deliverer_id": "1", "delivery_state": "on_the_way",
//!  "event_time": "2026-01-02T03:04:05.678Z", "lat": 52.33, "lon": 4.88, "seq": 17}
//! ```
//!
//! | field | also spelled | value | required |
//! |---|---|---|---|
//! | `order_id` | | text or integer, see [`OrderId`] | no |
//! | `deliverer_id` | | text or integer, see [`DelivererId`] | unless the topic names it |
//! | `delivery_state` | | `start`, `on_the_way`, `arrived`; other words are kept | no |
//! | `event_time` | `timestamp` | see [`crate::time`] | yes |
//! | `lat` | `latitude` | degrees, -90 to 90 | yes |
//! | `lon` | `longitude`, `lng` | degrees, -180 to 180 | yes |
//! | `speed_mps`, `accuracy_m` | | 0 or more | no |
//! | `heading_deg` | | 0 to 360 | no |
//! | `altitude_m` | | any finite number | no |
//! | `battery` | | 0 to 1 | no |
//! | `seq` | | integer, 0 to 2^63 - 1 | no |
//!
//! `null` means absent. Fields not listed are ignored. A field given twice (or in two spellings) is a
//! defect, because nothing says which one is meant.

use std::borrow::Cow;
use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use crate::id::IdError;
use crate::reject::{Defect, RejectReason};
use crate::{
    DelivererId, DeliveryState, Latitude, Longitude, OrderId, Position, Source, UtcMicros, payload,
};

/// Parses one JSON object into a position.
///
/// `topic_deliverer` is the deliverer the topic names, if it names one: it stands in for an absent
/// `deliverer_id` and must agree with a present one.
///
/// # Errors
/// A [`Defect`] that names the field and what to send instead.
pub fn parse(
    item: &str,
    topic_deliverer: Option<&str>,
    received_time: UtcMicros,
) -> Result<Position, Defect> {
    let wire: Wire<'_> = serde_json::from_str(item).map_err(|e| explain(item, &e))?;
    let deliverer = match (wire.deliverer_id, topic_deliverer) {
        (Some(id), None) => id.0,
        (None, Some(topic)) => Cow::Borrowed(topic),
        (Some(id), Some(topic)) if id.0 == topic => id.0,
        (Some(id), Some(topic)) => {
            return Err(Defect::new(
                RejectReason::TopicMismatch,
                format!("deliverer_id {:?} was sent on the topic of {topic:?}", id.0),
            ));
        }
        (None, None) => return Err(missing("deliverer_id")),
    };
    let event_time = wire.event_time.ok_or_else(|| missing("event_time"))?.0;
    Ok(Position {
        order_id: wire
            .order_id
            .map(|id| OrderId::new(id.0).map_err(|e| invalid_id("order_id", e)))
            .transpose()?,
        deliverer_id: DelivererId::new(deliverer).map_err(|e| invalid_id("deliverer_id", e))?,
        delivery_state: wire.delivery_state.map(|word| state(&word)).transpose()?,
        event_time,
        received_time,
        lat: latitude("lat", wire.lat)?,
        lon: longitude("lon", wire.lon)?,
        speed_mps: in_range("speed_mps", wire.speed_mps, 0.0, f64::MAX)?,
        heading_deg: in_range("heading_deg", wire.heading_deg, 0.0, 360.0)?,
        accuracy_m: in_range("accuracy_m", wire.accuracy_m, 0.0, f64::MAX)?,
        altitude_m: in_range("altitude_m", wire.altitude_m, f64::MIN, f64::MAX)?,
        battery: in_range("battery", wire.battery, 0.0, 1.0)?,
        seq: wire.seq.map(sequence).transpose()?,
        source: Source::Native,
    })
}

/// Checks a required latitude in degrees; `field` names it in the defect.
///
/// # Errors
/// A [`Defect`] when it is absent or outside -90 to 90.
pub fn latitude(field: &str, degrees: Option<f64>) -> Result<Latitude, Defect> {
    let degrees = degrees.ok_or_else(|| missing(field))?;
    Latitude::from_degrees(degrees).ok_or_else(|| out_of_range(field, degrees, -90.0, 90.0))
}

/// Checks a required longitude in degrees; `field` names it in the defect.
///
/// # Errors
/// A [`Defect`] when it is absent or outside -180 to 180.
pub fn longitude(field: &str, degrees: Option<f64>) -> Result<Longitude, Defect> {
    let degrees = degrees.ok_or_else(|| missing(field))?;
    Longitude::from_degrees(degrees).ok_or_else(|| out_of_range(field, degrees, -180.0, 180.0))
}

/// Names a required field that is absent.
pub fn missing(field: &str) -> Defect {
    Defect::new(
        RejectReason::MissingField,
        format!("the field {field} is required"),
    )
}

/// Names a field whose value is no id.
pub fn invalid_id(field: &str, error: IdError) -> Defect {
    Defect::new(RejectReason::InvalidField, format!("{field} {error}"))
}

/// Turns a failure to read `item` as `T` into a defect that names the field.
pub fn explain_as<'de, T: Deserialize<'de>>(item: &'de str, error: &serde_json::Error) -> Defect {
    if !error.is_data() {
        return payload::malformed(error);
    }
    let json = &mut serde_json::Deserializer::from_str(item);
    match serde_path_to_error::deserialize::<_, T>(json) {
        Err(at) if at.path().iter().next().is_some() => {
            let field = at.path().to_string();
            Defect::new(
                RejectReason::InvalidField,
                format!("{field}: {}", at.into_inner()),
            )
        }
        Ok(_) | Err(_) => Defect::new(RejectReason::InvalidField, error.to_string()),
    }
}

fn explain(item: &str, error: &serde_json::Error) -> Defect {
    explain_as::<Wire<'_>>(item, error)
}

fn out_of_range(field: &str, value: f64, low: f64, high: f64) -> Defect {
    Defect::new(
        RejectReason::InvalidField,
        format!("{field} is {value}; give a number from {low} to {high}"),
    )
}

fn in_range(field: &str, value: Option<f64>, low: f64, high: f64) -> Result<Option<f64>, Defect> {
    match value {
        Some(value) if !(low..=high).contains(&value) => Err(out_of_range(field, value, low, high)),
        other => Ok(other),
    }
}

fn sequence(seq: u64) -> Result<u64, Defect> {
    if i64::try_from(seq).is_ok() {
        return Ok(seq);
    }
    Err(Defect::new(
        RejectReason::InvalidField,
        format!("seq is {seq}; give an integer from 0 to 2^63 - 1"),
    ))
}

fn state(word: &str) -> Result<DeliveryState, Defect> {
    DeliveryState::new(word).ok_or_else(|| {
        Defect::new(
            RejectReason::InvalidField,
            format!(
                "delivery_state is not a word of 1 to {} bytes; give start, on_the_way or arrived",
                DeliveryState::MAX_BYTES
            ),
        )
    })
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    order_id: Option<IdText<'a>>,
    #[serde(borrow)]
    deliverer_id: Option<IdText<'a>>,
    #[serde(borrow)]
    delivery_state: Option<Cow<'a, str>>,
    #[serde(alias = "timestamp")]
    event_time: Option<WireTime>,
    #[serde(alias = "latitude")]
    lat: Option<f64>,
    #[serde(alias = "longitude", alias = "lng")]
    lon: Option<f64>,
    speed_mps: Option<f64>,
    heading_deg: Option<f64>,
    accuracy_m: Option<f64>,
    altitude_m: Option<f64>,
    battery: Option<f64>,
    seq: Option<u64>,
}

/// An id on the wire: text, or an integer kept in decimal.
#[derive(Debug, Clone)]
pub struct IdText<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for IdText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = IdText<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or an integer")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(IdText(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(IdText(Cow::Owned(text.to_owned())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(IdText(Cow::Owned(number.to_string())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(IdText(Cow::Owned(number.to_string())))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// An instant on the wire, in any of the spellings of [`crate::time`].
#[derive(Debug, Clone, Copy)]
pub struct WireTime(pub UtcMicros);

impl<'de> Deserialize<'de> for WireTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Time;
        impl Visitor<'_> for Time {
            type Value = WireTime;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time or epoch seconds, milliseconds or microseconds")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WireTime, E> {
                UtcMicros::parse(text).map(WireTime).ok_or_else(|| {
                    E::custom(format_args!(
                        "{text:?} is no time from 1970 to 9999; send RFC 3339 (2026-01-02T03:04:05Z)"
                    ))
                })
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<WireTime, E> {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "numbers that an f64 does not hold exactly are refused below"
                )]
                let number = number as f64;
                self.visit_f64(number)
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<WireTime, E> {
                Err(E::custom(format_args!("{number} is before 1970")))
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<WireTime, E> {
                UtcMicros::from_epoch_number(number)
                    .map(WireTime)
                    .ok_or_else(|| {
                        E::custom(format_args!(
                            "{number} is no time; send epoch seconds, milliseconds or microseconds"
                        ))
                    })
            }
        }
        deserializer.deserialize_any(Time)
    }
}

#[cfg(test)]
mod tests;
