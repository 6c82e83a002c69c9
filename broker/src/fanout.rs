//! The live copy for clean-session subscribers: best effort, from memory, through the embedded rumqttd.
//!
//! Invariants: what is copied was durable before; a slow subscriber costs only its own messages, which are
//! counted; with no subscriber nothing is read and nothing is copied.
//!
//! Nothing durable lives here. How rumqttd is kept from what it does badly stands in [`relay`].

mod entry;
mod queue;
mod relay;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ingest_log::Record;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use self::entry::{Entries, Entry};
use self::queue::{Queue, Taken};
pub(crate) use self::relay::{RelayError, Timing, start};
use crate::connection::outbound::Outbound;
use crate::protocol::filter_index::FilterIndex;
use crate::session::Options;

/// Who wants what. Cheap to clone; all clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Fanout(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue_bytes: usize,
    dropped: Counter,
    subscriptions: Gauge,
    next_id: AtomicU64,
    state: Mutex<State>,
    /// Rung when the feeder has a reason to begin.
    wake: Notify,
}

#[derive(Debug)]
struct State {
    filters: FilterIndex<u64, Wanted>,
    queues: HashMap<u64, Arc<Queue>>,
    /// Number of filters.
    wanted: usize,
    /// Where the feeder is to begin; it sleeps while this is `None` and `idle`.
    begin: Option<u64>,
    idle: bool,
}

#[derive(Debug, Clone)]
struct Wanted {
    options: Options,
    /// Whose messages are not for it.
    except: Option<Arc<str>>,
    since: u64,
}

/// One clean-session subscriber; its subscriptions end with the drop.
#[derive(Debug)]
pub(crate) struct LiveSubscriber {
    fanout: Fanout,
    client_id: Arc<str>,
    id: u64,
    queue: Arc<Queue>,
    taken: Taken,
    filters: Vec<String>,
}

impl Fanout {
    pub(crate) fn new(queue_bytes: usize, dropped: Counter, subscriptions: Gauge) -> Self {
        Self(Arc::new(Shared {
            queue_bytes,
            dropped,
            subscriptions,
            next_id: AtomicU64::new(0),
            state: Mutex::new(State {
                filters: FilterIndex::default(),
                queues: HashMap::new(),
                wanted: 0,
                begin: None,
                idle: true,
            }),
            wake: Notify::new(),
        }))
    }

    /// Makes a subscriber without subscriptions.
    pub(crate) fn subscriber(&self, client_id: &Arc<str>) -> LiveSubscriber {
        LiveSubscriber {
            fanout: self.clone(),
            client_id: Arc::clone(client_id),
            id: self.0.next_id.fetch_add(1, Ordering::Relaxed),
            queue: Arc::new(Queue::new(self.0.queue_bytes, self.0.dropped.clone())),
            taken: Taken::default(),
            filters: Vec::new(),
        }
    }

    /// Waits until somebody wants something; returns from which sequence on.
    async fn begun(&self) -> u64 {
        loop {
            {
                let mut state = self.lock();
                if let Some(begin) = state.begin.take() {
                    state.idle = false;
                    return begin;
                }
            }
            self.0.wake.notified().await;
        }
    }

    /// Tells whether the feeder is to go on; if not, it counts as idle from now on.
    fn goes_on(&self) -> bool {
        let mut state = self.lock();
        state.idle = state.wanted == 0;
        !state.idle
    }

    /// Gives a message of the broker's own, which is in no log, to those who want it.
    pub(crate) fn announce(&self, record: &Record<'_>) {
        let mut batch = Vec::new();
        entry::put(&mut batch, record);
        self.dispatch(&batch);
    }

    /// Gives each message to those who want it, once each, with the highest QoS any of their filters has and the
    /// identifiers of all of them.
    fn dispatch(&self, batch: &[u8]) {
        let state = self.lock();
        let mut touched: Vec<u64> = Vec::new();
        let mut matches: Vec<(u64, Options)> = Vec::new();
        for entry in Entries(batch) {
            matches.clear();
            state.filters.for_each_match(entry.topic, |id, wanted| {
                let except = wanted.except.as_deref().map(str::as_bytes);
                if entry.seq >= wanted.since && except != Some(entry.tail) {
                    matches.push((*id, wanted.options));
                }
            });
            deliver(&state, &entry, &mut matches, &mut touched);
        }
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            if let Some(queue) = state.queues.get(&id) {
                queue.announce();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn deliver(
    state: &State,
    entry: &Entry<'_>,
    matches: &mut [(u64, Options)],
    touched: &mut Vec<u64>,
) {
    matches.sort_unstable_by_key(|(id, _)| *id);
    for of_one in matches.chunk_by(|one, other| one.0 == other.0) {
        let Some((id, queue)) = of_one
            .first()
            .and_then(|(id, _)| state.queues.get_key_value(id))
        else {
            continue;
        };
        let options = || of_one.iter().map(|(_, options)| options);
        let granted = options().map(|options| options.qos).max();
        let retain = entry.retain && options().any(|options| options.retain_as_published);
        let ids: Vec<u32> = options().filter_map(|options| options.id).collect();
        let qos = entry.qos.min(granted.unwrap_or_default());
        queue.push(entry, qos, retain, &ids);
        if touched.last() != Some(id) {
            touched.push(*id);
        }
    }
}

impl LiveSubscriber {
    /// Adds a subscription, or changes its options; it is for what has sequence `since` or higher.
    pub(crate) fn subscribe(&mut self, filter: &str, options: Options, since: u64) {
        let mut state = self.fanout.lock();
        let mut wanted = Wanted {
            options,
            except: options.no_local.then(|| Arc::clone(&self.client_id)),
            since,
        };
        if let Some(before) = state.filters.insert(filter, self.id, wanted.clone()) {
            wanted.since = before.since;
            state.filters.insert(filter, self.id, wanted);
        } else {
            state.wanted += 1;
            self.fanout.0.subscriptions.inc();
            self.filters.push(filter.to_owned());
        }
        state
            .queues
            .entry(self.id)
            .or_insert_with(|| Arc::clone(&self.queue));
        if state.idle {
            state.begin.get_or_insert(since);
            drop(state);
            self.fanout.0.wake.notify_one();
        }
    }

    /// Removes a subscription.
    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        if let Some(index) = self.filters.iter().position(|there| there == filter) {
            self.filters.swap_remove(index);
            self.fanout.0.subscriptions.dec();
            self.fanout.lock().remove(filter, self.id);
        }
    }

    /// Tells whether there is a subscription for exactly this filter.
    pub(crate) fn has(&self, filter: &str) -> bool {
        self.filters.iter().any(|there| there == filter)
    }

    /// Returns the filters subscribed to.
    pub(crate) fn filters(&self) -> impl Iterator<Item = &str> {
        self.filters.iter().map(|filter| &**filter)
    }

    /// Returns the number of subscriptions.
    pub(crate) fn subscriptions(&self) -> usize {
        self.filters.len()
    }

    /// Tells whether [`LiveSubscriber::fetch`] has something to wait for.
    pub(crate) fn is_hungry(&self) -> bool {
        self.taken.is_empty() && !self.filters.is_empty()
    }

    /// Waits for messages.
    ///
    /// # Cancel safety
    /// Yes.
    pub(crate) async fn fetch(&mut self) {
        self.taken.refill(&self.queue).await;
    }

    /// Sends what was taken, as far as window and output have room.
    pub(crate) fn pump(&mut self, out: &mut Outbound) {
        self.taken.pump(out);
    }
}

impl State {
    fn remove(&mut self, filter: &str, id: u64) {
        if self.filters.remove(filter, &id).is_some() {
            self.wanted -= 1;
        }
    }
}

impl Drop for LiveSubscriber {
    fn drop(&mut self) {
        let mut state = self.fanout.lock();
        for filter in &self.filters {
            state.remove(filter, self.id);
            self.fanout.0.subscriptions.dec();
        }
        state.queues.remove(&self.id);
    }
}
