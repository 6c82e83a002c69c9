//! Which of several subscribers this one is, leased in the store.
//!
//! A number names sessions at the broker, so two processes must not use it at once: they would push each
//! other out of their connections. Nothing is lost or stored twice even then; they only stand in each
//! other's way until the one without the lease stops.
//!
//! The lowest free number is taken, so that the sessions of one that is gone, and what a broker holds for
//! them, are picked up by the next to start. Its lease lapses [`TTL`] after its death, so who finds the low
//! numbers taken waits that long before it settles for a higher one. The clocks of the hosts must agree
//! to some seconds.

use std::sync::Arc;
use std::time::Duration;

use mqtt_client::Backoff;
use service::{
    BoxError, CancellationToken, Clock, ComponentHealth, Context, ErrorChain, Stage, Throttle,
};
use store::{ErrorKind, Store, StoreError};
use tokio::time::{Instant, sleep, timeout};

/// How long a lease outlives its last renewal.
pub(crate) const TTL: Duration = Duration::from_secs(15);

/// How often a lease is renewed: three attempts may fail.
const RENEWAL: Duration = Duration::from_secs(4);

/// How often a lower number is asked for while waiting for one.
const QUESTION: Duration = Duration::from_secs(1);

/// Numbers that are tried.
const MOST: u16 = 1_024;

/// Time to give the lease back.
const RELEASE: Duration = Duration::from_secs(3);

/// One warning per this long while the lease cannot be renewed.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Another process has the number.
#[derive(Debug, thiserror::Error)]
#[error(
    "the lease of replica {number} went to another process while this one could not renew it; stopping, \
     to begin again under a number of its own"
)]
pub(crate) struct LeaseLost {
    number: u16,
}

/// A number and the right to it.
pub(crate) struct Lease {
    leases: Leases,
    pub(crate) number: u16,
}

/// The leases of one group of subscribers, as one of them.
pub(crate) struct Leases {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    group: String,
    holder: String,
}

impl Leases {
    /// Speaks for this process about the numbers of `group`.
    pub(crate) fn new(store: Arc<dyn Store>, group: &str, clock: Arc<dyn Clock>) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let holder = format!(
            "{}-{}-{}",
            host.trim(),
            std::process::id(),
            clock.now().as_micros()
        );
        Self {
            store,
            clock,
            group: group.to_owned(),
            holder,
        }
    }

    /// Takes the lowest number that is free; `None` when the process is stopped meanwhile.
    ///
    /// # Errors
    /// Those of the store, but `Unavailable`, which is waited for.
    pub(crate) async fn acquire(self, context: &Context) -> Result<Option<Lease>, StoreError> {
        let health = context.health.component("replica");
        let number = tokio::select! {
            number = self.settle(&health) => number?,
            () = context.tasks.stopped() => return Ok(None),
        };
        health.ready();
        tracing::info!(
            replica = number,
            holder = self.holder,
            "replica number leased"
        );
        Ok(Some(Lease {
            leases: self,
            number,
        }))
    }

    async fn settle(&self, health: &ComponentHealth) -> Result<u16, StoreError> {
        let mut backoff = Backoff::default();
        // Who died just before this start has lost its lease by then.
        let mut patience = Instant::now() + TTL + QUESTION;
        let mut held = None;
        loop {
            match self.improve(held).await {
                Ok(number) => held = number,
                Err(error) if is_passing(&error) => {
                    health.not_ready(format!("no answer from the store: {}", ErrorChain(&error)));
                    sleep(backoff.next_delay()).await;
                    // What was learnt before the outage may be old.
                    patience = Instant::now() + TTL + QUESTION;
                    continue;
                }
                Err(error) => return Err(error),
            }
            match held {
                Some(number) if number == 0 || Instant::now() >= patience => return Ok(number),
                Some(number) => health.not_ready(format!(
                    "holds replica number {number}, and sees whether a lower one becomes free"
                )),
                None => health.not_ready(format!("all {MOST} replica numbers are taken")),
            }
            sleep(QUESTION).await;
        }
    }

    /// Renews what is held and takes the lowest free number below it.
    async fn improve(&self, held: Option<u16>) -> Result<Option<u16>, StoreError> {
        for number in 0..held.unwrap_or(MOST) {
            if self.take(number).await? {
                if let Some(higher) = held {
                    self.give_back(higher).await?;
                }
                return Ok(Some(number));
            }
        }
        match held {
            Some(number) if self.take(number).await? => Ok(held),
            _ => Ok(None),
        }
    }

    fn name(&self, number: u16) -> String {
        format!("subscriber-replica-{}-{number}", self.group)
    }

    async fn take(&self, number: u16) -> Result<bool, StoreError> {
        let ttl_us = i64::try_from(TTL.as_micros()).unwrap_or(i64::MAX);
        let now_us = self.clock.now().as_micros();
        self.store
            .acquire_lease(&self.name(number), &self.holder, now_us, ttl_us)
            .await
    }

    async fn give_back(&self, number: u16) -> Result<(), StoreError> {
        self.store
            .release_lease(&self.name(number), &self.holder)
            .await
    }
}

impl Lease {
    /// Renews the lease until everything that used the number has ended, and then gives it back.
    pub(crate) fn keep(self, context: &Context) {
        context
            .tasks
            .spawn(Stage::Serve, "replica_lease", |stop| self.renew(stop));
    }

    /// # Errors
    /// [`LeaseLost`], and those of the store that waiting does not mend.
    async fn renew(self, stop: CancellationToken) -> Result<(), BoxError> {
        let warning = Throttle::new(WARNING_INTERVAL);
        let number = self.number;
        loop {
            let step = async {
                sleep(RENEWAL).await;
                self.leases.take(number).await
            };
            let Some(renewed) = stop.run_until_cancelled(step).await else {
                break;
            };
            match renewed {
                Ok(true) => {}
                Ok(false) => return Err(LeaseLost { number }.into()),
                // Who cannot reach the store cannot take the number either, nor store anything.
                Err(error) if is_passing(&error) => {
                    if let Some(suppressed) = warning.permit() {
                        let error = ErrorChain(&error);
                        tracing::warn!(%error, suppressed, "the replica lease cannot be renewed");
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        let released = timeout(RELEASE, self.leases.give_back(number)).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!(replica = number, ttl = ?TTL, "the lease was not given back and lapses");
        }
        Ok(())
    }
}

fn is_passing(error: &StoreError) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Conflict)
}
