//! The consumer's task: connects, subscribes, hands messages on, and sends the acks it is told to.
//!
//! As in the publisher two futures share the task, because an ack goes through rumqttc's bounded request
//! channel: waiting for room there while not polling would never end.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Packet, Publish, QoS, SubscribeFilter,
    SubscribeReasonCode,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{AckToken, ConsumerOptions, Counters, Message};
use crate::{Backoff, TaskResult};

/// Requests (acks, mostly) rumqttc may hold.
const REQUESTS: usize = 1_024;

/// Does a [`super::Consumer`]'s work while it runs.
#[derive(Debug)]
pub struct ConsumerTask {
    options: ConsumerOptions,
    messages: mpsc::Sender<Message>,
    acks: watch::Receiver<AckToken>,
    counters: Arc<Counters>,
    connected: watch::Sender<bool>,
    connection: u64,
}

/// How a connection ended.
enum End {
    /// The handle is gone or the stop was asked for.
    Stopped,
    /// The connection was lost, could not be made, or the broker refused a filter.
    Lost(Lost),
}

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("the broker refused the subscription to {0:?}")]
    Refused(String),
}

/// What may still be acknowledged on this connection, in the order received. Messages with QoS 0 have
/// no place here.
type Unacked = Mutex<VecDeque<(u64, Publish)>>;

impl ConsumerTask {
    pub(super) fn new(
        options: ConsumerOptions,
        messages: mpsc::Sender<Message>,
        acks: watch::Receiver<AckToken>,
        counters: Arc<Counters>,
        connected: watch::Sender<bool>,
    ) -> Self {
        Self {
            options,
            messages,
            acks,
            counters,
            connected,
            connection: 0,
        }
    }

    /// Runs until `stop`, or until the [`super::Consumer`] is dropped. Acks named before `stop` are sent
    /// first; the session and what is unacknowledged stay with the broker.
    ///
    /// # Errors
    /// Never: a broker that cannot be reached is waited for.
    pub async fn run(mut self, stop: CancellationToken) -> TaskResult {
        let mut backoff = Backoff::default();
        loop {
            let received_before = self.counters.received.load(Ordering::Relaxed);
            let end = self.connection(&stop).await;
            self.connected.send_replace(false);
            let End::Lost(error) = end else { return Ok(()) };
            if self.counters.received.load(Ordering::Relaxed) > received_before {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            if backoff.failures() == 1 {
                tracing::warn!(%error, delay_ms = delay.as_millis(), "mqtt connection lost, reconnecting");
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => return Ok(()),
                () = self.messages.closed() => return Ok(()),
            }
        }
    }

    /// Makes a connection and serves it to its end.
    async fn connection(&mut self, stop: &CancellationToken) -> End {
        self.connection += 1;
        let (client, mut events) =
            AsyncClient::new(self.options.connect.to_rumqttc(false), REQUESTS);
        events.network_options.set_tcp_nodelay(true);
        let unacked = Unacked::default();
        let received = receive(&mut events, self, &client, &unacked);
        let acks = send_acks(
            self.acks.clone(),
            self.connection,
            &client,
            &unacked,
            &self.counters,
        );
        tokio::pin!(received);
        let end = tokio::select! {
            lost = &mut received => return End::Lost(lost),
            () = acks => End::Stopped,
            () = stop.cancelled() => End::Stopped,
            () = self.messages.closed() => End::Stopped,
        };
        // Acks that were named but not sent would cost redeliveries: one more try, as long as the broker
        // takes them at once.
        let last = async {
            let through = *self.acks.borrow();
            send_through(through, self.connection, &client, &unacked, &self.counters).await;
            drop(client.disconnect().await);
            std::future::pending::<()>().await;
        };
        let patience = tokio::time::sleep(std::time::Duration::from_secs(1));
        tokio::select! {
            lost = &mut received => tracing::debug!(%lost, "mqtt consumer disconnected"),
            () = last => {}
            () = patience => {}
        }
        end
    }
}

/// Polls the event loop until it fails: subscribes on CONNACK, hands messages on.
async fn receive(
    events: &mut EventLoop,
    task: &ConsumerTask,
    client: &AsyncClient,
    unacked: &Unacked,
) -> Lost {
    let mut index = 0;
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                let session_present = connack.session_present;
                task.counters.connections.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(session_present, "mqtt consumer connected");
                let filters = task.options.filters.iter();
                let filters =
                    filters.map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
                // The channel is new and empty, so this needs no waiting.
                if client.try_subscribe_many(filters).is_err() {
                    return Lost::Refused(task.options.filters.join(", "));
                }
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                let codes = suback.return_codes.iter().zip(&task.options.filters);
                for (code, filter) in codes {
                    if *code == SubscribeReasonCode::Failure {
                        return Lost::Refused(filter.clone());
                    }
                }
                task.connected.send_replace(true);
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                index += 1;
                task.counters.received.fetch_add(1, Ordering::Relaxed);
                let token = AckToken {
                    connection: task.connection,
                    index,
                };
                let message = Message {
                    topic: publish.topic.clone(),
                    payload: publish.payload.clone(),
                    qos: publish.qos.into(),
                    retain: publish.retain,
                    dup: publish.dup,
                    token,
                };
                if publish.qos != QoS::AtMostOnce {
                    // The ack needs the packet id only.
                    let stub = Publish {
                        payload: bytes::Bytes::new(),
                        topic: String::new(),
                        ..publish
                    };
                    lock(unacked).push_back((index, stub));
                }
                if task.messages.send(message).await.is_err() {
                    // The handle is gone and the task about to end. Polling goes on so that the last acks
                    // get out; this message stays unacknowledged and with the broker.
                    tracing::trace!("a message came after the consumer was dropped");
                }
            }
            Ok(_) => {}
            Err(error) => return Lost::Connection(error),
        }
    }
}

/// Sends acks as they are named, until nobody can name any more.
async fn send_acks(
    mut acks: watch::Receiver<AckToken>,
    connection: u64,
    client: &AsyncClient,
    unacked: &Unacked,
    counters: &Counters,
) {
    loop {
        let through = *acks.borrow_and_update();
        send_through(through, connection, client, unacked, counters).await;
        if acks.changed().await.is_err() {
            return;
        }
    }
}

/// Sends the acks up to `through`, in order.
///
/// # Cancel safety
/// An ack is taken off the list only after rumqttc has it.
async fn send_through(
    through: AckToken,
    connection: u64,
    client: &AsyncClient,
    unacked: &Unacked,
    counters: &Counters,
) {
    if through.connection != connection {
        return;
    }
    loop {
        let next = lock(unacked)
            .front()
            .filter(|(index, _)| *index <= through.index)
            .cloned();
        let Some((_, publish)) = next else { return };
        if client.ack(&publish).await.is_err() {
            return;
        }
        lock(unacked).pop_front();
        counters.acked.fetch_add(1, Ordering::Relaxed);
    }
}

/// Locks the list; it is never held across an await, and by one task only.
fn lock(unacked: &Unacked) -> MutexGuard<'_, VecDeque<(u64, Publish)>> {
    unacked.lock().unwrap_or_else(PoisonError::into_inner)
}
