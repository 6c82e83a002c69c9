//! Rows to domain values. What does not parse was not written by this program: that is damage.

use std::fmt;
use std::str::FromStr;

use model::reject::Defect;
use model::{
    DelivererId, DeliveryState, FleetEvent, Latitude, Longitude, OrderId, Position, Reject,
    RejectReason, Source, UtcMicros,
};
use rusqlite::Row;
use rusqlite::types::Type;

/// Column of the sequence in every row read by [`position`].
pub(crate) const POSITION_SEQ: usize = 14;
/// Column of the sequence in every row read by [`fleet_event`] or [`reject`].
pub(crate) const OTHER_SEQ: usize = 7;

type Read<T> = rusqlite::Result<T>;

#[derive(Debug)]
struct Damaged(&'static str);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the column {} holds what was never written", self.0)
    }
}

impl std::error::Error for Damaged {}

fn damaged(column: usize, name: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(Damaged(name)))
}

fn some<T>(value: Option<T>, column: usize, name: &'static str) -> Read<T> {
    value.ok_or_else(|| damaged(column, name))
}

fn text<'a>(row: &'a Row<'_>, column: usize, name: &'static str) -> Read<&'a str> {
    row.get_ref(column)?
        .as_str()
        .map_err(|_| damaged(column, name))
}

fn word<T: FromStr>(row: &Row<'_>, column: usize, name: &'static str) -> Read<T> {
    some(text(row, column, name)?.parse().ok(), column, name)
}

fn time(row: &Row<'_>, column: usize) -> Read<UtcMicros> {
    some(UtcMicros::new(row.get(column)?), column, "time")
}

/// Reads a position; the SQL texts name its columns in this order.
pub(crate) fn position(row: &Row<'_>) -> Read<Position> {
    let order_id = row
        .get_ref(0)?
        .as_str_or_null()
        .map_err(|_| damaged(0, "order_id"))?
        .map(|id| some(OrderId::new(id).ok(), 0, "order_id"))
        .transpose()?;
    let deliverer_id = deliverer_id_at(row, 1)?;
    position_of(row, order_id, deliverer_id)
}

/// Reads the id of an order.
pub(crate) fn order_id_at(row: &Row<'_>, column: usize) -> Read<OrderId> {
    let id = OrderId::new(text(row, column, "order_id")?);
    some(id.ok(), column, "order_id")
}

/// Reads the id of a deliverer.
pub(crate) fn deliverer_id_at(row: &Row<'_>, column: usize) -> Read<DelivererId> {
    let id = DelivererId::new(text(row, column, "deliverer_id")?);
    some(id.ok(), column, "deliverer_id")
}

/// Reads a position whose ids are known already; its first two columns are not looked at.
pub(crate) fn position_of(
    row: &Row<'_>,
    order_id: Option<OrderId>,
    deliverer_id: DelivererId,
) -> Read<Position> {
    let delivery_state = row
        .get_ref(7)?
        .as_str_or_null()
        .map_err(|_| damaged(7, "delivery_state"))?
        .map(|word| some(DeliveryState::new(word), 7, "delivery_state"))
        .transpose()?;
    let discriminator: i64 = row.get(3)?;
    Ok(Position {
        order_id,
        deliverer_id,
        delivery_state,
        event_time: time(row, 2)?,
        received_time: time(row, 4)?,
        lat: some(Latitude::from_degrees(row.get(5)?), 5, "lat")?,
        lon: some(Longitude::from_degrees(row.get(6)?), 6, "lon")?,
        speed_mps: row.get(8)?,
        heading_deg: row.get(9)?,
        accuracy_m: row.get(10)?,
        altitude_m: row.get(11)?,
        battery: row.get(12)?,
        // From zero on, the discriminator is the device's counter.
        seq: u64::try_from(discriminator).ok(),
        source: some(Source::from_name(text(row, 13, "source")?), 13, "source")?,
    })
}

/// Reads a fleet event.
pub(crate) fn fleet_event(row: &Row<'_>) -> Read<FleetEvent> {
    Ok(FleetEvent {
        organization_id: text(row, 0, "organization_id")?.into(),
        on: word(row, 1, "subject")?,
        event: word(row, 2, "action")?,
        entity_id: text(row, 3, "entity_id")?.into(),
        at: time(row, 4)?,
        received_time: time(row, 5)?,
        data: text(row, 6, "data")?.into(),
    })
}

/// Reads a dead letter.
pub(crate) fn reject(row: &Row<'_>) -> Read<Reject> {
    let reason = RejectReason::from_code(text(row, 0, "reason")?);
    let payload = row
        .get_ref(3)?
        .as_blob()
        .map_err(|_| damaged(3, "payload"))?;
    let log_seq: Option<i64> = row.get(6)?;
    Ok(Reject {
        defect: Defect::new(some(reason, 0, "reason")?, text(row, 1, "detail")?),
        topic: text(row, 2, "topic")?.into(),
        payload: payload.into(),
        received_time: time(row, 4)?,
        item: row.get(5)?,
        log_seq: log_seq.map(i64::cast_unsigned),
    })
}

/// Reads a sequence.
pub(crate) fn seq(row: &Row<'_>, column: usize) -> Read<u64> {
    row.get(column).map(i64::cast_unsigned)
}
