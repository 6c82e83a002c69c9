//! Durations as people write them: `250ms`, `20s`, `1h30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration with a unit: `us`, `ms`, `s`, `m`, `h` or `d`; several may follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(pub Duration);

/// Units in microseconds, longest first.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

impl HumanDuration {
    /// Takes whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Takes whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Returns the standard type.
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no duration; give a number with a unit, for example 250ms, 20s or 1h30m")]
pub struct ParseDurationError(String);

impl FromStr for HumanDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self::default());
        }
        let mut micros = 0_u64;
        let parsed = (|| {
            while !rest.is_empty() {
                let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
                let end = after
                    .find(|c: char| c.is_ascii_digit())
                    .unwrap_or(after.len());
                let (unit, next) = after.split_at(end);
                let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
                let part = number.parse::<u64>().ok()?.checked_mul(*factor)?;
                micros = micros.checked_add(part)?;
                rest = next;
            }
            (!text.trim().is_empty()).then_some(())
        })();
        match parsed {
            Some(()) => Ok(Self(Duration::from_micros(micros))),
            None => Err(ParseDurationError(text.to_owned())),
        }
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        if micros == 0 {
            return f.write_str("0s");
        }
        for (name, factor) in UNITS {
            if micros >= factor {
                write!(f, "{}{name}", micros / factor)?;
                micros %= factor;
            }
        }
        Ok(())
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_written() {
        let cases = [
            ("250ms", 250_000),
            ("20s", 20_000_000),
            ("1h30m", 5_400_000_000),
            ("1m 5s", 65_000_000),
            ("7us", 7),
            ("0", 0),
        ];
        for (text, micros) in cases {
            let expected = HumanDuration(Duration::from_micros(micros));
            assert_eq!(text.parse(), Ok(expected), "{text}");
            assert_eq!(expected.to_string().parse(), Ok(expected), "{text}");
        }
        for text in ["", "5", "ms", "1.5s", "-1s", "3 weeks", "5s6"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
    }
}
