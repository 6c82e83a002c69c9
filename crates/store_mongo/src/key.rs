//! The `_id`s of rows, and what decides which of two positions is the last.
//!
//! A position's `_id` is its identity as text, `order US time US deliverer US discriminator`, or, where it has no
//! order, `US deliverer US time US discriminator`. US is the control character U+001F, which no id can hold. Time
//! and discriminator have a fixed width and sort as text the way they sort as numbers, and US sorts before every
//! character an id may hold. So the positions of one order lie next to one another, oldest first, and are found
//! by a range of `_id`; so do those a deliverer reported without an order. No order's id is empty: an `_id`
//! that begins with US has none, and different identities have different `_id`s.
//!
//! What deliverers carried is kept as `deliverer US hour US order US day`: hour of the event, day of the receipt.

use std::fmt::Write as _;

use model::{FleetEvent, OrderId, Position, RecencyKey, Reject, UtcMicros};

/// Between the parts of an `_id`.
pub(crate) const SEPARATOR: char = '\u{1f}';
/// What follows [`SEPARATOR`]; no id holds it either.
const AFTER_SEPARATOR: char = '\u{20}';
/// Hexadecimal digits of an instant: the year 9999 is below 16^15 microseconds.
const TIME_DIGITS: usize = 15;
/// Hexadecimal digits of an hour or a day since 1970; the year 9999 is below 16^7 hours.
const HOUR_DIGITS: usize = 7;
/// Microseconds of an hour.
pub(crate) const HOUR_US: i64 = 3_600_000_000;
/// Microseconds of a day.
pub(crate) const DAY_US: i64 = 24 * HOUR_US;

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
    let order = position.order_id.as_ref().map_or("", OrderId::as_str);
    let deliverer = position.deliverer_id.as_str();
    let mut out = String::with_capacity(order.len() + deliverer.len() + 34);
    out.push_str(order);
    out.push(SEPARATOR);
    if order.is_empty() {
        out.push_str(deliverer);
        out.push(SEPARATOR);
    }
    push_time(&mut out, position.event_time);
    out.push(SEPARATOR);
    if !order.is_empty() {
        out.push_str(deliverer);
        out.push(SEPARATOR);
    }
    push_discriminator(&mut out, position.discriminator());
    out
}

/// Returns what the `_id`s of a deliverer's positions without an order begin with: to be given, as an order's
/// id is, to [`track_from`] and [`track_to`].
pub(crate) fn without_order(deliverer: &str) -> String {
    format!("{SEPARATOR}{deliverer}")
}

/// Returns the first `_id` a position of this track at or after `from` can have. A track is an order, or what
/// [`without_order`] returns.
pub(crate) fn track_from(track: &str, from: Option<UtcMicros>) -> String {
    let mut out = format!("{track}{SEPARATOR}");
    if let Some(from) = from {
        push_time(&mut out, from);
    }
    out
}

/// Returns a text after every `_id` of this track before `to`, and before every one at or after it.
pub(crate) fn track_to(track: &str, to: Option<UtcMicros>) -> String {
    match to {
        Some(_) => track_from(track, to),
        None => format!("{track}{AFTER_SEPARATOR}"),
    }
}

/// Reads the event time out of a position's `_id`.
pub(crate) fn event_time(id: &str) -> Option<UtcMicros> {
    let (order, rest) = id.split_once(SEPARATOR)?;
    let digits = rest.split(SEPARATOR).nth(usize::from(order.is_empty()))?;
    UtcMicros::new(i64::from_str_radix(digits, 16).ok()?)
}

/// That a deliverer carried an order: in which hour, by a position received on which day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried<'a> {
    deliverer: &'a str,
    hour: i64,
    order: &'a str,
    day: i64,
}

impl<'a> Carried<'a> {
    /// Reads it off a position; `None` when that has no order.
    pub(crate) fn of(position: &'a Position) -> Option<Self> {
        Some(Self {
            deliverer: position.deliverer_id.as_str(),
            hour: position.event_time.as_micros() / HOUR_US,
            order: position.order_id.as_ref()?.as_str(),
            day: position.received_time.as_micros() / DAY_US,
        })
    }

    /// Returns the instant after the day of the receipt.
    pub(crate) fn received_before(&self) -> UtcMicros {
        UtcMicros::default().saturating_add_micros((self.day + 1) * DAY_US)
    }

    /// Returns its `_id`.
    pub(crate) fn id(&self) -> String {
        let mut out = String::with_capacity(self.deliverer.len() + self.order.len() + 17);
        out.push_str(self.deliverer);
        out.push(SEPARATOR);
        push_hex::<HOUR_DIGITS>(&mut out, self.hour.cast_unsigned());
        out.push(SEPARATOR);
        out.push_str(self.order);
        out.push(SEPARATOR);
        push_hex::<HOUR_DIGITS>(&mut out, self.day.cast_unsigned());
        out
    }

    /// Returns a text before every `_id` of this deliverer in the hour of `from` or later, and after the others.
    pub(crate) fn from(deliverer: &str, from: UtcMicros) -> String {
        let mut out = format!("{deliverer}{SEPARATOR}");
        push_hex::<HOUR_DIGITS>(&mut out, (from.as_micros() / HOUR_US).cast_unsigned());
        out
    }

    /// Returns a text after every `_id` of this deliverer in an hour that begins before `to`.
    pub(crate) fn to(deliverer: &str, to: Option<UtcMicros>) -> String {
        match to {
            Some(to) => {
                let mut out = Self::from(deliverer, to.saturating_add_micros(-1));
                out.push(AFTER_SEPARATOR);
                out
            }
            None => format!("{deliverer}{AFTER_SEPARATOR}"),
        }
    }

    /// Reads the beginning of the hour and the order out of an `_id`.
    pub(crate) fn read(id: &str) -> Option<(UtcMicros, &str)> {
        let mut parts = id.split(SEPARATOR).skip(1);
        let hour = i64::from_str_radix(parts.next()?, 16).ok()?;
        let begins = UtcMicros::new(hour.checked_mul(HOUR_US)?)?;
        Some((begins, parts.next()?))
    }
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
    const DELIVERERS: [&str; 4] = ["d", "de", "d e", "\u{1f6b2}"];

    proptest! {
        #[test]
        fn a_positions_id_is_injective_and_sorts_by_track_time_deliverer_and_discriminator(seed: u64) {
            let mut chance = Chance::new(seed);
            let mut all: Vec<_> = (0..40)
                .map(|_| {
                    let mut one = chance.position(&ORDERS, &DELIVERERS);
                    one.event_time = at(i64::try_from(chance.below(3)).unwrap());
                    one
                })
                .collect();
            let identity = |p: &Position| {
                let alone = without_order(p.deliverer_id.as_str());
                let track = p.order_id.as_ref().map_or(alone, ToString::to_string);
                (track, p.event_time, p.deliverer_id.to_string(), p.discriminator())
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
        fn the_range_of_a_track_holds_its_positions_and_no_others(seed: u64) {
            let mut chance = Chance::new(seed);
            let one = chance.position(&ORDERS, &DELIVERERS);
            let id = position(&one);
            let own = match &one.order_id {
                Some(order) => order.to_string(),
                None => without_order(one.deliverer_id.as_str()),
            };
            let alone = DELIVERERS.map(without_order);
            for track in ORDERS.into_iter().chain(alone.iter().map(String::as_str)) {
                let of = own == track;
                let bound = at(30_000_000);
                let holds = |from, to| track_from(track, from) <= id && id < track_to(track, to);
                prop_assert_eq!(holds(None, None), of);
                prop_assert_eq!(holds(Some(bound), None), of && one.event_time >= bound);
                prop_assert_eq!(holds(None, Some(bound)), of && one.event_time < bound);
            }
        }

        #[test]
        fn what_was_carried_is_found_by_deliverer_and_hour(seed: u64, hour in 0_i64..4, to in 0_i64..4) {
            let mut chance = Chance::new(seed);
            let mut one = chance.position(&ORDERS, &DELIVERERS);
            one.event_time = at(hour * HOUR_US + 5);
            let Some(carried) = Carried::of(&one) else { return Ok(()) };
            let id = carried.id();
            let order = one.order_id.as_ref().map_or("", OrderId::as_str);
            prop_assert_eq!(Carried::read(&id), Some((at(hour * HOUR_US), order)));
            prop_assert!(carried.received_before() > one.received_time);
            for deliverer in DELIVERERS {
                let of = one.deliverer_id.as_str() == deliverer;
                let since = |from| Carried::from(deliverer, from) <= id;
                let until = |to| id < Carried::to(deliverer, to);
                prop_assert_eq!(since(at(0)) && until(None), of);
                prop_assert_eq!(since(at(to * HOUR_US + 9)) && until(None), of && hour >= to);
                prop_assert_eq!(since(at(0)) && until(Some(at(to * HOUR_US))), of && hour < to);
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
