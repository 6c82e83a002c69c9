//! The closing summary, as text or as one line of JSON, on stdout.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::engine::Report;
use crate::stats::{Quantiles, Totals};

/// How the summary looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum SummaryFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object on one line.
    Json,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Messages sent at least once.
    pub published: u64,
    /// Messages the broker acknowledged; 0 with QoS 0.
    pub acked: u64,
    /// Messages sent again on a later connection.
    pub resent: u64,
    /// Connections lost.
    pub reconnects: u64,
    /// Messages given up without a PUBACK.
    pub unacknowledged: u64,
    /// Seconds from the first connection to the last PUBACK.
    pub elapsed_s: f64,
    /// Messages a second: acknowledged ones with QoS 1, published ones with QoS 0.
    pub rate_per_s: f64,
    /// From when each message was meant to be sent to its PUBACK, in milliseconds.
    pub ack_latency_ms: Option<Quantiles>,
    /// From when each message was written to its PUBACK, in milliseconds.
    pub round_trip_ms: Option<Quantiles>,
    /// The simulation's seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Lines of the replayed file that are no valid event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid_lines: Option<u64>,
}

impl Summary {
    pub(crate) fn new(report: &Report, acknowledged: bool) -> Self {
        let acked = Totals::read(&report.totals.acked);
        let published = report.published();
        let elapsed_s = report.elapsed.as_secs_f64();
        let done = if acknowledged { acked } else { published };
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 messages")]
        let rate_per_s = done as f64 / elapsed_s.max(1e-9);
        Self {
            published,
            acked,
            resent: Totals::read(&report.totals.resent),
            reconnects: Totals::read(&report.totals.reconnects),
            unacknowledged: report.unacked,
            elapsed_s: (elapsed_s * 1e6).round() / 1e6,
            rate_per_s: (rate_per_s * 10.0).round() / 10.0,
            ack_latency_ms: Quantiles::of(&report.latencies.from_intended),
            round_trip_ms: Quantiles::of(&report.latencies.from_written),
            seed: None,
            invalid_lines: None,
        }
    }

    pub(crate) fn print(&self, format: SummaryFormat) -> io::Result<()> {
        print(format, self, &self.to_string())
    }
}

/// Prints `value` as JSON or `text`, whichever was asked for.
pub(crate) fn print<T: Serialize>(format: SummaryFormat, value: &T, text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match format {
        SummaryFormat::Text => stdout.write_all(text.as_bytes())?,
        SummaryFormat::Json => writeln!(stdout, "{}", serde_json::to_string(value)?)?,
    }
    stdout.flush()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![
            ("published", self.published.to_string()),
            ("acknowledged", self.acked.to_string()),
            ("resent", self.resent.to_string()),
            ("reconnects", self.reconnects.to_string()),
            ("unacknowledged", self.unacknowledged.to_string()),
            ("elapsed", format!("{:.3} s", self.elapsed_s)),
            ("rate", format!("{:.0} messages/s", self.rate_per_s)),
        ];
        if let Some(latency) = &self.ack_latency_ms {
            rows.push(("ack latency", quantiles(latency)?));
        }
        if let Some(round_trip) = &self.round_trip_ms {
            rows.push(("round trip", quantiles(round_trip)?));
        }
        if let Some(seed) = self.seed {
            rows.push(("seed", seed.to_string()));
        }
        if let Some(lines) = self.invalid_lines {
            rows.push(("invalid lines", lines.to_string()));
        }
        for (name, value) in rows {
            writeln!(f, "{name:<15} {value}")?;
        }
        Ok(())
    }
}

fn quantiles(of: &Quantiles) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let Quantiles {
        p50,
        p90,
        p99,
        p99_9,
        max,
    } = of;
    write!(text, "p50 {p50:.3} ms, p90 {p90:.3} ms, p99 {p99:.3} ms, ")?;
    write!(text, "p99.9 {p99_9:.3} ms, max {max:.3} ms")?;
    Ok(text)
}
