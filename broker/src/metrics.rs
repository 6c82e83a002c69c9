//! What the broker counts. One doc line per metric; the names and help texts here are what `/metrics` shows.
//!
//! Updated once per batch, never per message. Labels come from enums only.

mod consumers;

use std::fmt;

use ingest_log::{Log, LogCondition, SYNC_BOUNDS_SECONDS};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use service::Metrics as Registry;

use self::consumers::ConsumerCollector;
use crate::protocol::Violation;
use crate::protocol::control::ConnectError;
use crate::share::Groups;

/// Handles of all metrics of the front. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Messages received from clients, by the QoS they were published with.
    received: [Counter; 3],
    /// Bytes read from clients.
    pub(crate) received_bytes: Counter,
    /// Bytes written to clients.
    pub(crate) sent_bytes: Counter,
    /// Messages acknowledged to their publishers, all durable before.
    pub(crate) acknowledged: Counter,
    /// Messages sent to subscribers, redeliveries included.
    pub(crate) delivered: Counter,
    /// Connections open now.
    pub(crate) connections: Gauge,
    /// Persistent sessions, connected or not.
    pub(crate) sessions: Gauge,
    /// Persistent sessions that ended because their clients were away for too long.
    pub(crate) sessions_expired: Counter,
    /// Connections refused or closed by the broker, by reason.
    rejected: Family<RejectedLabels, Counter>,
    /// Messages and subscriptions refused to clients that stay connected, by what and why.
    refused: Family<RefusedLabels, Counter>,
    /// Times a client was not read for a while because it published too fast.
    pub(crate) throttled: Counter,
    /// Files of users, rules and certificates that were read again, by whether they could be taken.
    reloads: Family<ReloadLabels, Counter>,
    /// Time from the append of a batch to its durability, in seconds.
    pub(crate) commit_seconds: Histogram,
    /// Messages that slow clean-session subscribers, or the live copy as a whole, did not get.
    pub(crate) fanout_dropped: Counter,
    /// Subscriptions of clean sessions.
    pub(crate) live_subscriptions: Gauge,
    /// Retained messages held.
    pub(crate) retained: Gauge,
    /// Shared subscriptions.
    pub(crate) shares: ShareMetrics,
}

/// Handles of the metrics of shared subscriptions.
#[derive(Debug, Clone)]
pub(crate) struct ShareMetrics {
    /// Groups, each a name and a filter.
    pub(crate) groups: Gauge,
    /// Members that are connected, summed over the groups.
    pub(crate) members: Gauge,
    /// Messages sent to a member because the one that had them left.
    pub(crate) redelivered: Counter,
    /// Chunks read for consumers that were far behind, groups or not.
    pub(crate) replay_turns: Counter,
}

impl ShareMetrics {
    fn register(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| registry.register(name, help, Counter::default());
        let gauge = |name: &str, help: &str| registry.register(name, help, Gauge::default());
        Self {
            groups: gauge(
                "broker_share_groups",
                "Groups of shared subscriptions, each a name and a filter; each holds the log from its place on",
            ),
            members: gauge(
                "broker_share_members",
                "Members that are connected, summed over the groups",
            ),
            replay_turns: counter(
                "broker_replay_chunks",
                "Chunks of the log read for consumers that were far behind",
            ),
            redelivered: counter(
                "broker_share_redelivered_messages",
                "Messages sent to a member of a group because the one that had them left",
            ),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QosLabels {
    qos: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectedLabels {
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    what: What,
}

/// What was refused to a client that stays connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum What {
    /// A message the rules deny.
    PublishDenied,
    /// A message whose topic is too long or too deep.
    PublishTopic,
    /// A subscription the rules deny, or whose filter is too long or too deep.
    SubscribeDenied,
    /// A subscription beyond what one client may have.
    SubscribeLimit,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    taken: Taken,
}

/// Whether what was read again could be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Taken {
    Yes,
    No,
}

/// Why a connection was refused or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Reason {
    ConnectionLimit,
    AddressLimit,
    /// TLS or WebSocket did not come about.
    Handshake,
    HandshakeTimeout,
    ConnectTimeout,
    Credentials,
    NotAuthorized,
    ProtocolVersion,
    ClientId,
    AuthMethod,
    Unavailable,
    Malformed,
    TooLarge,
    Topic,
    Qos,
    Unexpected,
    ReceiveMaximum,
    KeepAlive,
    Stalled,
    TakenOver,
}

impl From<Violation> for Reason {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::TooLarge => Self::TooLarge,
            Violation::Length
            | Violation::Malformed
            | Violation::Text
            | Violation::Property
            | Violation::Repeated
            | Violation::Protocol => Self::Malformed,
            Violation::TopicAlias => Self::Topic,
            Violation::ReceiveMaximum => Self::ReceiveMaximum,
            Violation::Topic | Violation::Filter | Violation::DollarTopic => Self::Topic,
            Violation::Qos => Self::Qos,
            Violation::Unexpected => Self::Unexpected,
        }
    }
}

impl From<ConnectError> for Reason {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Violation(violation) => violation.into(),
            ConnectError::Version => Self::ProtocolVersion,
            ConnectError::ClientId => Self::ClientId,
            ConnectError::AuthMethod => Self::AuthMethod,
            ConnectError::Unavailable => Self::Unavailable,
            ConnectError::Credentials => Self::Credentials,
            ConnectError::NotAuthorized => Self::NotAuthorized,
            ConnectError::PacketSize => Self::TooLarge,
        }
    }
}

/// Bounds in seconds: from a fast disk's sync to a stalled one's.
const COMMIT_BOUNDS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0,
    4.0,
];

impl Metrics {
    /// Registers everything, the log's numbers included.
    pub(crate) fn register(registry: &Registry, log: &Log) -> Self {
        registry.register_collector(Box::new(LogCollector(log.clone())));
        registry.register_collector(Box::new(ConsumerCollector::new(log)));
        let received = registry.register(
            "broker_messages_received",
            "Messages received from clients, by the QoS they were published with",
            Family::<QosLabels, Counter>::default(),
        );
        let with_qos = |qos| received.get_or_create_owned(&QosLabels { qos });
        let counter = |name: &str, help: &str| registry.register(name, help, Counter::default());
        let gauge = |name: &str, help: &str| registry.register(name, help, Gauge::default());
        Self {
            received: [with_qos(0), with_qos(1), with_qos(2)],
            received_bytes: counter("broker_received_bytes", "Bytes read from clients"),
            sent_bytes: counter("broker_sent_bytes", "Bytes written to clients"),
            acknowledged: counter(
                "broker_messages_acknowledged",
                "Messages acknowledged to their publishers, all durable before",
            ),
            delivered: counter(
                "broker_messages_delivered",
                "Messages sent to subscribers, redeliveries included",
            ),
            connections: gauge("broker_connections", "Connections open now"),
            sessions: gauge(
                "broker_sessions",
                "Persistent sessions, connected or not; each holds the log from its place on",
            ),
            sessions_expired: counter(
                "broker_sessions_expired",
                "Persistent sessions that ended because their clients were away for too long",
            ),
            rejected: registry.register(
                "broker_connections_rejected",
                "Connections refused or closed by the broker, by reason",
                Family::default(),
            ),
            refused: registry.register(
                "broker_refused",
                "Messages and subscriptions refused to clients that stay connected, by what and why",
                Family::default(),
            ),
            throttled: counter(
                "broker_throttled",
                "Times a client was not read for a while because it published too fast",
            ),
            reloads: registry.register(
                "broker_reloads",
                "Files of users, rules and certificates that were read again, by whether they could be taken",
                Family::default(),
            ),
            commit_seconds: registry.register(
                "broker_commit_seconds",
                "Time from the append of a batch to its durability",
                Histogram::new(COMMIT_BOUNDS),
            ),
            fanout_dropped: counter(
                "broker_fanout_dropped_messages",
                "Messages that clean-session subscribers did not get because they were slow",
            ),
            live_subscriptions: gauge(
                "broker_live_subscriptions",
                "Subscriptions of clean sessions",
            ),
            retained: gauge("broker_retained_messages", "Retained messages held"),
            shares: ShareMetrics::register(registry),
        }
    }

    /// Counts received messages by QoS.
    pub(crate) fn received(&self, by_qos: [u64; 3]) {
        for (counter, count) in self.received.iter().zip(by_qos) {
            if count > 0 {
                counter.inc_by(count);
            }
        }
    }

    /// Returns how many messages were received.
    pub(crate) fn received_messages(&self) -> u64 {
        self.received.iter().map(Counter::get).sum()
    }

    /// Counts what was refused to a client that stays connected.
    pub(crate) fn refused(&self, what: What, count: u64) {
        if count > 0 {
            let refused = self.refused.get_or_create(&RefusedLabels { what });
            refused.inc_by(count);
        }
    }

    /// Counts files that were read again.
    pub(crate) fn reloaded(&self, taken: bool) {
        let taken = if taken { Taken::Yes } else { Taken::No };
        self.reloads.get_or_create(&ReloadLabels { taken }).inc();
    }

    /// Counts a connection that was refused or closed.
    pub(crate) fn rejected(&self, reason: impl Into<Reason>) {
        let reason = reason.into();
        self.rejected
            .get_or_create(&RejectedLabels { reason })
            .inc();
    }
}

/// Registers what is asked of the groups when `/metrics` is asked.
pub(crate) fn watch_groups(registry: &Registry, groups: &Groups) {
    registry.register_collector(Box::new(GroupCollector(groups.clone())));
}

/// Asks the groups when `/metrics` is asked. One number per group would be too many labels.
#[derive(Debug)]
struct GroupCollector(Groups);

impl Collector for GroupCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (sum, most) = self.0.lag();
        for (name, help, value) in [
            (
                "broker_share_lag_records",
                "Log records not done with, summed over the groups of shared subscriptions",
                sum,
            ),
            (
                "broker_share_lag_max_records",
                "Log records not done with by the group that is furthest behind",
                most,
            ),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

/// Asks the log when `/metrics` is asked.
#[derive(Debug)]
struct LogCollector(Log);

impl Collector for LogCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.0.status();
        let mut counter = |name, help, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        counter("ingest_log_records", "Records made durable", status.records)?;
        counter("ingest_log_bytes", "Bytes made durable", status.bytes)?;
        counter("ingest_log_commits", "Group commits", status.commits)?;
        let gauges: [(&str, &str, u64); 6] = [
            (
                "ingest_log_segments",
                "Segments that hold records",
                status.segments as u64,
            ),
            (
                "ingest_log_disk_bytes",
                "Bytes the segments take on disk",
                status.disk_bytes,
            ),
            (
                "ingest_log_pending_bytes",
                "Bytes accepted and not yet durable",
                status.pending_bytes as u64,
            ),
            (
                "ingest_log_first_sequence",
                "First sequence held",
                status.first,
            ),
            (
                "ingest_log_next_sequence",
                "First sequence not yet durable",
                status.next_durable,
            ),
            (
                "ingest_log_accepts",
                "1 when the log takes records, 0 when it is full, failed or closed",
                u64::from(status.condition == LogCondition::Ok),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let oldest = status.oldest_pending.unwrap_or_default().as_secs_f64();
        ConstGauge::new(oldest).encode(encoder.encode_descriptor(
            "ingest_log_oldest_pending_seconds",
            "How long the oldest record that is not durable has waited",
            None,
            MetricType::Gauge,
        )?)?;
        let bounds = SYNC_BOUNDS_SECONDS.into_iter().chain([f64::MAX]);
        let buckets: Vec<_> = bounds.zip(status.syncs.counts).collect();
        let (sum, count) = (
            status.syncs.total.as_secs_f64(),
            status.syncs.counts.iter().sum(),
        );
        encoder
            .encode_descriptor(
                "ingest_log_sync_seconds",
                "Time of the log's fdatasync per group",
                None,
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}
