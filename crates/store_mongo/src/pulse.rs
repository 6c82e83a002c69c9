//! Signs of life: what tells a slow writer from a dead one.
//!
//! While an append works, it counts up the `beats` of its writer's document, so that whoever meets its rows
//! waits for it rather than fencing it, however large its batch and however slow the server. A beat is guarded as
//! a commit is: an append that was fenced learns of it at its next beat, and ends.
//!
//! An append that waits for another writer gives no sign. Two that wait for one another would otherwise wait
//! for ever; so it is what one sees of the other that grows old, and the less patient of them goes on.
//!
//! Nothing depends on a beat but how long others wait. A batch that takes less than [`INTERVAL`] costs none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::bson::doc;

use crate::database::{Store, WRITERS, answer};
use crate::error::Failure;

/// Between two beats. Well below the shortest patience, so that one may come late.
const INTERVAL: Duration = Duration::from_millis(200);

/// The pulse of one append.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    is_still: AtomicBool,
}

impl Pulse {
    /// Gives signs of life for ever; returns once the writer was fenced.
    pub(crate) async fn beat(&self, store: &Store, writer: &str) -> Failure {
        let writers = store.documents(WRITERS);
        loop {
            tokio::time::sleep(INTERVAL).await;
            if self.is_still.load(Ordering::Relaxed) || store.tuning().silent {
                continue;
            }
            let one_more = doc! { "$inc": { "beats": 1_i64 } };
            let beat = writers.update_one(store.tuning().guard(writer), one_more);
            match answer(beat).await {
                Ok(updated) if updated.matched_count == 0 => {
                    return Failure::conflict(format!(
                        "another writer took over from {writer}; write the batch again"
                    ));
                }
                Ok(_) => {}
                // What the server is up to, the append itself will meet.
                Err(failure) => tracing::debug!(%failure, "a sign of life was not given"),
            }
        }
    }

    /// Gives no sign until `other` is done.
    pub(crate) async fn still_during<T>(&self, other: impl Future<Output = T>) -> T {
        self.is_still.store(true, Ordering::Relaxed);
        let outcome = other.await;
        self.is_still.store(false, Ordering::Relaxed);
        outcome
    }
}
