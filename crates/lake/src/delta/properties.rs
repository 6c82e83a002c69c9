//! Table properties: how often a table has a checkpoint, and how long its log goes back.
//!
//! They are kept where Delta keeps them, in the table's own metadata, so every program that writes to the table
//! works by the same ones.

use std::collections::BTreeMap;

use super::action::Metadata;

const CHECKPOINT_INTERVAL: &str = "delta.checkpointInterval";
const LOG_RETENTION: &str = "delta.logRetentionDuration";

const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 24 * 60 * MINUTE_US;

/// How long checkpoints name removed files, Delta's default.
pub(super) const REMOVED_RETENTION_US: i64 = 7 * DAY_US;

/// How a table's log is kept short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPolicy {
    /// A checkpoint is written when there are so many commits since the last, 1 or more. Default 10.
    pub checkpoint_every: u64,
    /// Commits older than this, in microseconds, that a checkpoint covers are deleted: how far back a reader may ask
    /// for the table as it was. Default 30 days.
    pub retention_us: i64,
}

impl Default for LogPolicy {
    fn default() -> Self {
        Self {
            checkpoint_every: 10,
            retention_us: 30 * DAY_US,
        }
    }
}

impl LogPolicy {
    /// Reads a table's properties; what is absent or not understood is the default.
    pub(super) fn of(metadata: Option<&Metadata>) -> Self {
        let otherwise = Self::default();
        let Some(properties) = metadata.map(|metadata| &metadata.configuration) else {
            return otherwise;
        };
        let every = properties.get(CHECKPOINT_INTERVAL);
        let every = every.and_then(|text| text.parse().ok());
        let retention = properties.get(LOG_RETENTION);
        Self {
            checkpoint_every: every.unwrap_or(otherwise.checkpoint_every).max(1),
            retention_us: retention
                .and_then(|text| parse_interval(text))
                .unwrap_or(otherwise.retention_us),
        }
    }

    /// Writes it into properties. What is default and not there stays away.
    pub(super) fn put(self, properties: &mut BTreeMap<String, String>) {
        let otherwise = Self::default();
        if self.checkpoint_every != otherwise.checkpoint_every
            || properties.contains_key(CHECKPOINT_INTERVAL)
        {
            let every = self.checkpoint_every.to_string();
            properties.insert(CHECKPOINT_INTERVAL.to_owned(), every);
        }
        if self.retention_us != otherwise.retention_us || properties.contains_key(LOG_RETENTION) {
            let text = format!("interval {} seconds", self.retention_us / 1_000_000);
            properties.insert(LOG_RETENTION.to_owned(), text);
        }
    }
}

/// Reads an interval as Delta writes it, for example `interval 30 days`.
fn parse_interval(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_prefix("interval").unwrap_or(&text);
    let mut words = text.split_whitespace();
    let (number, unit) = (words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let unit_us = match unit.strip_suffix('s').unwrap_or(unit) {
        "week" => 7 * DAY_US,
        "day" => DAY_US,
        "hour" => 60 * MINUTE_US,
        "minute" => MINUTE_US,
        "second" => 1_000_000,
        "millisecond" => 1_000,
        "microsecond" => 1,
        _ => return None,
    };
    let number: i64 = number.parse().ok()?;
    (number >= 0).then(|| number.saturating_mul(unit_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_as_delta_writes_them() {
        for (text, us) in [
            ("interval 30 days", Some(30 * DAY_US)),
            ("INTERVAL 1 week", Some(7 * DAY_US)),
            ("12 hours", Some(DAY_US / 2)),
            ("interval 90 seconds", Some(90_000_000)),
            ("interval -1 days", None),
            ("interval 1 day 2 hours", None),
            ("soon", None),
        ] {
            assert_eq!(parse_interval(text), us, "{text}");
        }
    }

    #[test]
    fn a_policy_survives_its_properties() {
        let mut properties = BTreeMap::new();
        LogPolicy::default().put(&mut properties);
        assert!(properties.is_empty());
        let policy = LogPolicy {
            checkpoint_every: 3,
            retention_us: 2 * DAY_US,
        };
        policy.put(&mut properties);
        let metadata = |configuration| Metadata {
            id: String::new(),
            format: super::super::Format {
                provider: "parquet".to_owned(),
                options: BTreeMap::new(),
            },
            schema_string: String::new(),
            partition_columns: Vec::new(),
            configuration,
            created_time: None,
        };
        assert_eq!(LogPolicy::of(Some(&metadata(properties.clone()))), policy);
        LogPolicy::default().put(&mut properties);
        let read = LogPolicy::of(Some(&metadata(properties)));
        assert_eq!(read, LogPolicy::default());
    }
}
