//! The embedded rumqttd, and the two tasks on either side of it.
//!
//! ```text
//! log ──feeder──► link ──► rumqttd's router ──► link ──dispatcher──► queues of the subscribers
//! ```
//!
//! The guards, each against something measured in rumqttd 0.20:
//! - One topic of our own, in ASCII, whatever the messages' topics: a first character outside ASCII panics the
//!   router, and every topic ever seen would stay in its memory.
//! - Messages travel inside batches with their QoS and topic, so the router neither lifts a QoS to the
//!   subscription's nor takes an empty message for the end of a retained one, and its cost is per batch.
//! - One filter, so one small log of its own; clients' filters would each make one that is never freed.
//! - Credit: at most [`CREDIT`] batches are between the two tasks, far fewer than the router's log holds, so it
//!   never drops any in silence.
//! - No listener, no console. A round trip every second; when none came back for too long, or the link breaks,
//!   the task fails and with it the process: a dead router leaves the process alive otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ingest_log::{Chunk, Log, LogError, Reader};
use rumqttd::local::{LinkError, LinkRx, LinkTx};
use rumqttd::{Broker, Config, Notification, RouterConfig};
use service::{BoxError, CancellationToken, Context, Stage};
use tokio::sync::Semaphore;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Fanout, entry};

/// The one topic in use.
const TOPIC: &str = "lastmile/live";
/// First byte of a batch of messages.
const MESSAGES: u8 = 1;
/// First byte of the watchdog's round trip.
const ROUND_TRIP: u8 = 2;
/// Batches between feeder and dispatcher.
const CREDIT: usize = 8;
/// Bytes of records in a batch, unless one record is larger.
const BATCH_BYTES: usize = 64 << 10;

/// Why the live copy cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("the link to the embedded router broke")]
    Link(#[source] Box<LinkError>),
    #[error("the embedded router did not answer for {rounds} rounds of {period_ms} ms")]
    Silent { rounds: u64, period_ms: u128 },
    #[error("the log cannot be read for the live copy")]
    Log(#[from] LogError),
}

impl From<LinkError> for RelayError {
    /// Boxes it: a link error carries the event that was not sent.
    fn from(error: LinkError) -> Self {
        Self::Link(Box::new(error))
    }
}

/// The watchdog's pace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) period: Duration,
    /// Rounds without an answer after which the router counts as dead.
    pub(crate) rounds: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(1),
            rounds: 10,
        }
    }
}

/// Starts rumqttd's router and the tasks on both sides of it.
///
/// # Errors
/// When the router does not take the link.
pub(crate) fn start(
    fanout: &Fanout,
    log: &Log,
    timing: Timing,
    context: &Context,
) -> Result<(), RelayError> {
    start_on(&router(), fanout, log, timing, context)
}

/// Starts rumqttd's router.
fn router() -> Broker {
    Broker::new(Config {
        router: RouterConfig {
            max_connections: 4,
            max_outgoing_packet_count: 2 * CREDIT as u64,
            max_segment_size: 4 << 20,
            max_segment_count: 2,
            ..RouterConfig::default()
        },
        ..Config::default()
    })
}

fn start_on(
    router: &Broker,
    fanout: &Fanout,
    log: &Log,
    timing: Timing,
    context: &Context,
) -> Result<(), RelayError> {
    let (mut sender, receiver) = router.link("lastmile")?;
    sender.subscribe(TOPIC)?;
    let credit = Arc::new(Semaphore::new(CREDIT));
    let answered = Arc::new(AtomicU64::new(0));
    let mut pace = interval(timing.period);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let feeder = Feeder {
        fanout: fanout.clone(),
        log: log.clone(),
        sender,
        credit: Arc::clone(&credit),
        reader: None,
        timing,
        pace,
        asked: 0,
        answered: Arc::clone(&answered),
    };
    let dispatcher = Dispatcher {
        fanout: fanout.clone(),
        receiver,
        credit,
        answered,
    };
    context
        .tasks
        .spawn(Stage::Intake, "live-feeder", |stop| feeder.run(stop));
    context
        .tasks
        .spawn(Stage::Intake, "live-dispatcher", |stop| {
            dispatcher.run(stop)
        });
    Ok(())
}

/// Copies durable messages into the router while somebody wants them, and watches it.
struct Feeder {
    fanout: Fanout,
    log: Log,
    sender: LinkTx,
    credit: Arc<Semaphore>,
    reader: Option<Reader>,
    timing: Timing,
    pace: Interval,
    /// Number of the last round trip that was begun.
    asked: u64,
    /// Number of the last round trip that came back.
    answered: Arc<AtomicU64>,
}

impl Feeder {
    async fn run(mut self, stop: CancellationToken) -> Result<(), BoxError> {
        loop {
            let Self {
                fanout,
                log,
                credit,
                reader,
                pace,
                ..
            } = &mut self;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                _ = pace.tick() => self.ask()?,
                chunk = next(fanout, log, credit, reader) => {
                    let Some(chunk) = chunk? else {
                        // The log was closed; all that is left is to be stopped.
                        stop.cancelled().await;
                        return Ok(());
                    };
                    self.copy(&chunk)?;
                }
            }
        }
    }

    /// Begins a round trip, unless too many are open.
    fn ask(&mut self) -> Result<(), RelayError> {
        let Timing { period, rounds } = self.timing;
        if self.asked - self.answered.load(Ordering::Relaxed) >= rounds {
            return Err(RelayError::Silent {
                rounds,
                period_ms: period.as_millis(),
            });
        }
        self.asked += 1;
        let mut bytes = vec![ROUND_TRIP];
        bytes.extend_from_slice(&self.asked.to_le_bytes());
        self.publish(bytes)
    }

    fn copy(&mut self, chunk: &Chunk) -> Result<(), RelayError> {
        if !self.fanout.goes_on() {
            self.reader = None;
            self.credit.add_permits(1);
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(BATCH_BYTES);
        bytes.push(MESSAGES);
        for record in chunk {
            entry::put(&mut bytes, &record);
        }
        self.publish(bytes)
    }

    fn publish(&mut self, bytes: Vec<u8>) -> Result<(), RelayError> {
        // The router keeps thousands of small batches and counts their length: no capacity beside it.
        let bytes = Bytes::from(bytes.into_boxed_slice());
        self.sender
            .publish(Bytes::from_static(TOPIC.as_bytes()), bytes)?;
        Ok(())
    }
}

/// Waits for interest, credit and records; takes one credit when it returns records.
///
/// # Cancel safety
/// Yes: credit is taken last.
async fn next(
    fanout: &Fanout,
    log: &Log,
    credit: &Semaphore,
    reader: &mut Option<Reader>,
) -> Result<Option<Chunk>, RelayError> {
    loop {
        let reader = match reader {
            Some(reader) => reader,
            None => reader.insert(log.reader(fanout.begun().await)),
        };
        let Ok(permit) = credit.acquire().await else {
            return Ok(None);
        };
        match reader.next_chunk(BATCH_BYTES).await {
            Ok(chunk) => {
                permit.forget();
                return Ok(chunk);
            }
            Err(LogError::Deleted { wanted, first }) => {
                fanout.0.dropped.inc_by(first.saturating_sub(wanted));
                *reader = log.reader(first);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes batches from the router and gives their messages to the subscribers' queues.
struct Dispatcher {
    fanout: Fanout,
    receiver: LinkRx,
    credit: Arc<Semaphore>,
    answered: Arc<AtomicU64>,
}

impl Dispatcher {
    async fn run(mut self, stop: CancellationToken) -> Result<(), BoxError> {
        loop {
            let notification = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                notification = self.receiver.next() => notification.map_err(RelayError::from)?,
            };
            match notification {
                Some(Notification::Forward(forward)) => self.take(&forward.publish.payload),
                // Without this the router would send nothing more.
                Some(Notification::Unschedule) => {
                    self.receiver.ready().map_err(RelayError::from)?;
                }
                _ => {}
            }
        }
    }

    fn take(&self, bytes: &[u8]) {
        match bytes.split_first() {
            Some((&MESSAGES, batch)) => {
                self.fanout.dispatch(batch);
                self.credit.add_permits(1);
            }
            Some((&ROUND_TRIP, number)) => {
                if let Ok(number) = number.try_into() {
                    let number = u64::from_le_bytes(number);
                    self.answered.store(number, Ordering::Relaxed);
                }
            }
            _ => debug_assert!(false, "the router gives what the feeder sent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use ingest_log::{LogConfig, RealDisk};
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    /// Two inputs are known to kill the router and leave the process alive; this is one.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_dead_router_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig::new(dir.path());
        let (log, _) = Log::open(Arc::new(RealDisk), config).unwrap();
        let context = Context::for_tests();
        let fanout = Fanout::new(1000, Counter::default(), Gauge::default());
        let router = router();
        start_on(&router, &fanout, &log, Timing::default(), &context).unwrap();
        let (mut killer, _receiver) = router.link("killer").unwrap();
        killer.publish("é/x", "").unwrap();
        let limit = Duration::from_secs(20);
        let failed = tokio::time::timeout(limit, context.tasks.failed()).await;
        assert!(failed.is_ok(), "nobody noticed");
        assert!(!context.tasks.take_failures().is_empty());
    }

    /// A router that hangs rather than dies: its answers do not come, so the rounds run out.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_silent_router_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig::new(dir.path());
        let (log, _) = Log::open(Arc::new(RealDisk), config).unwrap();
        let (sender, _receiver) = router().link("feeder").unwrap();
        let timing = Timing {
            period: Duration::from_millis(1),
            rounds: 3,
        };
        let feeder = Feeder {
            fanout: Fanout::new(1000, Counter::default(), Gauge::default()),
            log,
            sender,
            credit: Arc::new(Semaphore::new(CREDIT)),
            reader: None,
            timing,
            pace: interval(timing.period),
            asked: 0,
            answered: Arc::default(),
        };
        let error = feeder.run(CancellationToken::new()).await.unwrap_err();
        let error = error.downcast::<RelayError>().unwrap();
        assert!(
            matches!(*error, RelayError::Silent { rounds: 3, .. }),
            "{error}"
        );
    }
}
