//! Sessions, segments, and the check of all of it.

use std::fmt::Write as _;
use std::path::Path;

use ingest_log::{Cursor, Depth, Inspection, inspect};
use serde::Serialize;
use serde_json::Value;
use service::BoxError;

/// A consumer that the log is kept for.
#[derive(Debug, Serialize)]
struct Consumer<'a> {
    /// `session/<client id>`, `share/<group>/<filter>`, or the name of one in this process.
    name: &'a str,
    /// First sequence it is not done with.
    next: u64,
    /// Records between its place and the log's end.
    lag: u64,
    /// Whether the log is kept for it.
    holds: bool,
    /// What it wants, as the cursor says it.
    #[serde(skip_serializing_if = "Value::is_null")]
    state: Value,
}

impl<'a> Consumer<'a> {
    fn new(log: &Inspection, name: &'a str, cursor: &Cursor) -> Self {
        Self {
            name,
            next: cursor.next,
            lag: log.next.saturating_sub(cursor.next.max(log.first)),
            holds: cursor.pins,
            state: serde_json::from_slice(&cursor.meta).unwrap_or_default(),
        }
    }

    /// Returns the filters, or the members of a group.
    fn wants(&self) -> String {
        let list = |name: &str, field: &str| {
            let items = self.state.get(name)?.as_array()?;
            // One that has ended is there until what it began is completed.
            let live = items.iter().filter(|item| item.get("until").is_none());
            let texts = live.filter_map(|item| item.get(field)?.as_str());
            Some(texts.map(printable).collect::<Vec<_>>().join(" "))
        };
        let filters = list("subscriptions", "filter");
        filters
            .or_else(|| list("members", "client_id"))
            .unwrap_or_default()
    }
}

/// What clients chose is shown without what moves a terminal's cursor.
fn printable(text: &str) -> String {
    text.escape_debug().to_string()
}

pub(super) fn sessions(dir: &Path, json: bool) -> Result<String, BoxError> {
    let log = inspect(dir, Depth::Outline)?;
    let mut text = String::new();
    let consumers = log.cursors.iter();
    let consumers: Vec<_> = consumers
        .map(|(name, cursor)| Consumer::new(&log, name, cursor))
        .collect();
    if json {
        for consumer in &consumers {
            writeln!(text, "{}", serde_json::to_string(consumer)?)?;
        }
        return Ok(text);
    }
    let title = format!("{:>12} {:>12} {:5}", "place", "behind", "holds");
    writeln!(text, "{title} consumer: filters or members")?;
    for consumer in &consumers {
        let (name, wants) = (printable(consumer.name), consumer.wants());
        let holds = if consumer.holds { "yes" } else { "no" };
        let Consumer { next, lag, .. } = consumer;
        writeln!(text, "{next:>12} {lag:>12} {holds:5} {name}: {wants}")?;
    }
    let count = consumers.len();
    writeln!(
        text,
        "{count} consumers; the log holds records {} to {}",
        log.first, log.next
    )?;
    Ok(text)
}

#[derive(Debug, Serialize)]
struct Segment {
    file: String,
    first: u64,
    next: u64,
    bytes: u64,
    synced: bool,
}

pub(super) fn log(dir: &Path, json: bool) -> Result<String, BoxError> {
    let log = inspect(dir, Depth::Outline)?;
    let mut text = String::new();
    let segments = log.segments.iter().map(|segment| Segment {
        file: segment
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        first: segment.first,
        next: segment.next,
        bytes: segment.bytes,
        synced: segment.synced,
    });
    let segments: Vec<_> = segments.collect();
    if json {
        for segment in &segments {
            writeln!(text, "{}", serde_json::to_string(segment)?)?;
        }
        return Ok(text);
    }
    let title = format!(
        "{:20} {:>12} {:>10} {:>12}",
        "file", "first", "records", "bytes"
    );
    writeln!(text, "{title} synced")?;
    for segment in &segments {
        let Segment {
            file,
            first,
            next,
            bytes,
            synced,
        } = segment;
        let synced = if *synced { "yes" } else { "no" };
        writeln!(
            text,
            "{file:20} {first:>12} {:>10} {bytes:>12} {synced}",
            next - first
        )?;
    }
    let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let (count, records) = (segments.len(), log.next - log.first);
    writeln!(text, "{count} segments, {records} records, {bytes} bytes")?;
    match log.pinning().first() {
        Some((name, cursor)) => {
            writeln!(text, "kept from {} on for {}", cursor.next, printable(name))?;
        }
        None => writeln!(text, "kept whole: no consumer has come yet")?,
    }
    Ok(text)
}

pub(super) fn check(dir: &Path) -> Result<String, BoxError> {
    let log = inspect(dir, Depth::Records)?;
    let mut text = String::new();
    for (name, cursor) in &log.cursors {
        if !cursor.meta.is_empty() && serde_json::from_slice::<Value>(&cursor.meta).is_err() {
            return Err(format!("the state of {} cannot be read", printable(name)).into());
        }
    }
    let records = log.next - log.first;
    let (segments, cursors) = (log.segments.len(), log.cursors.len());
    writeln!(
        text,
        "whole: {segments} segments, {records} records, {cursors} cursors"
    )?;
    if log.torn_bytes > 0 {
        let bytes = log.torn_bytes;
        writeln!(
            text,
            "{bytes} bytes behind the end are being written, or were torn by a crash and never acknowledged"
        )?;
    }
    Ok(text)
}
