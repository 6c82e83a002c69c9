//! A reader of a store that may go away and come back while the process serves.
//!
//! It answers from the start: `Unavailable` at once until the store was opened and whenever it is known to be
//! away, so that callers are told quickly and no queue of them builds up in front of a dead server. A task
//! asks the store every [`PAUSE`], and at once after a call failed; its answers are the health of component
//! `store`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use model::{DelivererId, FleetEvent, OrderId, Position, Reject};
use service::{CancellationToken, ComponentHealth, Context, ErrorChain, Stage};
use store::{Counts, ErrorKind, FleetEventQuery, HistoryQuery, Page, Reader, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backoff::Backoff;

/// Between two questions while the store answers.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest time to an answer of a question; longer than an election of a replica set's primary takes to
/// be noticed would hide an outage, shorter would call a busy server dead.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// Longest time to an answer of a call. A stopped server keeps its connections open and says nothing.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// See the module.
pub struct Watched(Arc<Shared>);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("away", &self.0.away)
            .finish_non_exhaustive()
    }
}

struct Shared {
    store: OnceLock<Arc<dyn Reader>>,
    away: AtomicBool,
    /// A call failed: look now.
    suspicion: Notify,
    place: String,
}

impl Watched {
    /// Begins to open and to watch, until [`Stage::Serve`] ends. `place` names the store in the log.
    ///
    /// An error of `open` that waiting does not mend fails the process, as for every component.
    pub fn start<Open, Fut>(open: Open, place: String, context: &Context) -> Self
    where
        Open: Fn() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Arc<dyn Reader>, StoreError>> + Send,
    {
        let shared = Arc::new(Shared {
            store: OnceLock::new(),
            away: AtomicBool::new(true),
            suspicion: Notify::new(),
            place,
        });
        let watch = Watch {
            shared: Arc::clone(&shared),
            health: context.health.component("store"),
            since: None,
        };
        context
            .tasks
            .spawn(Stage::Serve, "store_watch", async move |stop| {
                watch.run(open, stop).await.map_err(Into::into)
            });
        Self(shared)
    }

    /// Returns the store when it is there.
    fn store(&self, operation: &'static str) -> Result<&Arc<dyn Reader>, StoreError> {
        match self.0.store.get() {
            Some(store) if !self.0.away.load(Ordering::Acquire) => Ok(store),
            _ => Err(unavailable(operation, "it is away")),
        }
    }

    /// Waits for an answer, for a bounded time, and begins to doubt the store when there is none.
    async fn answer<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let answer = tokio::time::timeout(CALL_LIMIT, call)
            .await
            .unwrap_or_else(|_| Err(unavailable(operation, "it did not answer in time")));
        if let Err(error) = &answer
            && error.kind() == ErrorKind::Unavailable
        {
            self.0.suspicion.notify_one();
        }
        answer
    }
}

fn unavailable(operation: &'static str, why: &'static str) -> StoreError {
    StoreError {
        operation,
        store: "mongodb",
        kind: ErrorKind::Unavailable,
        source: why.into(),
    }
}

/// The task's side.
struct Watch {
    shared: Arc<Shared>,
    health: ComponentHealth,
    /// Since when it is away.
    since: Option<Instant>,
}

impl Watch {
    async fn run<Fut>(
        mut self,
        open: impl Fn() -> Fut,
        stop: CancellationToken,
    ) -> Result<(), StoreError>
    where
        Fut: Future<Output = Result<Arc<dyn Reader>, StoreError>>,
    {
        let mut backoff = Backoff::default();
        let store = loop {
            let Some(opened) = stop.run_until_cancelled(open()).await else {
                return Ok(());
            };
            match opened {
                Ok(store) => break store,
                Err(error) if error.kind() == ErrorKind::Unavailable => self.away(&error),
                Err(error) => return Err(error),
            }
            let pause = tokio::time::sleep(backoff.next_delay());
            if stop.run_until_cancelled(pause).await.is_none() {
                return Ok(());
            }
        };
        let store = Arc::clone(self.shared.store.get_or_init(|| store));
        self.back();
        while let Some(next) = stop
            .run_until_cancelled(self.look(&store, &mut backoff))
            .await
        {
            next?;
        }
        Ok(())
    }

    /// Asks the store, and waits for the time of the next question.
    async fn look(
        &mut self,
        store: &Arc<dyn Reader>,
        backoff: &mut Backoff,
    ) -> Result<(), StoreError> {
        match probe(store.as_ref()).await {
            Ok(()) => {
                self.back();
                *backoff = Backoff::default();
                let shared = Arc::clone(&self.shared);
                // Fails only when the pause ended first.
                drop(tokio::time::timeout(PAUSE, shared.suspicion.notified()).await);
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                self.away(&error);
                tokio::time::sleep(backoff.next_delay()).await;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Notes that the store does not answer; logged once per outage.
    fn away(&mut self, error: &StoreError) {
        self.shared.away.store(true, Ordering::Release);
        let error = ErrorChain(error).to_string();
        if self.since.is_none() {
            self.since = Some(Instant::now());
            let store = &self.shared.place;
            tracing::warn!(
                store,
                error,
                "the store does not answer; reads are refused until it does"
            );
        }
        self.health
            .not_ready(format!("the store does not answer: {error}"));
    }

    fn back(&mut self) {
        self.shared.away.store(false, Ordering::Release);
        if let Some(since) = self.since.take() {
            let away_ms = since.elapsed().as_millis();
            tracing::info!(store = self.shared.place, away_ms, "the store answers");
        }
        self.health.ready();
    }
}

/// Asks the cheapest question there is: for an order nobody has.
async fn probe(store: &dyn Reader) -> Result<(), StoreError> {
    let Ok(nobody) = OrderId::new("?") else {
        return Ok(());
    };
    match tokio::time::timeout(PROBE_LIMIT, store.last_by_order(&nobody)).await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(unavailable("probe", "it did not answer in time")),
    }
}

#[async_trait]
impl Reader for Watched {
    async fn last_by_order(&self, order_id: &OrderId) -> Result<Option<Position>, StoreError> {
        let name = "last_by_order";
        let store = self.store(name)?;
        self.answer(name, store.last_by_order(order_id)).await
    }

    async fn last_by_deliverer(
        &self,
        deliverer_id: &DelivererId,
    ) -> Result<Option<Position>, StoreError> {
        let name = "last_by_deliverer";
        let store = self.store(name)?;
        self.answer(name, store.last_by_deliverer(deliverer_id))
            .await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<Page<Position>, StoreError> {
        let name = "history";
        let store = self.store(name)?;
        self.answer(name, store.history(query)).await
    }

    async fn fleet_events(&self, query: &FleetEventQuery) -> Result<Page<FleetEvent>, StoreError> {
        let name = "fleet_events";
        let store = self.store(name)?;
        self.answer(name, store.fleet_events(query)).await
    }

    async fn rejected(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<Reject>, StoreError> {
        let name = "rejected";
        let store = self.store(name)?;
        self.answer(name, store.rejected(limit, after)).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let name = "counts";
        let store = self.store(name)?;
        self.answer(name, store.counts()).await
    }
}

#[cfg(test)]
mod tests;
