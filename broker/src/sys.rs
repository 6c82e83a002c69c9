//! Statistics below `$SYS/broker/`, under the names that clients know from Mosquitto.
//!
//! They are retained, in memory: who subscribes gets them as they are, and what has changed as it changes. Wildcards on
//! the first level do not match them [MQTT-4.7.2-1], and where there are rules, these must allow them. Clients cannot
//! publish there.
//!
//! They go through the log only while a lasting session or a group has a filter that begins with `$SYS`, because these
//! read nothing else; with QoS 0, and not while the log is full. Otherwise an idle broker would write for nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ingest_log::{Log, LogCondition, Record, RecordBatch, RecordHead};
use prometheus_client::metrics::gauge::Gauge;
use service::{BoxError, CancellationToken, Context, Stage};
use tokio::time::{MissedTickBehavior, interval};

use crate::connection::Front;
use crate::retained::{Retained, RetainedStore};
use crate::session;

/// Room for the statistics: some thirty, each short.
const STORE_BYTES: usize = 64 << 10;
/// What all topics begin with.
const PREFIX: &str = "$SYS/broker/";

/// The statistics as they were made last.
#[derive(Debug)]
pub(crate) struct Sys {
    interval: Duration,
    store: RetainedStore,
    told: Mutex<HashMap<&'static str, String>>,
}

impl Sys {
    /// Makes none yet; with an interval of zero there will be none.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            store: RetainedStore::new(STORE_BYTES, Gauge::default()),
            told: Mutex::default(),
        }
    }

    /// Returns the statistics that match a filter.
    pub(crate) fn matching(&self, filter: &str) -> Vec<Retained> {
        if filter.starts_with('$') {
            self.store.matching(filter)
        } else {
            Vec::new()
        }
    }

    /// Takes values; returns those that have changed.
    fn take(&self, values: Vec<(&'static str, String)>) -> Vec<(String, String)> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Vec::new();
        for (name, value) in values {
            if told.get(name) != Some(&value) {
                told.insert(name, value.clone());
                changed.push((format!("{PREFIX}{name}"), value));
            }
        }
        changed
    }
}

/// Makes the statistics now, and again and again.
pub(crate) fn start(front: &Arc<Front>, context: &Context) {
    if !front.sys.interval.is_zero() {
        let front = Arc::clone(front);
        let started = context.clock.now().as_micros();
        context
            .tasks
            .spawn(Stage::Intake, "sys", move |stop| run(front, started, stop));
    }
}

async fn run(front: Arc<Front>, started_us: i64, stop: CancellationToken) -> Result<(), BoxError> {
    let mut pace = interval(front.sys.interval);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(pace.tick()).await.is_some() {
        let (values, wants_sys) = values(&front, started_us);
        let changed = front.sys.take(values);
        if stop
            .run_until_cancelled(tell(&front, &changed, wants_sys))
            .await
            .is_none()
        {
            break;
        }
    }
    Ok(())
}

/// Makes the statistics.
fn values(front: &Front, started_us: i64) -> (Vec<(&'static str, String)>, bool) {
    let (metrics, status) = (&front.metrics, front.log.status());
    let census = session::census(&front.log);
    let now_us = front.clock.now().as_micros();
    let uptime = (now_us - started_us).max(0) / 1_000_000;
    let connected = u64::try_from(metrics.connections.get()).unwrap_or(0);
    let live = u64::try_from(metrics.live_subscriptions.get()).unwrap_or(0);
    let retained = metrics.retained.get();
    let stored = status.next_durable - status.first;
    let received = metrics.received_messages();
    let count = |number: u64| number.to_string();
    let values = vec![
        (
            "version",
            concat!("lastmile version ", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        ("uptime", format!("{uptime} seconds")),
        ("clients/connected", count(connected)),
        ("clients/active", count(connected)),
        ("clients/disconnected", count(census.away)),
        ("clients/inactive", count(census.away)),
        ("clients/total", count(connected + census.away)),
        ("clients/expired", count(metrics.sessions_expired.get())),
        ("messages/received", count(received)),
        ("messages/sent", count(metrics.delivered.get())),
        ("messages/stored", count(stored)),
        ("store/messages/count", count(stored)),
        ("store/messages/bytes", count(status.disk_bytes)),
        ("publish/messages/received", count(received)),
        ("publish/messages/sent", count(metrics.delivered.get())),
        (
            "publish/messages/dropped",
            count(metrics.fanout_dropped.get()),
        ),
        ("bytes/received", count(metrics.received_bytes.get())),
        ("bytes/sent", count(metrics.sent_bytes.get())),
        ("subscriptions/count", count(census.subscriptions + live)),
        (
            "shared_subscriptions/count",
            metrics.shares.groups.get().to_string(),
        ),
        ("retained messages/count", retained.to_string()),
    ];
    (values, census.wants_sys)
}

/// Tells subscribers what has changed.
async fn tell(front: &Front, changed: &[(String, String)], wants_sys: bool) {
    let (received_us, seq) = (front.clock.now().as_micros(), front.log.next_durable());
    for (topic, value) in changed {
        let retained = Retained {
            topic: topic.as_str().into(),
            payload: Bytes::copy_from_slice(value.as_bytes()),
            qos: 0,
            client_id: "".into(),
            properties: Bytes::new(),
            received_us,
            seq,
        };
        let taken = front.sys.store.set(retained);
        debug_assert!(taken, "there is room for all");
    }
    if wants_sys {
        if front.log.status().condition == LogCondition::Ok {
            append(&front.log, changed, received_us).await;
        }
        return;
    }
    for (topic, value) in changed {
        front.fanout.announce(&Record {
            seq,
            received_us,
            qos: 0,
            retain: false,
            topic,
            client_id: "",
            properties: &[],
            packet_id: None,
            payload: value.as_bytes(),
        });
    }
}

async fn append(log: &Log, changed: &[(String, String)], received_us: i64) {
    let mut batch = RecordBatch::new();
    for (topic, value) in changed {
        let head = RecordHead {
            qos: 0,
            retain: false,
            received_us,
            topic,
            client_id: "",
            properties: &[],
        };
        if let Err(error) = batch.push(&head, value.as_bytes()) {
            tracing::warn!(topic, %error, "a statistic was left out");
        }
    }
    if let Err(error) = log.append(batch).await {
        tracing::debug!(%error, "the statistics were not told");
    }
}
