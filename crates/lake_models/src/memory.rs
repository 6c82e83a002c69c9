//! Memory that sorts, joins and aggregations share: what can spill cannot take what cannot.
//!
//! A sort merges what it holds, by keys that may be as large as the rows, and what it spilled; a merge cannot spill. In
//! one pool sorts beside it fill the room it needs, and it ends the model, however large the pool. So there are two.

use std::fmt;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    FairSpillPool, GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

/// Two pools. A model uses at most the sum of both, beside what its engine does not count.
#[derive(Debug)]
pub(crate) struct Pools {
    /// Of sorts and aggregations: shared evenly, and beyond it they spill.
    spilling: FairSpillPool,
    /// Of merges, joins and all that cannot spill: who asks for more fails.
    fixed: GreedyMemoryPool,
    bytes: usize,
}

impl Pools {
    /// Makes pools of so many bytes.
    pub(crate) fn new(spilling: usize, fixed: usize) -> Self {
        Self {
            spilling: FairSpillPool::new(spilling),
            fixed: GreedyMemoryPool::new(fixed),
            bytes: spilling + fixed,
        }
    }

    fn of(&self, consumer: &MemoryConsumer) -> &dyn MemoryPool {
        if consumer.can_spill() {
            &self.spilling
        } else {
            &self.fixed
        }
    }
}

impl fmt::Display for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", self.spilling, self.fixed)
    }
}

impl MemoryPool for Pools {
    fn name(&self) -> &'static str {
        "pools"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.of(consumer).register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.of(consumer).unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.of(reservation.consumer())
            .grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.of(reservation.consumer()).shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let pool = self.of(reservation.consumer());
        pool.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.spilling.reserved() + self.fixed.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::RecordBatch;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::session::config;

    /// A window, which sorts, and a sort of its result by another order, as models have them.
    const SQL: &str = "SELECT value, LAG(value) OVER (PARTITION BY value % 50 ORDER BY value * 7919 % 104729, value) AS before, \
        CAST(value AS VARCHAR) || ' of a text that makes rows wide' AS text \
        FROM generate_series(1, 200000) ORDER BY value * 31 % 1009, text, value";

    const MIB: usize = 1 << 20;

    async fn rows(pool: Arc<dyn MemoryPool>) -> Result<usize> {
        let config = config()
            .with_target_partitions(2)
            // As small beside the pools as a batch of a model is: a merge keeps two of each sorted run.
            .with_batch_size(256)
            .with_sort_spill_reservation_bytes(MIB / 2);
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool);
        let context = SessionContext::new_with_config_rt(config, runtime.build_arc()?);
        let found = context.sql(SQL).await?.collect().await?;
        Ok(found.iter().map(RecordBatch::num_rows).sum())
    }

    #[tokio::test]
    async fn merges_have_room_beside_sorts() {
        let pools = Arc::new(Pools::new(2 * MIB, 8 * MIB));
        assert_eq!(rows(pools.clone()).await.unwrap(), 200_000);
        assert_eq!(pools.reserved(), 0, "all was given back");
    }

    #[tokio::test]
    async fn control_in_one_pool_they_have_not() {
        let pool = Arc::new(FairSpillPool::new(10 * MIB));
        let error = rows(pool).await.unwrap_err();
        assert!(error.to_string().contains("Merge"), "{error}");
    }
}
