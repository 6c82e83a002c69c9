//! A page of positions in the form the client accepts.

use std::fmt::Write as _;

use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, LINK, VARY};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use model::{DelivererId, DeliveryState, OrderId, Position};
use serde::Serialize;
use store::Page;

/// A form of a list of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `{"data": […], "next_cursor": …}`.
    Json,
    /// One JSON object per line.
    NdJson,
    /// A header and one line per position.
    Csv,
    /// A feature collection of points (RFC 7946).
    GeoJson,
}

impl Format {
    /// Returns the first form that the client's `Accept` names; JSON when it names none of ours.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let sent = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        for item in sent.unwrap_or_default().split(',') {
            let media_type = item.split(';').next().unwrap_or_default().trim();
            match media_type.to_ascii_lowercase().as_str() {
                "application/json" | "*/*" | "application/*" => return Self::Json,
                "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                    return Self::NdJson;
                }
                "text/csv" => return Self::Csv,
                "application/geo+json" => return Self::GeoJson,
                _ => {}
            }
        }
        Self::Json
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::GeoJson => "application/geo+json",
        }
    }
}

/// Answers with a page in the given form, and a link to the next one.
pub(crate) fn positions(page: &Page<Position>, format: Format, uri: &Uri) -> Response {
    let body = match format {
        Format::Json => json(&List::of(page)),
        Format::NdJson => ndjson(&page.items),
        Format::Csv => csv(&page.items),
        Format::GeoJson => json(&geojson(&page.items)),
    };
    let mut response = bytes(body, format.content_type());
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept"));
    if let Some(cursor) = &page.next_cursor
        && let Ok(link) = HeaderValue::from_str(&next_link(uri, cursor))
    {
        headers.insert(LINK, link);
    }
    response
}

/// Answers with a list as JSON.
pub(crate) fn list<T: Serialize>(data: &[T], next_cursor: Option<&str>) -> Response {
    bytes(json(&List { data, next_cursor }), "application/json")
}

#[derive(Serialize)]
struct List<'a, T> {
    data: &'a [T],
    next_cursor: Option<&'a str>,
}

impl<'a, T> List<'a, T> {
    fn of(page: &'a Page<T>) -> Self {
        Self {
            data: &page.items,
            next_cursor: page.next_cursor.as_deref(),
        }
    }
}

fn bytes(body: Vec<u8>, content_type: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Bytes::from(body)).into_response()
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("text keys and finite numbers are always JSON")
}

fn ndjson(positions: &[Position]) -> Vec<u8> {
    let mut out = Vec::with_capacity(positions.len() * 400);
    for position in positions {
        serde_json::to_writer(&mut out, position)
            .expect("a position is JSON and a Vec takes any bytes");
        out.push(b'\n');
    }
    out
}

/// Columns of the CSV form, the names of the JSON fields.
const COLUMNS: &str = "order_id,deliverer_id,delivery_state,event_time,received_time,lat,lon,\
    speed_mps,heading_deg,accuracy_m,altitude_m,battery,seq,source\r\n";

/// Writes CSV as RFC 4180 has it: CRLF, quotes doubled, absent values empty.
fn csv(positions: &[Position]) -> Vec<u8> {
    let mut out = String::with_capacity(COLUMNS.len() + positions.len() * 160);
    out.push_str(COLUMNS);
    for position in positions {
        quoted(&mut out, position.order_id.as_ref().map(OrderId::as_str));
        quoted(&mut out, Some(DelivererId::as_str(&position.deliverer_id)));
        let state = position.delivery_state.as_ref().map(DeliveryState::as_str);
        quoted(&mut out, state);
        plain(&mut out, Some(position.event_time));
        plain(&mut out, Some(position.received_time));
        plain(&mut out, Some(position.lat.degrees()));
        plain(&mut out, Some(position.lon.degrees()));
        plain(&mut out, position.speed_mps);
        plain(&mut out, position.heading_deg);
        plain(&mut out, position.accuracy_m);
        plain(&mut out, position.altitude_m);
        plain(&mut out, position.battery);
        plain(&mut out, position.seq);
        out.push_str(position.source.as_str());
        out.push_str("\r\n");
    }
    out.into_bytes()
}

fn quoted(out: &mut String, text: Option<&str>) {
    let text = text.unwrap_or_default();
    if text.contains([',', '"', '\r', '\n']) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
    out.push(',');
}

fn plain<T: std::fmt::Display>(out: &mut String, value: Option<T>) {
    if let Some(value) = value {
        write!(out, "{value}").expect("writing to a String cannot fail");
    }
    out.push(',');
}

#[derive(Serialize)]
struct Collection<'a> {
    r#type: &'static str,
    features: Vec<Feature<'a>>,
}

#[derive(Serialize)]
struct Feature<'a> {
    r#type: &'static str,
    geometry: Point,
    properties: &'a Position,
}

#[derive(Serialize)]
struct Point {
    r#type: &'static str,
    /// Longitude first.
    coordinates: [f64; 2],
}

fn geojson(positions: &[Position]) -> Collection<'_> {
    fn feature(position: &Position) -> Feature<'_> {
        Feature {
            r#type: "Feature",
            geometry: Point {
                r#type: "Point",
                coordinates: [position.lon.degrees(), position.lat.degrees()],
            },
            properties: position,
        }
    }
    Collection {
        r#type: "FeatureCollection",
        features: positions.iter().map(feature).collect(),
    }
}

/// Returns the `Link` header's value for the page that begins at `cursor`.
fn next_link(uri: &Uri, cursor: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let given = uri.query().unwrap_or_default();
    for (name, value) in form_urlencoded::parse(given.as_bytes()) {
        if name != "cursor" {
            query.append_pair(&name, &value);
        }
    }
    query.append_pair("cursor", cursor);
    format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish())
}

#[cfg(test)]
mod tests {
    use model::UtcMicros;

    use super::*;

    fn page() -> Page<Position> {
        let item = r#"{"order_id":"a,\"b\"","deliverer_id":"Zoë","event_time":1.5,"lat":52.5,"lon":4.25,"seq":3}"#;
        let received = UtcMicros::new(2_000_000).unwrap();
        Page {
            items: vec![model::native::parse(item, None, received).unwrap()],
            next_cursor: Some("c&d".to_owned()),
        }
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let text = String::from_utf8(csv(&page().items)).unwrap();
        let expected = "\"a,\"\"b\"\"\",Zoë,,1970-01-01T00:00:01.500Z,1970-01-01T00:00:02.000Z,52.5,4.25,,,,,,3,native\r\n";
        assert_eq!(text, format!("{COLUMNS}{expected}"));
        let fields = serde_json::to_value(&page().items[0]).unwrap();
        for column in COLUMNS.trim_end().split(',') {
            assert!(fields.get(column).is_some(), "{column}");
        }
    }

    #[test]
    fn geojson_has_longitude_first() {
        let value = serde_json::to_value(geojson(&page().items)).unwrap();
        assert_eq!(value["type"], "FeatureCollection");
        let coordinates = &value["features"][0]["geometry"]["coordinates"];
        assert_eq!(*coordinates, serde_json::json!([4.25, 52.5]));
        assert_eq!(value["features"][0]["properties"]["seq"], 3);
    }

    #[test]
    fn the_next_page_keeps_the_question() {
        let uri = "/x%2Fy?limit=5&cursor=old".parse().unwrap();
        assert_eq!(
            next_link(&uri, "c&d"),
            "</x%2Fy?limit=5&cursor=c%26d>; rel=\"next\""
        );
    }

    #[test]
    fn the_first_form_known_is_taken() {
        let format = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            Format::accepted(&headers)
        };
        assert_eq!(format("text/html, TEXT/csv;q=0.9"), Format::Csv);
        assert_eq!(format("application/geo+json"), Format::GeoJson);
        assert_eq!(format("application/x-ndjson"), Format::NdJson);
        assert_eq!(format("text/html,*/*"), Format::Json);
        assert_eq!(format("image/png"), Format::Json);
    }
}
