//! Documents to domain values and back.
//!
//! Documents are written from borrowed values and read into owned ones, both typed, so that nothing is built
//! on the way. Times are BSON dates, which hold milliseconds; what is below a millisecond stands beside them,
//! and only where there is any. What does not parse was not written by this program: that is damage.

use model::reject::Defect;
use model::{
    DelivererId, DeliveryState, FleetEvent, Latitude, Longitude, OrderId, Position, Reject,
    RejectReason, Source, UtcMicros,
};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Outcome};

/// Splits an instant into a date and the microseconds below its millisecond, unless there are none.
pub(crate) fn split(time: UtcMicros) -> (DateTime, Option<i32>) {
    let micros = time.as_micros();
    let below = i32::try_from(micros % 1_000).unwrap_or(0);
    (
        DateTime::from_millis(micros / 1_000),
        (below != 0).then_some(below),
    )
}

fn join(date: DateTime, below: Option<i32>, field: &'static str) -> Outcome<UtcMicros> {
    let micros = date
        .timestamp_millis()
        .checked_mul(1_000)
        .and_then(|micros| micros.checked_add(i64::from(below.unwrap_or(0))));
    some(micros.and_then(UtcMicros::new), field)
}

fn some<T>(value: Option<T>, field: &'static str) -> Outcome<T> {
    value.ok_or_else(|| {
        Failure::data(format!(
            "the field {field} of a document holds what was never written"
        ))
    })
}

/// Who stored a row, and as which of its rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The writer.
    pub(crate) writer: &'a str,
    /// Its sequence.
    pub(crate) seq: u64,
}

/// A row as found: who holds it.
#[derive(Debug, Deserialize)]
pub(crate) struct Held {
    #[serde(rename = "_id")]
    pub(crate) id: String,
    pub(crate) w: String,
    pub(crate) s: i64,
}

/// A position about to be written: as a row of history, or as a last position.
#[derive(Debug, Serialize)]
pub(crate) struct PositionRow<'a> {
    #[serde(rename = "_id", skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<&'a str>,
    deliverer_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_state: Option<&'a str>,
    event_time: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time_us: Option<i32>,
    received_time: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_time_us: Option<i32>,
    lat: f64,
    lon: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    speed_mps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heading_deg: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy_m: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    altitude_m: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    battery: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    w: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recency: Option<&'a str>,
}

impl<'a> PositionRow<'a> {
    fn new(position: &'a Position) -> Self {
        let (event_time, event_time_us) = split(position.event_time);
        let (received_time, received_time_us) = split(position.received_time);
        Self {
            id: None,
            order_id: position.order_id.as_ref().map(OrderId::as_str),
            deliverer_id: position.deliverer_id.as_str(),
            delivery_state: position.delivery_state.as_ref().map(DeliveryState::as_str),
            event_time,
            event_time_us,
            received_time,
            received_time_us,
            lat: position.lat.degrees(),
            lon: position.lon.degrees(),
            speed_mps: position.speed_mps,
            heading_deg: position.heading_deg,
            accuracy_m: position.accuracy_m,
            altitude_m: position.altitude_m,
            battery: position.battery,
            // At most 2^63 - 1, as the model says.
            seq: position.seq.map(u64::cast_signed),
            source: position.source.as_str(),
            w: None,
            s: None,
            recency: None,
        }
    }

    /// Makes a row of history.
    pub(crate) fn of_history(position: &'a Position, id: &'a str, place: Place<'a>) -> Self {
        Self {
            id: Some(id),
            w: Some(place.writer),
            s: Some(place.seq.cast_signed()),
            ..Self::new(position)
        }
    }

    /// Makes a last position.
    pub(crate) fn last(position: &'a Position, id: &'a str, recency: &'a str) -> Self {
        Self {
            id: Some(id),
            recency: Some(recency),
            ..Self::new(position)
        }
    }
}

/// A position read, from history or as a last one.
#[derive(Debug, Deserialize)]
pub(crate) struct PositionDoc {
    order_id: Option<String>,
    deliverer_id: String,
    delivery_state: Option<String>,
    event_time: DateTime,
    event_time_us: Option<i32>,
    received_time: DateTime,
    received_time_us: Option<i32>,
    lat: f64,
    lon: f64,
    speed_mps: Option<f64>,
    heading_deg: Option<f64>,
    accuracy_m: Option<f64>,
    altitude_m: Option<f64>,
    battery: Option<f64>,
    seq: Option<i64>,
    source: String,
    w: Option<String>,
    s: Option<i64>,
}

impl PositionDoc {
    /// Returns who stored it, if it is a row of history.
    pub(crate) fn writer(&self) -> Option<&str> {
        self.w.as_deref()
    }

    pub(crate) fn into_position(self) -> Outcome<Position> {
        let order_id = self
            .order_id
            .map(|id| some(OrderId::new(id).ok(), "order_id"));
        let state = self
            .delivery_state
            .map(|word| some(DeliveryState::new(&word), "delivery_state"));
        let seq = self.seq.map(|seq| some(u64::try_from(seq).ok(), "seq"));
        Ok(Position {
            order_id: order_id.transpose()?,
            deliverer_id: some(DelivererId::new(self.deliverer_id).ok(), "deliverer_id")?,
            delivery_state: state.transpose()?,
            event_time: join(self.event_time, self.event_time_us, "event_time")?,
            received_time: join(self.received_time, self.received_time_us, "received_time")?,
            lat: some(Latitude::from_degrees(self.lat), "lat")?,
            lon: some(Longitude::from_degrees(self.lon), "lon")?,
            speed_mps: self.speed_mps,
            heading_deg: self.heading_deg,
            accuracy_m: self.accuracy_m,
            altitude_m: self.altitude_m,
            battery: self.battery,
            seq: seq.transpose()?,
            source: some(Source::from_name(&self.source), "source")?,
        })
    }
}

/// A fleet event about to be written. `stored` is its place in the order stored.
#[derive(Debug, Serialize)]
pub(crate) struct FleetEventRow<'a> {
    #[serde(rename = "_id")]
    pub(crate) id: &'a str,
    organization_id: &'a str,
    on: &'static str,
    event: &'static str,
    entity_id: &'a str,
    at: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_us: Option<i32>,
    received_time: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_time_us: Option<i32>,
    data: &'a str,
    stored: &'a str,
    w: &'a str,
    s: i64,
}

impl<'a> FleetEventRow<'a> {
    pub(crate) fn new(
        event: &'a FleetEvent,
        id: &'a str,
        stored: &'a str,
        place: Place<'a>,
    ) -> Self {
        let (at, at_us) = split(event.at);
        let (received_time, received_time_us) = split(event.received_time);
        Self {
            id,
            organization_id: &event.organization_id,
            on: event.on.as_str(),
            event: event.event.as_str(),
            entity_id: &event.entity_id,
            at,
            at_us,
            received_time,
            received_time_us,
            data: &event.data,
            stored,
            w: place.writer,
            s: place.seq.cast_signed(),
        }
    }
}

/// A fleet event read.
#[derive(Debug, Deserialize)]
pub(crate) struct FleetEventDoc {
    organization_id: String,
    on: String,
    event: String,
    entity_id: String,
    at: DateTime,
    at_us: Option<i32>,
    received_time: DateTime,
    received_time_us: Option<i32>,
    data: String,
    stored: String,
    s: i64,
}

impl FleetEventDoc {
    fn into_event(self) -> Outcome<FleetEvent> {
        Ok(FleetEvent {
            organization_id: self.organization_id.into(),
            on: some(self.on.parse().ok(), "on")?,
            event: some(self.event.parse().ok(), "event")?,
            entity_id: self.entity_id.into(),
            at: join(self.at, self.at_us, "at")?,
            received_time: join(self.received_time, self.received_time_us, "received_time")?,
            data: self.data.into(),
        })
    }
}

/// A dead letter about to be written.
#[derive(Debug, Serialize)]
pub(crate) struct RejectRow<'a> {
    #[serde(rename = "_id")]
    pub(crate) id: &'a str,
    reason: &'static str,
    detail: &'a str,
    topic: &'a str,
    payload: Binary,
    received_time: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_time_us: Option<i32>,
    item: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_seq: Option<i64>,
    stored: &'a str,
    w: &'a str,
    s: i64,
}

impl<'a> RejectRow<'a> {
    pub(crate) fn new(reject: &'a Reject, id: &'a str, stored: &'a str, place: Place<'a>) -> Self {
        let (received_time, received_time_us) = split(reject.received_time);
        Self {
            id,
            reason: reject.defect.reason.as_str(),
            detail: &reject.defect.detail,
            topic: &reject.topic,
            payload: Binary {
                subtype: BinarySubtype::Generic,
                bytes: reject.payload.to_vec(),
            },
            received_time,
            received_time_us,
            item: i64::from(reject.item),
            log_seq: reject.log_seq.map(u64::cast_signed),
            stored,
            w: place.writer,
            s: place.seq.cast_signed(),
        }
    }
}

/// A dead letter read.
#[derive(Debug, Deserialize)]
pub(crate) struct RejectDoc {
    reason: String,
    detail: String,
    topic: String,
    payload: Binary,
    received_time: DateTime,
    received_time_us: Option<i32>,
    item: i64,
    log_seq: Option<i64>,
    stored: String,
    s: i64,
}

impl RejectDoc {
    fn into_reject(self) -> Outcome<Reject> {
        let reason = some(RejectReason::from_code(&self.reason), "reason")?;
        Ok(Reject {
            defect: Defect::new(reason, self.detail),
            topic: self.topic.into(),
            payload: self.payload.bytes.into(),
            received_time: join(self.received_time, self.received_time_us, "received_time")?,
            item: some(u32::try_from(self.item).ok(), "item")?,
            log_seq: self.log_seq.map(i64::cast_unsigned),
        })
    }
}

/// A document that is a row of a table of the lake.
pub(crate) trait RowDoc: for<'de> Deserialize<'de> + Send + Sync + Unpin + 'static {
    /// What it says.
    type Row: Send;

    /// Returns the sequence its writer gave it.
    fn seq(&self) -> Outcome<u64>;

    /// Reads it.
    fn into_row(self) -> Outcome<Self::Row>;
}

impl RowDoc for PositionDoc {
    type Row = Position;

    fn seq(&self) -> Outcome<u64> {
        some(self.s.map(i64::cast_unsigned), "s")
    }

    fn into_row(self) -> Outcome<Position> {
        self.into_position()
    }
}

impl RowDoc for FleetEventDoc {
    type Row = FleetEvent;

    fn seq(&self) -> Outcome<u64> {
        Ok(self.s.cast_unsigned())
    }

    fn into_row(self) -> Outcome<FleetEvent> {
        self.into_event()
    }
}

impl RowDoc for RejectDoc {
    type Row = Reject;

    fn seq(&self) -> Outcome<u64> {
        Ok(self.s.cast_unsigned())
    }

    fn into_row(self) -> Outcome<Reject> {
        self.into_reject()
    }
}

/// A document with a place in the order stored.
pub(crate) trait StoredDoc: RowDoc {
    /// Returns that place.
    fn stored(&self) -> &str;
}

impl StoredDoc for FleetEventDoc {
    fn stored(&self) -> &str {
        &self.stored
    }
}

impl StoredDoc for RejectDoc {
    fn stored(&self) -> &str {
        &self.stored
    }
}
