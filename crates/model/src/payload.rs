//! Splits a payload into its JSON items: one object, an array of objects, or NDJSON.

use serde_json::value::RawValue;

use crate::reject::{Defect, RejectReason};

/// Most items one message may hold; a longer one is rejected whole and should be split by its sender.
pub const MAX_ITEMS: usize = 10_000;

/// Splits a payload and hands each item, as JSON text, to `each`. The items are not yet parsed.
///
/// # Errors
/// A [`Defect`] when the payload is empty, is not JSON, or holds more than [`MAX_ITEMS`]. Nothing has
/// been handed out then: a payload is split whole or not at all.
pub fn split<'a>(payload: &'a [u8], mut each: impl FnMut(&'a str)) -> Result<(), Defect> {
    let text = std::str::from_utf8(payload)
        .map_err(|e| {
            Defect::new(
                RejectReason::Malformed,
                format!("the payload is not UTF-8: {e}"),
            )
        })?
        .trim_matches([' ', '\t', '\r', '\n']);
    if text.is_empty() {
        return Err(Defect::new(
            RejectReason::Empty,
            "the payload is empty; send one JSON object, an array, or one object per line",
        ));
    }
    let items: Vec<&'a RawValue> = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|e| malformed(&e))?
    } else {
        serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|e| malformed(&e))?
    };
    if items.len() > MAX_ITEMS {
        return Err(Defect::new(
            RejectReason::TooManyItems,
            format!(
                "the message holds {} items; send at most {MAX_ITEMS}",
                items.len()
            ),
        ));
    }
    for item in items {
        each(item.get());
    }
    Ok(())
}

/// Names a JSON fault by its place.
pub fn malformed(error: &serde_json::Error) -> Defect {
    Defect::new(RejectReason::Malformed, format!("not valid JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(payload: &str) -> Result<Vec<String>, RejectReason> {
        let mut items = Vec::new();
        split(payload.as_bytes(), |item| items.push(item.to_owned())).map_err(|d| d.reason)?;
        Ok(items)
    }

    #[test]
    fn all_three_shapes_split_into_their_items() {
        assert_eq!(items(r#" {"a":1} "#), Ok(vec![r#"{"a":1}"#.into()]));
        assert_eq!(
            items(r#"[{"a":1}, {"b":2}]"#),
            Ok(vec![r#"{"a":1}"#.into(), r#"{"b":2}"#.into()])
        );
        assert_eq!(
            items("{\"a\":1}\n\n{\"b\":2}\n"),
            Ok(vec![r#"{"a":1}"#.into(), r#"{"b":2}"#.into()])
        );
        assert_eq!(items("[]"), Ok(vec![]));
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(items(" \n"), Err(RejectReason::Empty));
        assert_eq!(items("{\"a\":1}\n{oops"), Err(RejectReason::Malformed));
        assert_eq!(
            items(&format!("[{}1]", "1,".repeat(MAX_ITEMS))),
            Err(RejectReason::TooManyItems)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut count = 0;
            if split(&bytes, |_| count += 1).is_err() {
                prop_assert_eq!(count, 0);
            }
        }
    }
}
