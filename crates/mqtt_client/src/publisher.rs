//! The publisher: an outbox in front of rumqttc.
//!
//! Invariant: a message that [`Publisher::publish`] took is in the outbox until its PUBACK has come (QoS
//! 0: until it was handed to the socket). Whatever happens to a connection, the next one begins by
//! sending the whole outbox again, in order, from a new rumqttc client: the old one's own queue is not
//! trusted. A message may thus arrive more than once; the receivers of this project tell by its content.
//!
//! Bound: the outbox holds [`PublisherOptions::capacity_bytes`]; at the bound `publish` waits. It lives in
//! memory: a message whose [`Receipt`] has not resolved is lost with the process, and nobody was told
//! otherwise.
//!
//! Sent-again messages carry no DUP mark: each connection has a clean session, to which they are new.

mod driver;
mod outbox;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

pub use driver::PublisherTask;

use crate::{ConnectOptions, Qos};
use outbox::Entry;

/// Charged to the outbox for each message beside its topic and payload: what keeping it costs.
const ENTRY_BYTES: usize = 256;
/// Messages on their way from `publish` to the task; the outbox behind it is the real bound.
const HANDOVER: usize = 1_024;

/// Called with the time from `publish` to PUBACK of each message.
pub type OnAck = Arc<dyn Fn(Duration) + Send + Sync>;

/// How a publisher works.
#[derive(Clone)]
pub struct PublisherOptions {
    /// How it connects.
    pub connect: ConnectOptions,
    /// Bound of the outbox in bytes of topics and payloads, plus 256 for each message; default 64 MiB.
    pub capacity_bytes: usize,
    /// How long the task goes on for outstanding PUBACKs once it is told to stop; default 5 s.
    pub drain_timeout: Duration,
    /// Called on each PUBACK, from the task: it must not block. Default nothing.
    pub on_ack: Option<OnAck>,
    /// Negative control of the tests: forgets what is unacknowledged when a connection is lost.
    #[doc(hidden)]
    #[cfg(debug_assertions)]
    pub forget_on_reconnect: bool,
}

impl PublisherOptions {
    /// Takes how to connect; the rest is default.
    pub fn new(connect: ConnectOptions) -> Self {
        Self {
            connect,
            capacity_bytes: 64 * 1024 * 1024,
            drain_timeout: Duration::from_secs(5),
            on_ack: None,
            #[cfg(debug_assertions)]
            forget_on_reconnect: false,
        }
    }
}

impl fmt::Debug for PublisherOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherOptions")
            .field("connect", &self.connect)
            .field("capacity_bytes", &self.capacity_bytes)
            .field("drain_timeout", &self.drain_timeout)
            .finish_non_exhaustive()
    }
}

/// What a publisher has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublisherStats {
    /// Messages taken by `publish`.
    pub published: u64,
    /// Messages acknowledged (QoS 0: handed to the socket).
    pub acked: u64,
    /// Messages sent again on a later connection; one message may count several times.
    pub resent: u64,
    /// Connections made after the first.
    pub reconnects: u64,
}

#[derive(Debug, Default)]
struct Counters {
    published: AtomicU64,
    acked: AtomicU64,
    resent: AtomicU64,
    connections: AtomicU64,
    /// Wakes the task when a message was acknowledged.
    progress: Notify,
}

/// Publishes messages and tells when each was acknowledged. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    queue: mpsc::Sender<Entry>,
    room: Arc<Semaphore>,
    counters: Arc<Counters>,
    connected: watch::Receiver<bool>,
    capacity_bytes: usize,
    max_packet_size: usize,
}

/// Says why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The publisher's task has ended or is about to.
    #[error("the publisher has stopped")]
    Stopped,
    /// The topic is empty, longer than 65,535 bytes, or holds a wildcard or NUL.
    #[error("the topic is empty, too long, or holds `+`, `#` or NUL")]
    Topic,
    /// The message is larger than a packet or the outbox may be.
    #[error("the message has {size} bytes and may have at most {limit}")]
    TooLarge {
        /// Size of topic and payload, in bytes.
        size: usize,
        /// What fits, in bytes.
        limit: usize,
    },
    /// Nothing here publishes with QoS 2; QoS 1 and a deterministic identity serve the same end.
    #[error("QoS 2 is not supported; publish with QoS 1")]
    Qos,
}

impl Publisher {
    /// Makes a publisher and the task that must be run for anything to happen.
    pub fn new(options: PublisherOptions) -> (Self, PublisherTask) {
        let (sender, queue) = mpsc::channel(HANDOVER);
        let (connected_sender, connected) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let capacity_bytes = options.capacity_bytes.min(Semaphore::MAX_PERMITS);
        let publisher = Self {
            queue: sender,
            room: Arc::new(Semaphore::new(capacity_bytes)),
            counters: Arc::clone(&counters),
            connected,
            capacity_bytes,
            max_packet_size: options.connect.max_packet_size,
        };
        let task = PublisherTask::new(options, queue, counters, connected_sender);
        (publisher, task)
    }

    /// Takes a message into the outbox, waiting for room; the receipt resolves on its PUBACK.
    ///
    /// Messages of one caller go out in the order of its calls.
    ///
    /// # Errors
    /// [`PublishError`] when the message can never be sent or the task has stopped.
    ///
    /// # Cancel safety
    /// A message whose call is dropped before it returned is not sent.
    pub async fn publish(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Bytes>,
        qos: Qos,
    ) -> Result<Receipt, PublishError> {
        let (topic, payload) = (topic.into(), payload.into());
        let cost = self.check(&topic, &payload, qos)?;
        let room = Arc::clone(&self.room);
        let room = room
            .acquire_many_owned(cost)
            .await
            .map_err(|_| PublishError::Stopped)?;
        let (reply, receipt) = oneshot::channel();
        let place = self
            .queue
            .reserve()
            .await
            .map_err(|_| PublishError::Stopped)?;
        self.counters.published.fetch_add(1, Ordering::Relaxed);
        place.send(Entry::new(topic, payload, qos, reply, room));
        Ok(Receipt(receipt))
    }

    /// Returns what the message costs in the outbox.
    fn check(&self, topic: &str, payload: &Bytes, qos: Qos) -> Result<u32, PublishError> {
        if qos == Qos::ExactlyOnce {
            return Err(PublishError::Qos);
        }
        if topic.is_empty()
            || topic.len() > usize::from(u16::MAX)
            || topic.contains(['+', '#', '\0'])
        {
            return Err(PublishError::Topic);
        }
        // A packet over the limit would break every connection it is sent on, so it must not get that
        // far. Fixed header, topic length and packet id take at most 9 bytes.
        let size = topic.len() + payload.len();
        let limit = self
            .max_packet_size
            .min(self.capacity_bytes.saturating_sub(ENTRY_BYTES))
            .saturating_sub(9);
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        u32::try_from(size + ENTRY_BYTES).map_err(|_| PublishError::TooLarge { size, limit })
    }

    /// Returns what has been done so far.
    pub fn stats(&self) -> PublisherStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PublisherStats {
            published: read(&self.counters.published),
            acked: read(&self.counters.acked),
            resent: read(&self.counters.resent),
            reconnects: read(&self.counters.connections).saturating_sub(1),
        }
    }

    /// Follows whether the broker is connected.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }
}

/// Resolves when the message was acknowledged. Dropping it is fine: the message is sent all the same.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<()>);

/// The publisher stopped before the message was acknowledged; it may or may not have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the publisher stopped before the broker acknowledged the message")]
pub struct NotAcked;

impl Future for Receipt {
    type Output = Result<(), NotAcked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| NotAcked)
    }
}
