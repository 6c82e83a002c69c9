//! How far the consumers of the log are behind: sessions, groups, and those in this process.
//!
//! The one exception to the rule that labels come from enums: an operator who sees the log grow must see for whom. It is
//! bounded: only the furthest behind have a series of their own.

use std::fmt;

use ingest_log::Log;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Tells it when `/metrics` is asked.
#[derive(Debug)]
pub(super) struct ConsumerCollector(Log);

/// Most consumers with a series of their own.
const NAMED_CONSUMERS: usize = 20;

impl ConsumerCollector {
    pub(super) fn new(log: &Log) -> Self {
        Self(log.clone())
    }
}

impl Collector for ConsumerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (first, end) = (self.0.first(), self.0.next_durable());
        let pinning = self.0.cursors().list().into_iter();
        let pinning = pinning.filter(|(_, cursor)| cursor.pins);
        let mut lags: Vec<_> = pinning
            .map(|(name, cursor)| (end.saturating_sub(cursor.next.max(first)), name))
            .collect();
        lags.sort_by(|one, other| other.cmp(one));
        let most = lags.first().map_or(0, |(lag, _)| *lag);
        for (name, help, value) in [
            (
                "broker_consumers",
                "Consumers for which the log is kept: sessions, groups, and those in this process",
                lags.len() as u64,
            ),
            (
                "broker_consumer_lag_max_records",
                "Log records not done with by the consumer that is furthest behind",
                most,
            ),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let mut series = encoder.encode_descriptor(
            "broker_consumer_lag_records",
            "Log records not done with, of the consumers that are furthest behind",
            None,
            MetricType::Gauge,
        )?;
        for (lag, name) in lags.iter().take(NAMED_CONSUMERS) {
            let gauge = ConstGauge::new(*lag);
            gauge.encode(series.encode_family(&[("consumer", name.as_str())])?)?;
        }
        Ok(())
    }
}
