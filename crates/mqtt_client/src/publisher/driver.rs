//! The publisher's task: connects, sends the outbox, takes PUBACKs, and does it all again.
//!
//! Two futures share the task. One waits on rumqttc's bounded request channel, the other polls the event
//! loop that empties it; neither may wait inside the other, and a poll is never dropped half way while
//! its connection is used, because rumqttc's poll is not cancel safe.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Outgoing, Packet};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::outbox::{Entry, Outbox, Sending};
use super::{Counters, PublisherOptions};
use crate::{Backoff, Qos, TaskResult};

/// Requests rumqttc may hold; small, because the outbox is the buffer.
const REQUESTS: usize = 64;

/// Does a [`super::Publisher`]'s work while it runs.
#[derive(Debug)]
pub struct PublisherTask {
    options: PublisherOptions,
    queue: mpsc::Receiver<Entry>,
    outbox: Mutex<Outbox>,
    counters: Arc<Counters>,
    connected: watch::Sender<bool>,
}

/// How a connection ended.
enum End {
    /// No message will come and none is unacknowledged.
    Drained,
    /// The connection was lost or could not be made.
    Lost(Box<ConnectionError>),
}

impl PublisherTask {
    pub(super) fn new(
        options: PublisherOptions,
        queue: mpsc::Receiver<Entry>,
        counters: Arc<Counters>,
        connected: watch::Sender<bool>,
    ) -> Self {
        Self {
            options,
            queue,
            outbox: Mutex::default(),
            counters,
            connected,
        }
    }

    /// Runs until `stop`, then takes no more messages and ends when all are acknowledged, or after
    /// [`PublisherOptions::drain_timeout`]. Also ends when every [`super::Publisher`] is dropped and all
    /// messages are acknowledged.
    ///
    /// # Errors
    /// Never: a broker that cannot be reached is waited for.
    pub async fn run(mut self, stop: CancellationToken) -> TaskResult {
        let drain_timeout = self.options.drain_timeout;
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(drain_timeout).await;
        };
        let finished = tokio::select! {
            () = self.connect_until_drained(&stop) => true,
            () = deadline => false,
        };
        if !finished {
            let outstanding = lock(&self.outbox).len();
            tracing::warn!(
                outstanding,
                "stopped before the broker acknowledged all messages"
            );
        }
        self.connected.send_replace(false);
        Ok(())
    }

    async fn connect_until_drained(&mut self, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let acked_before = self.counters.acked.load(Ordering::Relaxed);
            let end = self.connection(stop).await;
            self.connected.send_replace(false);
            let End::Lost(error) = end else { return };
            // A broker that takes the connection and drops it at the first message must not be hammered:
            // only a PUBACK counts as success.
            if self.counters.acked.load(Ordering::Relaxed) > acked_before {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            if backoff.failures() == 1 {
                let error = *error;
                tracing::warn!(%error, delay_ms = delay.as_millis(), "mqtt connection lost, reconnecting");
            }
            #[cfg(debug_assertions)]
            if self.options.forget_on_reconnect {
                lock(&self.outbox).forget();
            }
            if stop.is_cancelled() {
                self.queue.close();
                if lock(&self.outbox).is_empty() && self.queue.is_empty() {
                    return;
                }
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// Makes a connection and serves it to its end.
    async fn connection(&mut self, stop: &CancellationToken) -> End {
        let options = self.options.connect.to_rumqttc(true);
        let (client, mut events) = AsyncClient::new(options, REQUESTS);
        events.network_options.set_tcp_nodelay(true);
        if let Err(error) = connack(&mut events).await {
            return End::Lost(Box::new(error));
        }
        self.connected.send_replace(true);
        let connections = self.counters.connections.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(connections, "mqtt publisher connected");

        let (resend, again) = lock(&self.outbox).begin_connection();
        self.counters.resent.fetch_add(again, Ordering::Relaxed);
        let outbox = &self.outbox;
        let queue = &mut self.queue;
        let feed = async {
            for sending in resend {
                submit(&client, outbox, sending).await;
            }
            loop {
                let entry = tokio::select! {
                    biased;
                    entry = queue.recv() => entry,
                    () = stop.cancelled(), if !queue.is_closed() => {
                        queue.close();
                        continue;
                    }
                };
                let Some(entry) = entry else { return };
                let sending = lock(outbox).keep(entry);
                submit(&client, outbox, sending).await;
            }
        };
        let acks = serve(&mut events, outbox, &self.counters, &self.options);
        tokio::pin!(feed, acks);
        tokio::select! {
            error = &mut acks => return End::Lost(Box::new(error)),
            () = &mut feed => {}
        }
        // Nothing more will come: what is left are the PUBACKs.
        let progress = &self.counters;
        let drained = async {
            while !lock(outbox).is_empty() {
                progress.progress.notified().await;
            }
        };
        tokio::select! {
            error = &mut acks => End::Lost(Box::new(error)),
            () = drained => End::Drained,
        }
    }
}

/// Waits for the connection to be accepted.
async fn connack(events: &mut EventLoop) -> Result<(), ConnectionError> {
    loop {
        if let Event::Incoming(Packet::ConnAck(_)) = events.poll().await? {
            return Ok(());
        }
    }
}

/// Gives a message to rumqttc. An error means that its event loop is gone, which the other future sees.
async fn submit(client: &AsyncClient, outbox: &Mutex<Outbox>, sending: Sending) {
    lock(outbox).submit(sending.number);
    let qos = match sending.qos {
        Qos::AtMostOnce => rumqttc::QoS::AtMostOnce,
        Qos::AtLeastOnce | Qos::ExactlyOnce => rumqttc::QoS::AtLeastOnce,
    };
    let sent = client
        .publish_bytes(sending.topic, qos, false, sending.payload)
        .await;
    if sent.is_err() {
        tracing::debug!("the mqtt event loop ended while a message was handed to it");
    }
}

/// Polls the event loop until it fails.
async fn serve(
    events: &mut EventLoop,
    outbox: &Mutex<Outbox>,
    counters: &Counters,
    options: &PublisherOptions,
) -> ConnectionError {
    loop {
        let done = match events.poll().await {
            Ok(Event::Outgoing(Outgoing::Publish(packet_id))) => lock(outbox).sent(packet_id),
            Ok(Event::Incoming(Packet::PubAck(ack))) => lock(outbox).acked(ack.pkid),
            Ok(_) => None,
            Err(error) => return error,
        };
        if let Some(waited) = done {
            counters.acked.fetch_add(1, Ordering::Relaxed);
            counters.progress.notify_one();
            if let Some(on_ack) = &options.on_ack {
                on_ack(waited);
            }
        }
    }
}

/// Locks the outbox; it is never held across an await, and by one task only.
fn lock(outbox: &Mutex<Outbox>) -> MutexGuard<'_, Outbox> {
    outbox.lock().unwrap_or_else(PoisonError::into_inner)
}
