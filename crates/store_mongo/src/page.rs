//! Pages: their sizes, and cursors that cannot be taken for another query's.
//!
//! A cursor is `letter-owner-place`: the kind of query, a hash of whose rows were asked for, and the place after
//! which the next page begins, in hexadecimal. It is checked, not secret.

use std::fmt::Write as _;

use model::content_hash::ContentHash;
use store::ErrorKind;

use crate::error::{Failure, Outcome};

/// Most items a page holds, whatever was asked for; a page is built in memory.
const MAX_PAGE: usize = 100_000;

/// Returns how many items a page holds.
pub(crate) fn limit(asked: usize) -> usize {
    asked.clamp(1, MAX_PAGE)
}

/// Returns how many rows to read for a page, one more than it holds.
pub(crate) fn rows_to_read(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

/// Says that a page's cursor is none of ours.
pub(crate) fn foreign_cursor() -> Failure {
    Failure::new(
        ErrorKind::Invalid,
        "the cursor is not one this query returned; give `next_cursor` of its last page unchanged",
    )
}

fn owner_hash(owner: &str) -> String {
    format!(
        "{:016x}",
        ContentHash::default().chain(owner.as_bytes()).finish()
    )
}

/// Makes a cursor.
pub(crate) fn cursor(letter: char, owner: &str, place: &str) -> String {
    let mut out = format!("{letter}-{}-", owner_hash(owner));
    for byte in place.bytes() {
        // Writing to a String cannot fail.
        write!(out, "{byte:02x}").unwrap_or_default();
    }
    out
}

/// Reads the place out of a cursor of this kind and owner.
pub(crate) fn read_cursor(
    letter: char,
    owner: &str,
    cursor: Option<&str>,
) -> Outcome<Option<String>> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let mut parts = cursor.splitn(3, '-');
    let is_ours = parts.next().is_some_and(|kind| kind.chars().eq([letter]))
        && parts.next() == Some(&owner_hash(owner));
    let digits = parts
        .next()
        .filter(|_| is_ours)
        .ok_or_else(foreign_cursor)?;
    let place = from_hex(digits).ok_or_else(foreign_cursor)?;
    Ok(Some(place))
}

fn from_hex(digits: &str) -> Option<String> {
    let bytes = digits.as_bytes();
    if bytes.is_empty() || !bytes.len().is_multiple_of(2) {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    let place: Option<Vec<u8>> = bytes
        .chunks(2)
        .map(|pair| u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok())
        .collect();
    String::from_utf8(place?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_by_its_own_query_only() {
        let made = cursor('h', "order:o", "000\u{1f}d");
        let read =
            |letter, owner, text: &str| read_cursor(letter, owner, Some(text)).ok().flatten();
        assert_eq!(read('h', "order:o", &made).as_deref(), Some("000\u{1f}d"));
        assert_eq!(read('e', "order:o", &made), None);
        assert_eq!(read('h', "order:p", &made), None);
        for wrong in [
            "",
            "h",
            "h-",
            "h--",
            "h-x-00",
            "\u{1f6b2}",
            made.strip_suffix(|_: char| true).unwrap(),
        ] {
            assert!(
                read_cursor('h', "order:o", Some(wrong)).is_err(),
                "{wrong:?}"
            );
        }
    }
}
