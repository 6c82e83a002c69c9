//! Functions that models may use and that DataFusion lacks, under the names and with the meaning Spark has for them.
//!
//! | function | answers |
//! |---|---|
//! | `get_json_object(text, '$.a.b')` | what stands there in a JSON document, as text; `NULL` when nothing or `null` does |
//! | `try_to_timestamp(text)` | the instant a text names, UTC where it names no offset; `NULL` when it names none |
//! | `timestamp_micros(number)` | the instant that many microseconds after 1970 |
//! | `unix_micros(instant)` | its inverse |
//! | `h3_longlatash3string(lon, lat, resolution)` | the H3 cell of a place, in hexadecimal |
//!
//! Spark has the first four itself; the last is of Databricks, and elsewhere a function of that name has to be
//! registered. Not done here: paths with `[`, `*` or quotes.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, AsArray, Float64Array, StringArray, TimestampMicrosecondArray};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use h3o::{LatLng, Resolution};
use lake::entity::{UTC, instant};
use serde_json::Value;

/// Makes the functions known to a session.
pub(crate) fn register(context: &SessionContext) {
    use DataType::{Float64, Int64, Utf8};
    context.register_udf(udf("get_json_object", &[Utf8, Utf8], Utf8, get_json_object));
    context.register_udf(udf(
        "try_to_timestamp",
        &[Utf8],
        instant(),
        try_to_timestamp,
    ));
    context.register_udf(udf("timestamp_micros", &[Int64], instant(), |args| {
        Ok(timestamp_micros(args))
    }));
    context.register_udf(udf("unix_micros", &[instant()], Int64, |args| {
        Ok(unix_micros(args))
    }));
    let of_place = [Float64, Float64, Int64];
    context.register_udf(udf("h3_longlatash3string", &of_place, Utf8, h3_cell));
}

fn udf(
    name: &str,
    takes: &[DataType],
    gives: DataType,
    compute: fn(&[ArrayRef]) -> Result<ArrayRef>,
) -> ScalarUDF {
    let whole = move |args: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let result = compute(&arrays)?;
        // Constants stay constants, or a single row would stand for all.
        if args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_))) {
            let value = ScalarValue::try_from_array(&result, 0)?;
            return Ok(ColumnarValue::Scalar(value));
        }
        Ok(ColumnarValue::Array(result))
    };
    let immutable = Volatility::Immutable;
    create_udf(name, takes.to_vec(), gives, immutable, Arc::new(whole))
}

fn get_json_object(args: &[ArrayRef]) -> Result<ArrayRef> {
    let texts = args[0].as_string::<i32>().iter();
    let paths = args[1].as_string::<i32>().iter();
    let found = texts.zip(paths).map(|(text, path)| match (text, path) {
        (Some(text), Some(path)) => find(text, path),
        _ => Ok(None),
    });
    Ok(Arc::new(found.collect::<Result<StringArray>>()?))
}

fn find(text: &str, path: &str) -> Result<Option<String>> {
    let Some(steps) = path.strip_prefix("$.") else {
        return exec_err!("get_json_object takes a path like $.a.b, not {path:?}");
    };
    let Ok(document) = serde_json::from_str::<Value>(text) else {
        return Ok(None);
    };
    let mut value = Some(&document);
    for step in steps.split('.') {
        value = value.and_then(|value| value.get(step));
    }
    Ok(match value {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    })
}

fn try_to_timestamp(args: &[ArrayRef]) -> Result<ArrayRef> {
    let utc: Tz = UTC.parse()?;
    let texts = args[0].as_string::<i32>().iter();
    let read = |text: &str| string_to_datetime(&utc, text.trim()).ok();
    let instants = texts.map(|text| Some(read(text?)?.timestamp_micros()));
    let instants: TimestampMicrosecondArray = instants.collect();
    Ok(Arc::new(instants.with_timezone(UTC)))
}

fn timestamp_micros(args: &[ArrayRef]) -> ArrayRef {
    let numbers = args[0].as_primitive::<Int64Type>();
    let instants: TimestampMicrosecondArray = numbers.reinterpret_cast();
    Arc::new(instants.with_timezone(UTC))
}

fn unix_micros(args: &[ArrayRef]) -> ArrayRef {
    let instants = args[0].as_primitive::<TimestampMicrosecondType>();
    Arc::new(instants.reinterpret_cast::<Int64Type>())
}

fn h3_cell(args: &[ArrayRef]) -> Result<ArrayRef> {
    let lon: &Float64Array = args[0].as_primitive::<Float64Type>();
    let lat: &Float64Array = args[1].as_primitive::<Float64Type>();
    let resolutions = args[2].as_primitive::<Int64Type>().iter();
    let places = lon.iter().zip(lat.iter()).zip(resolutions);
    let cells = places.map(|((lon, lat), resolution)| match (lon, lat, resolution) {
        (Some(lon), Some(lat), Some(resolution)) => cell(lon, lat, resolution).map(Some),
        _ => Ok(None),
    });
    Ok(Arc::new(cells.collect::<Result<StringArray>>()?))
}

fn cell(lon: f64, lat: f64, resolution: i64) -> Result<String> {
    let number = u8::try_from(resolution)
        .ok()
        .and_then(|number| Resolution::try_from(number).ok());
    let Some(resolution) = number else {
        return exec_err!("H3 resolution {resolution} must be between 0 and 15");
    };
    let place = LatLng::new(lat, lon).map_err(|e| DataFusionError::External(e.into()))?;
    Ok(place.to_cell(resolution).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(expression: &str) -> String {
        let context = SessionContext::new();
        register(&context);
        let frame = context.sql(&format!("SELECT {expression}")).await.unwrap();
        let batches = frame.collect().await.unwrap();
        let value = ScalarValue::try_from_array(batches[0].column(0), 0).unwrap();
        value.to_string()
    }

    #[tokio::test]
    async fn json_is_read_by_path() {
        for (path, found) in [
            ("$.a", r#"{"b":[1,"x"],"c":null,"d":52.25}"#),
            ("$.a.d", "52.25"),
            ("$.a.c", "NULL"),
            ("$.a.x", "NULL"),
            ("$.t", "2026"),
            ("$.t.x", "NULL"),
        ] {
            let json = r#"{"a": {"b": [1, "x"], "c": null, "d": 52.25}, "t": "2026"}"#;
            let sql = format!("get_json_object('{json}', '{path}')");
            assert_eq!(answer(&sql).await, found, "{path}");
        }
        assert_eq!(answer("get_json_object('{', '$.a')").await, "NULL");
        assert!(find("{}", "a").is_err());
    }

    #[tokio::test]
    async fn instants_are_read_and_counted() {
        for (text, micros) in [
            ("2019-06-01T18:17:04.079Z", "1559413024079000"),
            ("2019-06-01T20:17:04.079+02:00", "1559413024079000"),
            ("2019-06-01T18:17:04", "1559413024000000"),
            ("9999-12-31T23:59:59Z", "253402300799000000"),
            ("1969-12-31T23:59:59Z", "-1000000"),
            ("soon", "NULL"),
        ] {
            let sql = format!("unix_micros(try_to_timestamp('{text}'))");
            assert_eq!(answer(&sql).await, micros, "{text}");
        }
        let there_and_back = "unix_micros(timestamp_micros(1559413024079000))";
        assert_eq!(answer(there_and_back).await, "1559413024079000");
    }

    #[tokio::test]
    async fn cells_are_those_of_the_published_examples() {
        let cell = |sql: &'static str| answer(sql);
        assert_eq!(
            cell("h3_longlatash3string(100, 45, 6)").await,
            "86240610fffffff"
        );
        let bridge = "h3_longlatash3string(-122.4783, 37.8199, 13)";
        assert_eq!(cell(bridge).await, "8d283087022a93f");
        assert!(super::cell(0.0, 0.0, 16).is_err());
    }
}
