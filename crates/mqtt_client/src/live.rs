//! The live consumer: what is published while it is connected, and nothing from before.
//!
//! Bound: [`LiveOptions::capacity`] messages wait for [`LiveConsumer::next`]; at the bound a new message is
//! dropped and counted, because a live view would rather skip than lag.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rumqttc::{AsyncClient, ConnectionError, Event, Packet, QoS, SubscribeFilter};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{Backoff, ConnectOptions, TaskResult};

/// How a live consumer works.
#[derive(Debug, Clone)]
pub struct LiveOptions {
    /// How it connects. The client id must differ from every other client's.
    pub connect: ConnectOptions,
    /// What it subscribes to, with QoS 0.
    pub filters: Vec<String>,
    /// Most messages that wait for [`LiveConsumer::next`]; default 4,096.
    pub capacity: usize,
}

impl LiveOptions {
    /// Takes how to connect and what to subscribe to; the rest is default.
    pub fn new<F: Into<String>>(
        connect: ConnectOptions,
        filters: impl IntoIterator<Item = F>,
    ) -> Self {
        Self {
            connect,
            filters: filters.into_iter().map(Into::into).collect(),
            capacity: 4_096,
        }
    }
}

/// A message as the broker delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveMessage {
    /// The topic it was published on.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
    /// It is a retained message from before the subscription.
    pub retain: bool,
}

/// Receives live messages.
#[derive(Debug)]
pub struct LiveConsumer {
    messages: mpsc::Receiver<LiveMessage>,
    dropped: Arc<AtomicU64>,
    connected: watch::Receiver<bool>,
}

/// Does a [`LiveConsumer`]'s work while it runs.
#[derive(Debug)]
pub struct LiveTask {
    options: LiveOptions,
    messages: mpsc::Sender<LiveMessage>,
    dropped: Arc<AtomicU64>,
    connected: watch::Sender<bool>,
}

impl LiveConsumer {
    /// Makes a live consumer and the task that must be run for anything to happen.
    pub fn new(options: LiveOptions) -> (Self, LiveTask) {
        let (sender, messages) = mpsc::channel(options.capacity.max(1));
        let (connected_sender, connected) = watch::channel(false);
        let dropped = Arc::new(AtomicU64::new(0));
        let consumer = Self {
            messages,
            dropped: Arc::clone(&dropped),
            connected,
        };
        let task = LiveTask {
            options,
            messages: sender,
            dropped,
            connected: connected_sender,
        };
        (consumer, task)
    }

    /// Waits for the next message; `None` once the task has ended and all were taken.
    ///
    /// # Cancel safety
    /// No message is lost when the call is dropped.
    pub async fn next(&mut self) -> Option<LiveMessage> {
        self.messages.recv().await
    }

    /// Returns how many messages were dropped because nobody took them in time.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Follows whether the broker is connected and has answered the subscription.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }
}

impl LiveTask {
    /// Runs until `stop`, or until the [`LiveConsumer`] is dropped.
    ///
    /// # Errors
    /// Never: a broker that cannot be reached is waited for.
    pub async fn run(self, stop: CancellationToken) -> TaskResult {
        tokio::select! {
            () = self.follow() => {}
            () = stop.cancelled() => {}
            () = self.messages.closed() => {}
        }
        self.connected.send_replace(false);
        Ok(())
    }

    async fn follow(&self) {
        let mut backoff = Backoff::default();
        loop {
            let error = self.connection(&mut backoff).await;
            self.connected.send_replace(false);
            let delay = backoff.next_delay();
            if backoff.failures() == 1 {
                tracing::warn!(%error, delay_ms = delay.as_millis(), "mqtt connection lost, reconnecting");
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn connection(&self, backoff: &mut Backoff) -> ConnectionError {
        let (client, mut events) = AsyncClient::new(self.options.connect.to_rumqttc(true), 8);
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    let filters = self.options.filters.iter();
                    let filters =
                        filters.map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtMostOnce));
                    if client.try_subscribe_many(filters).is_err() {
                        tracing::warn!("a live filter is not a valid mqtt filter");
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    backoff.reset();
                    self.connected.send_replace(true);
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let message = LiveMessage {
                        topic: publish.topic,
                        payload: publish.payload,
                        retain: publish.retain,
                    };
                    if self.messages.try_send(message).is_err() {
                        self.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }
}
