//! The consumer: a persistent session whose messages are acknowledged by whoever made them durable.
//!
//! Invariant: a PUBACK leaves only after [`Consumer::ack_through`] named the message, in the order the
//! broker sent them. What is unacknowledged when a connection is lost is sent again by the broker on the
//! next one, so the same message may be seen twice; acks of an older connection are then ignored.
//!
//! Filters are subscribed again on every connection, because a broker may have forgotten the session. What
//! is done where shared subscriptions may or may not be had is in [`subscribing`].
//!
//! Bound: [`ConsumerOptions::capacity`] bytes wait for [`Consumer::next`], and one read and one packet more.
//! At the bound the socket is no longer read: the broker's own queue or log takes over. Pings go on, so the
//! connection lasts unless the broker ends it for not being read from; then the next one is made when there
//! is room, and what was taken meanwhile is kept: it is stored, and its redelivery is a duplicate.

mod connection;
mod driver;
mod queue;
mod subscribing;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::DropGuard;

pub use driver::ConsumerTask;

use driver::Side;
use queue::Queue;

use crate::{ConnectOptions, Qos};

/// How a consumer works.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// How it connects; the client id names the session.
    pub connect: ConnectOptions,
    /// What it subscribes to, with QoS 1; `$share/<group>/<filter>` where the broker knows shared
    /// subscriptions.
    pub filters: Vec<String>,
    /// What it subscribes to where the broker refuses `filters`. A session of an earlier day may have these:
    /// they are given up once `filters` are granted, which take their place. Default none.
    pub instead: Vec<String>,
    /// Most bytes of messages that wait for [`Consumer::next`], their place in memory included; default
    /// 16 MiB.
    pub capacity: usize,
}

impl ConsumerOptions {
    /// Takes how to connect and what to subscribe to; the rest is default.
    pub fn new<F: Into<String>>(
        connect: ConnectOptions,
        filters: impl IntoIterator<Item = F>,
    ) -> Self {
        Self {
            connect,
            filters: filters.into_iter().map(Into::into).collect(),
            instead: Vec::new(),
            capacity: 16 << 20,
        }
    }
}

/// Names a message's place in the order of its connection. A later message has a greater token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AckToken {
    /// Which connection, from 1.
    connection: u64,
    /// Which message of it, from 1.
    index: u64,
}

/// A message as the broker delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic it was published on.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
    /// The QoS it was delivered with; at 0 it is not acknowledged and not sent again.
    pub qos: Qos,
    /// It is a retained message from before the subscription.
    pub retain: bool,
    /// The broker says that it was sent before. A broker need not say so.
    pub dup: bool,
    /// For [`Consumer::ack_through`].
    pub token: AckToken,
}

/// Whether a consumer's messages can come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Connected and subscribed.
    Up,
    /// Not, and why not.
    Down(String),
}

/// Why a broker will not deliver what is asked for; asking again is no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// It answered the subscription with a failure.
    #[error("the broker refused the subscription to {filter:?}")]
    Refused {
        /// What was asked for.
        filter: String,
    },
    /// It granted QoS 0 where 1 was asked for, and would lose what is sent while this client is away.
    #[error(
        "the broker grants only QoS 0 for {filter:?}, which loses messages; it must grant QoS 1"
    )]
    Downgraded {
        /// What was asked for.
        filter: String,
    },
}

/// What a consumer has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConsumerStats {
    /// Messages received, redeliveries included.
    pub received: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Connections made after the first.
    pub reconnects: u64,
}

#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    acked: AtomicU64,
    connections: AtomicU64,
}

/// Receives messages and acknowledges them once they are durable.
#[derive(Debug)]
pub struct Consumer {
    queue: Arc<Queue>,
    acks: AckHandle,
    counters: Arc<Counters>,
    connected: watch::Receiver<bool>,
    link: watch::Receiver<Link>,
    _abandon: DropGuard,
}

/// Acknowledges messages of a [`Consumer`]; cheap to clone, so that the task that stores can hold it.
#[derive(Debug, Clone)]
pub struct AckHandle(Arc<watch::Sender<AckToken>>);

impl AckHandle {
    /// Acknowledges the message with this token and all before it of the same connection.
    ///
    /// Returns at once. A token of an earlier connection, or one below an earlier call's, has no effect.
    pub fn ack_through(&self, token: AckToken) {
        self.0.send_if_modified(|through| {
            let later = token > *through;
            if later {
                *through = token;
            }
            later
        });
    }
}

impl Consumer {
    /// Makes a consumer and the task that must be run for anything to happen.
    pub fn new(options: ConsumerOptions) -> (Self, ConsumerTask) {
        let queue = Arc::new(Queue::new(options.capacity));
        let (connected_sender, connected) = watch::channel(false);
        let (link_sender, link) = watch::channel(Link::Down("not connected yet".to_owned()));
        let (ack_sender, ack_receiver) = watch::channel(AckToken::default());
        let counters = Arc::new(Counters::default());
        let consumer = Self {
            queue: Arc::clone(&queue),
            acks: AckHandle(Arc::new(ack_sender)),
            counters: Arc::clone(&counters),
            connected,
            link,
            _abandon: queue.abandoned.clone().drop_guard(),
        };
        let side = Side {
            options,
            queue,
            counters,
            connected: connected_sender,
            link: link_sender,
        };
        (consumer, ConsumerTask::new(side, ack_receiver))
    }

    /// Waits for the next message; `None` once the task has ended and all were taken.
    ///
    /// # Cancel safety
    /// No message is lost when the call is dropped.
    pub async fn next(&mut self) -> Option<Message> {
        let mut one = Vec::with_capacity(1);
        self.queue.take(&mut one, 1, usize::MAX).await;
        one.pop()
    }

    /// Returns a message that is already here.
    pub fn try_next(&mut self) -> Option<Message> {
        let mut one = Vec::with_capacity(1);
        self.queue.try_take(&mut one, 1, usize::MAX);
        one.pop()
    }

    /// Waits for messages and moves up to `limit` of them to `batch`, and no more once they take `bytes`;
    /// returns how many, 0 at the end.
    ///
    /// # Cancel safety
    /// No message is lost when the call is dropped.
    pub async fn next_batch(
        &mut self,
        batch: &mut Vec<Message>,
        limit: usize,
        bytes: usize,
    ) -> usize {
        self.queue.take(batch, limit, bytes).await
    }

    /// Acknowledges the message with this token and all before it; see [`AckHandle::ack_through`].
    pub fn ack_through(&self, token: AckToken) {
        self.acks.ack_through(token);
    }

    /// Returns a handle that acknowledges from elsewhere.
    pub fn ack_handle(&self) -> AckHandle {
        self.acks.clone()
    }

    /// Returns what has been done so far.
    pub fn stats(&self) -> ConsumerStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ConsumerStats {
            received: read(&self.counters.received),
            acked: read(&self.counters.acked),
            reconnects: read(&self.counters.connections).saturating_sub(1),
        }
    }

    /// Follows whether the broker is connected and has granted the subscriptions.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Follows whether messages can come and, if not, why.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }
}
