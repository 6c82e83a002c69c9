//! Instants: microseconds since the Unix epoch, UTC.
//!
//! Accepted on input: RFC 3339 (`2026-01-02T03:04:05.678Z`, any offset), the same without an offset
//! (read as UTC), and numbers of epoch seconds, milliseconds or microseconds. A number's unit follows
//! from its size: below 10^11 it is seconds, below 10^14 milliseconds, above that microseconds. Numbers reach
//! to the year 2255, where an f64 stops being exact to the microsecond; texts reach to the year 9999.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};
use serde::{Serialize, Serializer};

/// An instant, in microseconds since 1970-01-01T00:00:00Z; from that instant to the end of the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UtcMicros(i64);

/// Last instant accepted, 9999-12-30T22:00:00Z: the last that a [`Timestamp`] takes as microseconds, so that every offset
/// of it is still a four-digit year.
const MAX: i64 = 253_402_207_200_000_000;

impl UtcMicros {
    /// Takes microseconds since the epoch; `None` before 1970 or after the year 9999.
    pub fn new(micros: i64) -> Option<Self> {
        (0..=MAX).contains(&micros).then_some(Self(micros))
    }

    /// Returns microseconds since the epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Reads a text (RFC 3339, or the same without an offset, which means UTC).
    pub fn parse(text: &str) -> Option<Self> {
        let timestamp = text.parse::<Timestamp>().ok().or_else(|| {
            let civil = text.parse::<DateTime>().ok()?;
            civil.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp())
        })?;
        Self::new(timestamp.as_microsecond())
    }

    /// Reads a number whose unit follows from its size, as the module says.
    pub fn from_epoch_number(number: f64) -> Option<Self> {
        if !number.is_finite() || number < 0.0 {
            return None;
        }
        let micros = if number < 1e11 {
            number * 1e6
        } else if number < 1e14 {
            number * 1e3
        } else if number < 1e17 {
            number
        } else {
            return None;
        };
        Self::new(round_to_i64(micros)?)
    }

    /// Returns this instant moved by `micros`, held within the accepted range.
    #[must_use]
    pub fn saturating_add_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros).clamp(0, MAX))
    }

    /// Returns the UTC date as `YYYY-MM-DD`, the form of partition names.
    pub fn date(self) -> String {
        self.timestamp().strftime("%Y-%m-%d").to_string()
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_microsecond(self.0).expect("0..=MAX lies within the range of Timestamp")
    }
}

/// Rounds to the nearest whole number; `None` when that is outside the 53 bits an f64 holds exactly.
pub fn round_to_i64(value: f64) -> Option<i64> {
    let rounded = value.round();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range check keeps it within 2^53, and `round` left no fraction"
    )]
    let whole = (rounded.abs() < 9e15).then_some(rounded as i64);
    whole
}

impl fmt::Display for UtcMicros {
    /// RFC 3339 in UTC with three digits after the second, or six where the microseconds need them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = if self.0 % 1_000 == 0 { 3 } else { 6 };
        let timestamp = self.timestamp();
        debug_assert!(timestamp.round(Unit::Microsecond).is_ok());
        write!(f, "{timestamp:.precision$}")
    }
}

impl Serialize for UtcMicros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_and_the_last_instant_have_a_text() {
        let last = UtcMicros::default().saturating_add_micros(i64::MAX);
        assert_eq!(last.to_string(), "9999-12-30T22:00:00.000Z");
        assert_eq!(last.date(), "9999-12-30");
        assert_eq!(UtcMicros::new(last.as_micros() + 1), None);
        assert_eq!(UtcMicros::default().to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn every_spelling_of_an_instant_reads_the_same() {
        let expected = UtcMicros::new(1_559_413_030_101_000);
        assert_eq!(UtcMicros::parse("2019-06-01T18:17:10.101Z"), expected);
        assert_eq!(UtcMicros::parse("2019-06-01T20:17:10.101+02:00"), expected);
        assert_eq!(UtcMicros::parse("2019-06-01T18:17:10.101"), expected);
        assert_eq!(UtcMicros::parse("2019-06-01 18:17:10.101"), expected);
        assert_eq!(UtcMicros::from_epoch_number(1_559_413_030.101), expected);
        assert_eq!(UtcMicros::from_epoch_number(1_559_413_030_101.0), expected);
        assert_eq!(
            UtcMicros::from_epoch_number(1_559_413_030_101_000.0),
            expected
        );
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for text in ["", "today", "2019-13-01T00:00:00Z", "1969-12-31T23:59:59Z"] {
            assert_eq!(UtcMicros::parse(text), None, "{text}");
        }
        for number in [-1.0, f64::NAN, 1e17, f64::INFINITY] {
            assert_eq!(UtcMicros::from_epoch_number(number), None, "{number}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(micros in 0..=MAX) {
            let instant = UtcMicros::new(micros).unwrap();
            prop_assert_eq!(UtcMicros::parse(&instant.to_string()), Some(instant));
            prop_assert!(instant.to_string().starts_with(&instant.date()));
        }
    }
}
