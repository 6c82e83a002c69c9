//! The JSON of the API as OpenAPI schemas, where it is not described by the type that writes it.
//!
//! The types here but [`ItemError`] only describe: their JSON is written by `model` or taken apart by
//! it, and tests hold each description to what is really sent.

use model::reject::Defect;
use serde::Serialize;
use utoipa::ToSchema;

/// Where a deliverer was at one instant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Position {
    /// The order being delivered; null for a vehicle that carries none.
    #[schema(required = true, example = "43")]
    pub(crate) order_id: Option<String>,
    /// Who moves.
    #[schema(example = "1")]
    pub(crate) deliverer_id: String,
    /// `start`, `on_the_way`, `arrived`, or another word as it was sent.
    #[schema(required = true, example = "on_the_way")]
    pub(crate) delivery_state: Option<String>,
    /// When the device was there, by the device's clock; RFC 3339, UTC.
    #[schema(format = DateTime, example = "2026-01-02T03:04:05.678Z")]
    pub(crate) event_time: String,
    /// When the message was taken; RFC 3339, UTC.
    #[schema(format = DateTime, example = "2026-01-02T03:04:05.701Z")]
    pub(crate) received_time: String,
    /// Degrees, WGS 84.
    #[schema(minimum = -90, maximum = 90, example = 52.3358)]
    pub(crate) lat: f64,
    /// Degrees, WGS 84.
    #[schema(minimum = -180, maximum = 180, example = 4.8893)]
    pub(crate) lon: f64,
    /// Speed over ground in metres per second.
    #[schema(required = true)]
    pub(crate) speed_mps: Option<f64>,
    /// Course over ground in degrees clockwise from north.
    #[schema(required = true)]
    pub(crate) heading_deg: Option<f64>,
    /// Horizontal accuracy in metres.
    #[schema(required = true)]
    pub(crate) accuracy_m: Option<f64>,
    /// Metres above the ellipsoid or the sea, as the device has it.
    #[schema(required = true)]
    pub(crate) altitude_m: Option<f64>,
    /// Charge of the device, 0 to 1.
    #[schema(required = true)]
    pub(crate) battery: Option<f64>,
    /// The device's own counter.
    #[schema(required = true, example = 17)]
    pub(crate) seq: Option<u64>,
    /// The wire format it came in: `native` or `door2door`.
    #[schema(example = "native")]
    pub(crate) source: String,
}

/// A last position, with its age.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LastPosition {
    /// The position.
    #[serde(flatten)]
    pub(crate) position: Position,
    /// Seconds since `event_time`, by the service's clock; below 0 when the device's clock is ahead.
    #[schema(example = 1.25)]
    pub(crate) age_s: f64,
}

/// A page of positions, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PositionPage {
    /// The positions.
    pub(crate) data: Vec<Position>,
    /// Give it as `cursor` for the next page; null when there is no more.
    #[schema(required = true)]
    pub(crate) next_cursor: Option<String>,
}

/// What the original pipeline answers for the last position of an order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginalLast {
    /// The last position, or nothing when the order is unknown.
    pub(crate) data: Vec<Position>,
}

/// What the original pipeline answers to a POST.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginalStatus {
    /// `OK` or `ERROR`.
    pub(crate) status: String,
    /// What is wrong; absent when nothing is.
    pub(crate) message: Option<String>,
}

/// One position, or several.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what is read elsewhere")]
pub(crate) enum PositionsInput {
    /// One.
    One(PositionInput),
    /// Several, at most 10,000.
    Many(Vec<PositionInput>),
}

/// An id as it is sent: text of 1 to 128 bytes without control characters, or an integer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what is read elsewhere")]
pub(crate) enum IdInput {
    /// Text.
    Text(String),
    /// An integer, kept in decimal.
    Integer(i64),
}

/// A time as it is sent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what is read elsewhere")]
pub(crate) enum TimeInput {
    /// RFC 3339; without an offset it is UTC.
    Text(String),
    /// Epoch seconds, milliseconds or microseconds, told apart by their size.
    Number(f64),
}

/// A position as it is sent. `null` means absent; fields not listed are ignored.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "order_id": "43", "deliverer_id": "1", "delivery_state": "on_the_way",
    "event_time": "2026-01-02T03:04:05.678Z", "lat": 52.3358, "lon": 4.8893, "seq": 17,
}))]
pub(crate) struct PositionInput {
    /// Which order; absent for a vehicle that carries none.
    pub(crate) order_id: Option<IdInput>,
    /// Who moves; without `/`, `+` and `#`.
    pub(crate) deliverer_id: IdInput,
    /// `start`, `on_the_way`, `arrived`; other words of up to 64 bytes are kept.
    pub(crate) delivery_state: Option<String>,
    /// When the device was there. Also spelled `timestamp`.
    pub(crate) event_time: TimeInput,
    /// Degrees. Also spelled `latitude`.
    #[schema(minimum = -90, maximum = 90)]
    pub(crate) lat: f64,
    /// Degrees. Also spelled `longitude` or `lng`.
    #[schema(minimum = -180, maximum = 180)]
    pub(crate) lon: f64,
    /// Metres per second, 0 or more.
    #[schema(minimum = 0)]
    pub(crate) speed_mps: Option<f64>,
    /// Degrees clockwise from north.
    #[schema(minimum = 0, maximum = 360)]
    pub(crate) heading_deg: Option<f64>,
    /// Metres, 0 or more.
    #[schema(minimum = 0)]
    pub(crate) accuracy_m: Option<f64>,
    /// Metres.
    pub(crate) altitude_m: Option<f64>,
    /// 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub(crate) battery: Option<f64>,
    /// The device's own counter, which tells apart points of the same instant.
    #[schema(minimum = 0)]
    pub(crate) seq: Option<u64>,
}

/// One item that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ItemError {
    /// Its place in the body, from 0.
    pub(crate) index: usize,
    /// The class of defect: `empty`, `malformed`, `missing_field`, `invalid_field`, `topic_mismatch` or
    /// `too_many_items`.
    #[schema(example = "invalid_field")]
    pub(crate) reason: &'static str,
    /// The field at fault and what to send instead.
    #[schema(example = "lat is 99; give a number from -90 to 90")]
    pub(crate) detail: String,
}

impl ItemError {
    /// Describes a defect of the item at `index`.
    pub(crate) fn new(index: usize, defect: Defect) -> Self {
        Self {
            index,
            reason: defect.reason.as_str(),
            detail: defect.detail,
        }
    }
}

/// Why a request was not answered with what it asked for (RFC 9457). The codes are listed in this
/// document's description and at `/docs`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Where the code is explained.
    #[schema(example = "/docs#order_unknown")]
    pub(crate) r#type: String,
    /// The code's meaning.
    pub(crate) title: String,
    /// The status again.
    #[schema(example = 404)]
    pub(crate) status: u16,
    /// The stable code for programs.
    #[schema(example = "order_unknown")]
    pub(crate) code: String,
    /// What is wrong with this request, and what to do.
    pub(crate) detail: Option<String>,
    /// The parameter at fault, with `invalid_parameter`.
    pub(crate) parameter: Option<String>,
    /// Items (or whole bodies) dead-lettered, with `items_invalid` and `invalid_body`.
    pub(crate) rejected: Option<usize>,
    /// The first 100 invalid items, with `items_invalid`.
    pub(crate) errors: Option<Vec<ItemError>>,
    /// The lake's tables, with `query_invalid`.
    pub(crate) tables: Option<Vec<String>>,
}

/// A query over the lake.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LakeQuery {
    /// One SQL query. Tables are `raw.…`, `treated.…` and `final.…`; `SHOW TABLES` lists them.
    #[schema(example = "SELECT count(*) AS n FROM raw.deliverer_location")]
    pub(crate) sql: String,
    /// `json` or `csv`; as `Accept` says unless given.
    pub(crate) format: Option<String>,
}

/// The answer to a query over the lake.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LakeAnswer {
    /// The columns.
    pub(crate) columns: Vec<LakeColumn>,
    /// The rows, each with a value for every column.
    #[schema(example = json!([[300]]))]
    pub(crate) rows: Vec<Vec<serde_json::Value>>,
    /// Whether there are more rows than the answer may have; the header `Lastmile-Truncated` says it, too.
    pub(crate) truncated: bool,
    /// Milliseconds the engine took.
    pub(crate) elapsed_ms: u64,
}

/// A column of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LakeColumn {
    /// Its name; names need not differ.
    #[schema(example = "n")]
    pub(crate) name: String,
    /// Its type: `string`, `long`, `double`, `timestamp`, `date`, `boolean` and others of SQL.
    #[schema(example = "long")]
    pub(crate) r#type: String,
}
