//! What the scheduled service tells about itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use service::{Clock, Context};

use crate::job::Report;
use crate::status::Watermark;

/// The table a number speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfTable {
    table: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Ended {
    outcome: &'static str,
}

/// The service's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    rows: Family<OfTable, Counter>,
    bytes: Family<OfTable, Counter>,
    purged: Family<OfTable, Counter>,
    watermark: Family<OfTable, Gauge>,
    lag_rows: Family<OfTable, Gauge>,
    live_files: Family<OfTable, Gauge>,
    live_bytes: Family<OfTable, Gauge>,
    small_files: Family<OfTable, Gauge>,
    compacted: Family<OfTable, Counter>,
    runs: Family<Ended, Counter>,
    age: Age,
}

impl Metrics {
    pub(crate) fn new(context: &Context) -> Self {
        let registry = &context.metrics;
        let age = Age {
            success_us: Arc::default(),
            clock: context.clock.clone(),
        };
        age.success_us
            .store(context.clock.now().as_micros(), Ordering::SeqCst);
        registry.register_collector(Box::new(age.clone()));
        Self {
            rows: registry.register(
                "lake_ingest_rows",
                "Rows verified in the lake",
                Family::default(),
            ),
            bytes: registry.register(
                "lake_ingest_bytes",
                "Bytes of Parquet verified in the lake",
                Family::default(),
            ),
            purged: registry.register(
                "lake_ingest_purged_rows",
                "Rows deleted from the store, which the lake has had for long enough",
                Family::default(),
            ),
            watermark: registry.register(
                "lake_ingest_watermark",
                "Last sequence taken from the store, summed over its writers",
                Family::default(),
            ),
            lag_rows: registry.register(
                "lake_ingest_lag_rows",
                "Sequences the store has committed and the lake has not taken, at the end of the last run",
                Family::default(),
            ),
            live_files: registry.register(
                "lake_ingest_live_files",
                "Live files of a table, by its layer and name",
                Family::default(),
            ),
            live_bytes: registry.register(
                "lake_ingest_live_bytes",
                "Bytes of a table's live files",
                Family::default(),
            ),
            small_files: registry.register(
                "lake_ingest_small_files",
                "Live files of a table below a quarter of --compact-target",
                Family::default(),
            ),
            compacted: registry.register(
                "lake_ingest_compacted_files",
                "Files replaced by compaction",
                Family::default(),
            ),
            runs: registry.register(
                "lake_ingest_runs",
                "Runs by outcome: ok, failed, interrupted",
                Family::default(),
            ),
            age,
        }
    }

    /// Counts a run that came to its end.
    pub(crate) fn ran(&self, started_us: i64, report: &Report, watermarks: &[Watermark]) {
        for table in report.offload.iter().flat_map(|offload| &offload.tables) {
            let of = OfTable {
                table: table.table.clone(),
            };
            self.rows.get_or_create(&of).inc_by(table.rows);
            self.bytes.get_or_create(&of).inc_by(table.bytes);
            self.purged.get_or_create(&of).inc_by(table.purged_rows);
            let of_table = watermarks.iter().filter(|mark| mark.table == of.table);
            let (mut taken, mut lag) = (0, 0);
            for mark in of_table {
                taken += mark.in_lake;
                lag += mark.committed.saturating_sub(mark.in_lake);
            }
            self.watermark.get_or_create(&of).set(taken.cast_signed());
            self.lag_rows.get_or_create(&of).set(lag.cast_signed());
        }
        for kept in &report.upkeep {
            let of = OfTable {
                table: kept.table.clone(),
            };
            let gauges = [
                (&self.live_files, kept.shape.files),
                (&self.live_bytes, kept.shape.bytes),
                (&self.small_files, kept.shape.small_files),
            ];
            for (gauge, value) in gauges {
                gauge.get_or_create(&of).set(value.cast_signed());
            }
            if let Some(done) = &kept.compacted {
                let compacted = self.compacted.get_or_create(&of);
                compacted.inc_by(done.files_before);
            }
        }
        let outcome = if report.interrupted {
            "interrupted"
        } else {
            "ok"
        };
        self.runs.get_or_create(&Ended { outcome }).inc();
        if !report.interrupted {
            self.age.success_us.store(started_us, Ordering::SeqCst);
        }
    }

    /// Counts a run that failed.
    pub(crate) fn failed(&self) {
        let outcome = "failed";
        self.runs.get_or_create(&Ended { outcome }).inc();
    }
}

/// How old the lake is. What the store had committed when the last complete run began is in the lake.
#[derive(Debug, Clone)]
struct Age {
    /// When the last complete run began; at first, when this process did.
    success_us: Arc<AtomicI64>,
    clock: Arc<dyn Clock>,
}

impl Collector for Age {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let success_us = self.success_us.load(Ordering::SeqCst);
        let age_us = self.clock.now().as_micros().saturating_sub(success_us);
        let mut gauge = |name: &str, help: &str, seconds: i64| {
            let gauge = ConstGauge::new(seconds);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)
        };
        gauge(
            "lake_ingest_lag_seconds",
            "Age of the lake: seconds since the last complete run began, or since the start before the first",
            age_us / 1_000_000,
        )?;
        gauge(
            "lake_ingest_last_success_timestamp_seconds",
            "When the last complete run began, seconds since the epoch; the start before the first",
            success_us / 1_000_000,
        )
    }
}
