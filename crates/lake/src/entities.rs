//! The declared tables of the raw layer: the one place to add a column or a table.
//!
//! A new column goes at the end of its list and must be optional: files written before it have no value
//! for it, and readers fill in nothing. The Delta log's schema follows by itself at the next commit.

use model::{DelivererId, DeliveryState, FleetEvent, OrderId, Position, Reject};
use store::{LakeSource, LakeTable, SharedVisitor, StoreError, Stored};

use crate::entity::{Column, ColumnType, Entity, LakeRow, Partition, ReadValue, Value};

const fn required<R>(name: &'static str, holds: ColumnType, read: ReadValue<R>) -> Column<R> {
    Column {
        name,
        holds,
        optional: false,
        read,
    }
}

const fn optional<R>(name: &'static str, holds: ColumnType, read: ReadValue<R>) -> Column<R> {
    Column {
        name,
        holds,
        optional: true,
        read,
    }
}

fn text(value: Option<&str>) -> Value<'_> {
    value.map_or(Value::Null, Value::Text)
}

fn number(value: Option<f64>) -> Value<'static> {
    value.map_or(Value::Null, Value::Number)
}

/// A count that the store keeps as a signed 64-bit number, like SQL engines do.
fn integer(value: u64) -> Value<'static> {
    debug_assert!(i64::try_from(value).is_ok(), "{value}");
    Value::Integer(value.cast_signed())
}

use ColumnType::{Bytes, Instant, Integer, Number, Text, Word};

/// Every stored position.
pub static DELIVERER_LOCATION: Entity<Position> = Entity {
    table: LakeTable::DelivererLocation,
    columns: &[
        optional("order_id", Word, |s, _| {
            text(s.row.order_id.as_ref().map(OrderId::as_str))
        }),
        required("deliverer_id", Word, |s, _| {
            Value::Text(DelivererId::as_str(&s.row.deliverer_id))
        }),
        optional("delivery_state", Word, |s, _| {
            text(s.row.delivery_state.as_ref().map(DeliveryState::as_str))
        }),
        required("event_time", Instant, |s, _| {
            Value::Instant(s.row.event_time)
        }),
        required("received_time", Instant, |s, _| {
            Value::Instant(s.row.received_time)
        }),
        required("lat", Number, |s, _| Value::Number(s.row.lat.degrees())),
        required("lon", Number, |s, _| Value::Number(s.row.lon.degrees())),
        optional("speed_mps", Number, |s, _| number(s.row.speed_mps)),
        optional("heading_deg", Number, |s, _| number(s.row.heading_deg)),
        optional("accuracy_m", Number, |s, _| number(s.row.accuracy_m)),
        optional("altitude_m", Number, |s, _| number(s.row.altitude_m)),
        optional("battery", Number, |s, _| number(s.row.battery)),
        optional("seq", Integer, |s, _| {
            s.row.seq.map_or(Value::Null, integer)
        }),
        required("source", Word, |s, _| Value::Text(s.row.source.as_str())),
        required("writer_id", Word, |_, writer_id| Value::Text(writer_id)),
        required("writer_seq", Integer, |s, _| integer(s.writer_seq)),
    ],
    partitions: &[Partition::Date("event_date")],
    cluster_by: Some("deliverer_id"),
    time_column: "event_time",
    time: |row| row.event_time,
    page_rows: 32_768,
};

/// Every fleet event; `data` is the JSON text that was received.
pub static FLEET_EVENT: Entity<FleetEvent> = Entity {
    table: LakeTable::FleetEvent,
    columns: &[
        required("organization_id", Word, |s, _| {
            Value::Text(&s.row.organization_id)
        }),
        required("on", Word, |s, _| Value::Text(s.row.on.as_str())),
        required("entity_id", Word, |s, _| Value::Text(&s.row.entity_id)),
        required("at", Instant, |s, _| Value::Instant(s.row.at)),
        required("received_time", Instant, |s, _| {
            Value::Instant(s.row.received_time)
        }),
        required("data", Text, |s, _| Value::Text(&s.row.data)),
        required("writer_id", Word, |_, writer_id| Value::Text(writer_id)),
        required("writer_seq", Integer, |s, _| integer(s.writer_seq)),
    ],
    partitions: &[
        Partition::Date("event_date"),
        Partition::Word("event", |row| row.event.as_str()),
    ],
    cluster_by: Some("entity_id"),
    time_column: "at",
    time: |row| row.at,
    page_rows: 4_096,
};

/// Every dead letter, with its bytes.
pub static REJECTED: Entity<Reject> = Entity {
    table: LakeTable::Rejected,
    columns: &[
        required("reason", Word, |s, _| {
            Value::Text(s.row.defect.reason.as_str())
        }),
        required("detail", Text, |s, _| Value::Text(&s.row.defect.detail)),
        required("topic", Word, |s, _| Value::Text(&s.row.topic)),
        required("payload", Bytes, |s, _| Value::Bytes(&s.row.payload)),
        required("received_time", Instant, |s, _| {
            Value::Instant(s.row.received_time)
        }),
        required("item", Integer, |s, _| Value::Integer(s.row.item.into())),
        optional("log_seq", Integer, |s, _| {
            s.row.log_seq.map_or(Value::Null, integer)
        }),
        required("writer_id", Word, |_, writer_id| Value::Text(writer_id)),
        required("writer_seq", Integer, |s, _| integer(s.writer_seq)),
    ],
    partitions: &[Partition::Date("received_date")],
    cluster_by: None,
    time_column: "received_time",
    time: |row| row.received_time,
    page_rows: 512,
};

macro_rules! lake_row {
    ($row:ty, $entity:ident, $scan:ident $(, $visit:ident)?) => {
        impl LakeRow for $row {
            fn entity() -> &'static Entity<Self> {
                &$entity
            }

            async fn scan(
                source: &dyn LakeSource,
                writer_id: &str,
                after: u64,
                to: u64,
                limit: usize,
            ) -> Result<Vec<Stored<Self>>, StoreError> {
                source.$scan(writer_id, after, to, limit).await
            }

            $(async fn visit(
                source: &dyn LakeSource,
                writer_id: &str,
                after: u64,
                to: u64,
                limit: usize,
                visitor: SharedVisitor<Self>,
            ) -> Result<(), StoreError> {
                source.$visit(writer_id, after, to, limit, visitor).await
            })?
        }
    };
}

lake_row!(
    Position,
    DELIVERER_LOCATION,
    scan_positions,
    visit_positions
);
lake_row!(FleetEvent, FLEET_EVENT, scan_fleet_events);
lake_row!(Reject, REJECTED, scan_rejected);

/// Returns the folder of a raw table below the lake's root.
pub fn folder(table: LakeTable) -> String {
    format!("raw/{}", table.as_str())
}
