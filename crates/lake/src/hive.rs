//! Names in the lake: Hive partition folders, file names, and percent escapes.
//!
//! Invariant: every name made here can be read back to what it was made from, so two partitions or two
//! windows never share a name. It knows nothing of tables.

use std::fmt::Write as _;

/// The folder name for an absent value, as Hive and Spark have it.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Characters Hive and Spark escape in partition folders, beside control characters.
const HIVE_ESCAPED: &str = "\"#%'*/:=?\\{[]^";

/// Returns the folder `name=value` of a partition.
pub fn folder(name: &str, value: Option<&str>) -> String {
    let mut out = format!("{name}=");
    match value {
        None => out.push_str(NULL),
        Some(value) => {
            for byte_or_char in value.chars() {
                if byte_or_char.is_ascii_control() || HIVE_ESCAPED.contains(byte_or_char) {
                    push_escaped(&mut out, &[byte_or_char as u8]);
                } else {
                    out.push(byte_or_char);
                }
            }
        }
    }
    out
}

/// Reads a folder made by [`folder`]: name and value.
pub fn parse_folder(folder: &str) -> Option<(&str, Option<String>)> {
    let (name, value) = folder.split_once('=')?;
    if value == NULL {
        return Some((name, None));
    }
    Some((name, Some(percent_decode(value)?)))
}

/// Escapes a path for a Delta log, where paths are URL-encoded (RFC 3986): `/` and `=` stay.
pub fn percent_encode_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for &byte in path.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            push_escaped(&mut out, &[byte]);
        }
    }
    out
}

/// Undoes percent escapes; `None` when one is cut off or the result is not UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// The rows of one file in raw: those of `writer_id` with `after < writer_seq <= to`, in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartName {
    /// The writer.
    pub writer_id: String,
    /// Sequence before the first.
    pub after: u64,
    /// Last sequence.
    pub to: u64,
}

impl PartName {
    /// Returns the file name, `part-<writer>-<after>-<to>.parquet`.
    ///
    /// Bytes of the writer's id other than letters, digits, `-` and `_` are written `~XX`, so that no
    /// reader has to unescape anything.
    pub fn file_name(&self) -> String {
        let mut out = String::from("part-");
        for &byte in self.writer_id.as_bytes() {
            if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
                out.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                write!(out, "~{byte:02X}").unwrap_or_default();
            }
        }
        write!(out, "-{}-{}.parquet", self.after, self.to).unwrap_or_default();
        out
    }

    /// Reads a path or file name made by [`PartName::file_name`].
    pub fn parse(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next()?;
        let name = name.strip_prefix("part-")?.strip_suffix(".parquet")?;
        let mut pieces = name.rsplitn(3, '-');
        let to = pieces.next()?.parse().ok()?;
        let after = pieces.next()?.parse().ok()?;
        let writer_id = percent_decode(&pieces.next()?.replace('~', "%"))?;
        Some(Self {
            writer_id,
            after,
            to,
        })
    }
}

fn push_escaped(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(out, "%{byte:02X}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_other_engines_expect() {
        assert_eq!(
            folder("event_date", Some("2019-06-01")),
            "event_date=2019-06-01"
        );
        assert_eq!(folder("event", Some("a/b=c%")), "event=a%2Fb%3Dc%25");
        assert_eq!(folder("event", None), "event=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(percent_encode_path("a=b%2F c"), "a=b%252F%20c");
        let part = PartName {
            writer_id: "w.1".into(),
            after: 0,
            to: 12,
        };
        assert_eq!(part.file_name(), "part-w~2E1-0-12.parquet");
    }

    proptest! {
        #[test]
        fn partition_folders_round_trip(value in proptest::option::of(".{0,40}")) {
            prop_assume!(value.as_deref() != Some(NULL));
            let folder = folder("p", value.as_deref());
            prop_assert!(!folder.contains('/'));
            prop_assert_eq!(parse_folder(&folder), Some(("p", value)));
        }

        #[test]
        fn log_paths_round_trip(path in ".{0,60}") {
            let encoded = percent_encode_path(&path);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(percent_decode(&encoded), Some(path));
        }

        #[test]
        fn file_names_round_trip(writer_id in ".{0,40}", after: u64, to: u64) {
            let part = PartName { writer_id, after, to };
            let name = part.file_name();
            prop_assert_eq!(percent_encode_path(&name), name.clone());
            prop_assert_eq!(PartName::parse(&format!("d=1/{name}")), Some(part));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}") {
            drop((PartName::parse(&text), parse_folder(&text), percent_decode(&text)));
        }
    }
}
