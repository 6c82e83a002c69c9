//! The `_id`s of rows, and what decides which of two positions is the last.
//!
//! A position's `_id` is its identity as text, `order US time US deliverer US discriminator`, where US is the
//! control character U+001F, which no id can hold. Time and discriminator have a fixed width and sort as
//! text the way they sort as numbers, and US sorts before every character an id may hold. So the positions of
//! one order lie next to one another, oldest first, and are found by a range of `_id`. An absent order is the
//! empty text, which is no order's id: different identities have different `_id`s.

use std::fmt::Write as _;

use model::{FleetEvent, Position, RecencyKey, Reject, UtcMicros};

/// Between the parts of an `_id`.
pub(crate) const SEPARATOR: char = '\u{1f}';
/// What follows [`SEPARATOR`]; no id holds it either.
const AFTER_SEPARATOR: char = '\u{20}';
/// Hexadecimal digits of an instant: the year 9999 is below 16^15 microseconds.
const TIME_DIGITS: usize = 15;

fn push_time(out: &mut String, time: UtcMicros) {
    push_hex::<TIME_DIGITS>(out, time.as_micros().cast_unsigned());
}

/// Appends so that text order is the order of the signed numbers.
fn push_discriminator(out: &mut String, discriminator: i64) {
    push_hex::<16>(out, discriminator.cast_unsigned() ^ (1 << 63));
}

fn push_hex<const DIGITS: usize>(out: &mut String, mut value: u64) {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
    out.extend(digits.iter().copied().map(char::from));
}

/// Returns the `_id` of a position.
pub(crate) fn position(position: &Position) -> String {
    let order = position.order_id.as_ref().map_or("", |id| id.as_str());
    let deliverer = position.deliverer_id.as_str();
    let mut out = String::with_capacity(order.len() + deliverer.len() + 34);
    out.push_str(order);
    out.push(SEPARATOR);
    push_time(&mut out, position.event_time);
    out.push(SEPARATOR);
    out.push_str(deliverer);
    out.push(SEPARATOR);
    push_discriminator(&mut out, position.discriminator());
    out
}

/// Returns the first `_id` a position of this order at or after `from` can have.
pub(crate) fn order_from(order_id: &str, from: Option<UtcMicros>) -> String {
    let mut out = format!("{order_id}{SEPARATOR}");
    if let Some(from) = from {
        push_time(&mut out, from);
    }
    out
}

/// Returns a text after every `_id` of this order before `to`, and before every one at or after it.
pub(crate) fn order_to(order_id: &str, to: Option<UtcMicros>) -> String {
    match to {
        Some(_) => order_from(order_id, to),
        None => format!("{order_id}{AFTER_SEPARATOR}"),
    }
}

/// Reads the event time out of a position's `_id`.
pub(crate) fn event_time(id: &str) -> Option<UtcMicros> {
    let digits = id.split(SEPARATOR).nth(1)?;
    UtcMicros::new(i64::from_str_radix(digits, 16).ok()?)
}

/// Returns a recency as text that sorts the same way.
pub(crate) fn recency((event_time, discriminator): RecencyKey) -> String {
    let mut out = String::with_capacity(TIME_DIGITS + 16);
    push_time(&mut out, event_time);
    push_discriminator(&mut out, discriminator);
    out
}

/// Appends text of any characters so that it holds no [`SEPARATOR`] and can be read in one way only.
fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            SEPARATOR => out.push_str("\u{1e}1"),
            '\u{1e}' => out.push_str("\u{1e}0"),
            c => out.push(c),
        }
    }
    out.push(SEPARATOR);
}

/// Returns the `_id` of a fleet event.
pub(crate) fn fleet_event(event: &FleetEvent) -> String {
    let mut out = String::with_capacity(96);
    push_escaped(&mut out, &event.organization_id);
    push_escaped(&mut out, event.on.as_str());
    push_escaped(&mut out, &event.entity_id);
    push_time(&mut out, event.at);
    out.push(SEPARATOR);
    push_escaped(&mut out, event.event.as_str());
    push_discriminator(&mut out, event.discriminator());
    out
}

/// Returns the `_id` of a dead letter: its place in the log, or without one only topic and bytes, hashed.
pub(crate) fn reject(reject: &Reject) -> String {
    let mut out = String::with_capacity(32);
    for half in reject.identity() {
        push_hex::<16>(&mut out, half);
    }
    out
}

/// Returns where a row stands in the order stored: by the server's clock, then by writer.
///
/// `micros` ascend strictly within a writer, and the writer's number is its own, so no two rows share one.
pub(crate) fn stored(micros: i64, writer_number: i64) -> String {
    let mut out = String::with_capacity(TIME_DIGITS + 8);
    push_hex::<TIME_DIGITS>(&mut out, micros.cast_unsigned());
    // Writing to a String cannot fail.
    write!(out, "-{writer_number}").unwrap_or_default();
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use store::conformance::build::{Chance, at};

    use super::*;

    const ORDERS: [&str; 6] = ["a", "ab", "a b", "\u{e9}", "a.b", "$$ROOT"];

    proptest! {
        #[test]
        fn a_positions_id_is_injective_and_sorts_by_order_time_deliverer_and_discriminator(seed: u64) {
            let mut chance = Chance::new(seed);
            let mut all: Vec<_> = (0..40)
                .map(|_| {
                    let mut one = chance.position(&ORDERS, &["d", "de", "\u{1f6b2}"]);
                    one.event_time = at(i64::try_from(chance.below(3)).unwrap());
                    one
                })
                .collect();
            let identity = |p: &Position| {
                let order = p.order_id.as_ref().map_or(String::new(), ToString::to_string);
                (order, p.event_time, p.deliverer_id.to_string(), p.discriminator())
            };
            all.sort_by_key(identity);
            prop_assert!(all.is_sorted_by_key(position));
            let mut known = BTreeMap::new();
            for one in &all {
                let before = known.insert(position(one), identity(one));
                prop_assert!(before.is_none_or(|before| before == identity(one)));
                prop_assert_eq!(event_time(&position(one)), Some(one.event_time));
            }
        }

        #[test]
        fn the_range_of_an_order_holds_its_positions_and_no_others(seed: u64) {
            let mut chance = Chance::new(seed);
            let one = chance.position(&ORDERS, &["d"]);
            let id = position(&one);
            for order in ORDERS {
                let of = one.order_id.as_ref().is_some_and(|own| own.as_str() == order);
                let bound = at(30_000_000);
                let holds = |from, to| order_from(order, from) <= id && id < order_to(order, to);
                prop_assert_eq!(holds(None, None), of);
                prop_assert_eq!(holds(Some(bound), None), of && one.event_time >= bound);
                prop_assert_eq!(holds(None, Some(bound)), of && one.event_time < bound);
            }
        }

        #[test]
        fn recency_sorts_as_text(a: (u32, i64), b: (u32, i64)) {
            let key = |(time, discriminator): (u32, i64)| (at(i64::from(time % 3)), discriminator);
            prop_assert_eq!(recency(key(a)).cmp(&recency(key(b))), key(a).cmp(&key(b)));
        }

        #[test]
        fn parts_of_any_text_stay_apart(a in "[\u{1e}\u{1f}ab01]{0,4}", b in "[\u{1e}\u{1f}ab01]{0,4}",
                c in "[\u{1e}\u{1f}ab01]{0,4}", d in "[\u{1e}\u{1f}ab01]{0,4}") {
            let joined = |first: &str, second: &str| {
                let mut out = String::new();
                push_escaped(&mut out, first);
                push_escaped(&mut out, second);
                out
            };
            prop_assert_eq!(joined(&a, &b) == joined(&c, &d), (a, b) == (c, d));
        }
    }
}
