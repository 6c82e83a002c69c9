//! Live positions: one feed in, one bounded channel per watched order out.
//!
//! The hub reads the feed once, however many streams are open, and hands a position only to the streams
//! of its order: a position of an order nobody watches costs one look into a table, and nothing at all
//! while no stream is open. A stream that does not keep up loses the oldest positions of its channel
//! and is told so; the hub never waits for anyone.
//!
//! The feed is best effort. What it loses, each stream finds in the store at its next heartbeat.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use model::position::RecencyKey;
use model::{OrderId, Position};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// Positions a stream may be behind before it loses the oldest: at one position a second from each
/// deliverer, half a minute of a reader that stands still.
const STREAM_CAPACITY: usize = 32;

/// Hands out live positions, in batches as they were stored or received.
pub trait LiveFeed: Send + Sync + 'static {
    /// Returns a receiver of every batch from now on.
    fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<Position>>>;
}

/// What a stream receives.
#[derive(Debug, Clone)]
pub(crate) enum LiveEvent {
    /// A position of the order, ready to be sent.
    Position {
        /// Decides whether it is newer than what the stream has sent.
        recency: RecencyKey,
        /// The event as it goes over the wire.
        frame: Bytes,
    },
    /// The feed lost this many batches; positions of the order may be among them.
    Missed(u64),
}

/// The table of watched orders.
#[derive(Debug)]
pub(crate) struct Hub {
    watched: Mutex<HashMap<OrderId, broadcast::Sender<LiveEvent>>>,
    /// How far ahead of its receipt a position may be dated to count as the last, in microseconds.
    max_skew_us: i64,
}

impl Hub {
    /// Makes a hub that passes over positions dated more than `max_skew_us` into the future.
    pub(crate) fn new(max_skew_us: i64) -> Arc<Self> {
        Arc::new(Self {
            watched: Mutex::default(),
            max_skew_us,
        })
    }

    /// Begins to watch an order, until the answer is dropped.
    pub(crate) fn watch(self: &Arc<Self>, order_id: &OrderId) -> Watch {
        let events = match self.table().entry(order_id.clone()) {
            Entry::Occupied(entry) => entry.get().subscribe(),
            Entry::Vacant(entry) => {
                let (sender, events) = broadcast::channel(STREAM_CAPACITY);
                entry.insert(sender);
                events
            }
        };
        Watch {
            hub: Arc::clone(self),
            order_id: order_id.clone(),
            events,
        }
    }

    /// Passes positions from the feed on until `token` is cancelled.
    pub(crate) async fn run(&self, feed: &dyn LiveFeed, token: CancellationToken) {
        let mut batches = feed.subscribe();
        loop {
            let batch = tokio::select! {
                () = token.cancelled() => return,
                batch = batches.recv() => batch,
            };
            match batch {
                Ok(batch) => self.pass_on(&batch),
                Err(RecvError::Lagged(missed)) => self.tell_all(missed),
                // The source has stopped before us, as it does in a graceful stop.
                Err(RecvError::Closed) => return token.cancelled().await,
            }
        }
    }

    fn pass_on(&self, batch: &[Position]) {
        let table = self.table();
        if table.is_empty() {
            return;
        }
        for position in batch {
            let Some(order_id) = &position.order_id else {
                continue;
            };
            let Some(sender) = table.get(order_id) else {
                continue;
            };
            if !position.is_from_the_future(self.max_skew_us) {
                let event = LiveEvent::Position {
                    recency: position.recency(),
                    frame: frame(position),
                };
                // Fails only when the last stream of the order has just gone.
                drop(sender.send(event));
            }
        }
    }

    fn tell_all(&self, missed: u64) {
        tracing::warn!(
            batches = missed,
            "the live feed was too fast; streams re-read the store"
        );
        for sender in self.table().values() {
            drop(sender.send(LiveEvent::Missed(missed)));
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<OrderId, broadcast::Sender<LiveEvent>>> {
        // The table is consistent between any two statements that hold the lock.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's place in the hub.
#[derive(Debug)]
pub(crate) struct Watch {
    hub: Arc<Hub>,
    order_id: OrderId,
    events: broadcast::Receiver<LiveEvent>,
}

impl Watch {
    /// Returns the order watched.
    pub(crate) fn order_id(&self) -> &OrderId {
        &self.order_id
    }

    /// Waits for the next event. A stream that lost events is told how many, and then has none waiting:
    /// it goes on from the newest, which is in the store.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> LiveEvent {
        match self.events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(missed)) => {
                self.events = self.events.resubscribe();
                LiveEvent::Missed(missed)
            }
            // The sender lives in the table as long as this watch does.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut table = self.hub.table();
        if let Entry::Occupied(entry) = table.entry(self.order_id.clone())
            && entry.get().receiver_count() <= 1
        {
            entry.remove();
        }
    }
}

/// Writes a position as a server-sent event.
pub(crate) fn frame(position: &Position) -> Bytes {
    let (event_time, discriminator) = position.recency();
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"event: location\nid: ");
    out.extend_from_slice(format!("{}-{discriminator}", event_time.as_micros()).as_bytes());
    out.extend_from_slice(b"\ndata: ");
    // JSON text as serde_json writes it has no line breaks, which would end the event.
    serde_json::to_writer(&mut out, position)
        .expect("a position is JSON and a Vec takes any bytes");
    out.extend_from_slice(b"\n\n");
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use model::UtcMicros;

    use super::*;

    fn position(order_id: &str, second: i64) -> Position {
        let item = format!(
            r#"{{"order_id":"{order_id}","deliverer_id":1,"timestamp":{second},"lat":1,"lon":2}}"#
        );
        let received = UtcMicros::new(100_000_000).unwrap();
        model::native::parse(&item, None, received).unwrap()
    }

    #[tokio::test]
    async fn a_watch_sees_its_order_only_and_nothing_from_the_future() {
        let hub = Hub::new(1_000_000);
        let mut watch = hub.watch(watch_id());
        hub.pass_on(&[position("other", 1), position("43", 102), position("43", 2)]);
        let LiveEvent::Position { recency, frame } = watch.next().await else {
            panic!("missed")
        };
        assert_eq!(recency, position("43", 2).recency());
        let text = String::from_utf8(frame.to_vec()).unwrap();
        assert!(text.starts_with("event: location\nid: 2000000-") && text.ends_with("}\n\n"));
        assert_eq!(text.matches('\n').count(), 4, "{text}");
    }

    #[tokio::test]
    async fn a_slow_watch_is_told_and_goes_on_from_the_newest() {
        let hub = Hub::new(i64::MAX);
        let mut watch = hub.watch(watch_id());
        for second in 0..100 {
            hub.pass_on(&[position("43", second)]);
        }
        assert!(matches!(watch.next().await, LiveEvent::Missed(68)));
        hub.pass_on(&[position("43", 100)]);
        let LiveEvent::Position { recency, .. } = watch.next().await else {
            panic!("missed again")
        };
        assert_eq!(recency, position("43", 100).recency());
    }

    #[test]
    fn an_order_is_forgotten_with_its_last_watch() {
        let hub = Hub::new(0);
        let (first, second) = (hub.watch(watch_id()), hub.watch(watch_id()));
        drop(first);
        assert_eq!(hub.table().len(), 1);
        drop(second);
        assert!(hub.table().is_empty());
    }

    fn watch_id() -> &'static OrderId {
        static ID: std::sync::LazyLock<OrderId> =
            std::sync::LazyLock::new(|| OrderId::new("43").unwrap());
        &ID
    }
}
