//! The lease under which all writing to a lake is done.
//!
//! One runner works at a time. The lease is kept in the store and is a matter of not doing work twice: should
//! it run out under a runner that still lives, the Delta log and the windows' states keep the lake right.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use service::Clock;
use store::LakeSource;

use crate::error::LakeError;

/// Name of the lease.
pub const LEASE: &str = "lake";

/// Takes, keeps and gives up the lease for one holder.
#[derive(Clone)]
pub struct Lease {
    source: Arc<dyn LakeSource>,
    clock: Arc<dyn Clock>,
    holder: String,
    ttl_us: i64,
    /// When it was last taken or renewed; clones share it.
    renewed_us: Arc<AtomicI64>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("holder", &self.holder)
            .field("ttl_us", &self.ttl_us)
            .finish_non_exhaustive()
    }
}

impl Lease {
    /// Names a holder; nothing is taken yet. The lease holds for `ttl_us` microseconds without renewal.
    pub fn new(
        source: Arc<dyn LakeSource>,
        clock: Arc<dyn Clock>,
        holder: impl Into<String>,
        ttl_us: i64,
    ) -> Self {
        Self {
            source,
            clock,
            holder: holder.into(),
            ttl_us,
            renewed_us: Arc::default(),
        }
    }

    /// Takes the lease, or keeps it.
    ///
    /// # Errors
    /// [`LakeError::LeaseHeld`] while another holder has it, or [`LakeError::Store`].
    pub async fn acquire(&self) -> Result<(), LakeError> {
        let now = self.clock.now().as_micros();
        let held = self
            .source
            .acquire_lease(LEASE, &self.holder, now, self.ttl_us)
            .await?;
        if !held {
            return Err(LakeError::LeaseHeld {
                name: LEASE.to_owned(),
            });
        }
        self.renewed_us.store(now, Ordering::SeqCst);
        Ok(())
    }

    /// Keeps the lease; asks the store only when a quarter of its time has gone by, so that this may be
    /// called before each page and file.
    ///
    /// # Errors
    /// As [`Lease::acquire`].
    pub async fn renew(&self) -> Result<(), LakeError> {
        let since = self.renewed_us.load(Ordering::SeqCst);
        let age = self.clock.now().as_micros().saturating_sub(since);
        if (0..self.ttl_us / 4).contains(&age) {
            return Ok(());
        }
        self.acquire().await
    }

    /// Does `work` and keeps the lease meanwhile, however long its steps take.
    ///
    /// # Errors
    /// Those of `work`, and [`LakeError::LeaseHeld`] when another holder took the lease; `work` is dropped then,
    /// which is like a crash. A store that cannot be asked is asked again; see [`Lease::renew`].
    pub async fn keep<T, E: From<LakeError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let quarter = u64::try_from(self.ttl_us / 4).unwrap_or_default().max(1);
        let quarter = Duration::from_micros(quarter);
        tokio::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                () = tokio::time::sleep(quarter) => match self.acquire().await {
                    Err(error @ LakeError::LeaseHeld { .. }) => return Err(error.into()),
                    Err(error) => tracing::warn!(%error, "the lease could not be renewed, trying again"),
                    Ok(()) => {}
                }
            }
        }
    }

    /// Gives the lease up. A failure is only logged: the lease runs out by itself.
    pub async fn release(&self) {
        if let Err(error) = self.source.release_lease(LEASE, &self.holder).await {
            tracing::warn!(%error, "the lease could not be given up");
        }
    }
}
