//! The subscriber's side: one batch at a time per pipeline, tried a few times, under identities.
//!
//! A pipeline takes one batch at a time; a second caller waits. Memory is that of the batch and of the
//! commands under way. The driver's own retries are off: it would send a statement again under the
//! sequence of the first, whose fate is unknown. Here a failed attempt gives its identity up, and the next
//! one begins under a new one.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::doc;
use serde::Deserialize;
use store::{Appended, Batch, ErrorKind, StoreError};

use crate::append::{append, move_cursor};
use crate::database::CURSORS;
use crate::error::{Failure, Outcome};
use crate::identity::Pipeline;
use crate::pulse::Pulse;
use crate::{MongoStore, database};

/// Waits between attempts; the caller has its own, longer ones.
const WAITS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];

/// Runs something that may be run again, a few times while the server is not to be had.
pub(crate) async fn persist<T, F>(mut attempt: impl FnMut() -> F) -> Outcome<T>
where
    F: Future<Output = Outcome<T>>,
{
    for wait in WAITS {
        match attempt().await {
            Err(failure) if failure.kind == ErrorKind::Unavailable && !failure.waited => {
                tracing::debug!(%failure, "trying again");
                tokio::time::sleep(wait).await;
            }
            outcome => return outcome,
        }
    }
    attempt().await
}

impl MongoStore {
    async fn attempt(&self, pipeline: &mut Pipeline, batch: &Batch) -> Outcome<Appended> {
        let mut appended = Appended::default();
        if !batch.is_empty() {
            let store = &self.store;
            let mut identity = pipeline.take(store, &self.options.writer).await?;
            let skew = self.options.max_future_skew_us;
            let (pulse, id) = (Pulse::default(), identity.id.clone());
            let outcome = tokio::select! {
                biased;
                outcome = append(store, &mut identity, pipeline, &pulse, batch, skew) => outcome,
                fenced = pulse.beat(store, &id) => Err(fenced),
            };
            match outcome {
                Ok(counted) => {
                    appended = counted;
                    pipeline.put_back(identity);
                }
                Err(failure) if failure.kind == ErrorKind::Conflict => {
                    // Somebody fenced us. The rows are safe with them; the batch is written again.
                    pipeline.times_fenced += 1;
                    return Err(Failure {
                        kind: ErrorKind::Unavailable,
                        ..failure
                    });
                }
                Err(failure) => return Err(failure),
            }
        }
        if let Some(cursor) = &batch.cursor {
            move_cursor(&self.store, cursor).await?;
        }
        Ok(appended)
    }

    async fn read_cursor(&self, source: &str) -> Outcome<Option<u64>> {
        #[derive(Deserialize)]
        struct Cursor {
            next: i64,
        }
        let cursors = self.store.collection::<Cursor>(CURSORS);
        let found = database::answer(cursors.find_one(doc! { "_id": source })).await?;
        Ok(found.map(|cursor| cursor.next.cast_unsigned()))
    }
}

#[async_trait]
impl store::Writer for MongoStore {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        let mut pipeline = self.pipeline.lock().await;
        let mut waits = WAITS.into_iter();
        loop {
            let failure = match self.attempt(&mut pipeline, &batch).await {
                Ok(appended) => return Ok(appended),
                Err(failure) => failure,
            };
            match waits.next() {
                Some(wait) if failure.kind == ErrorKind::Unavailable && !failure.waited => {
                    tracing::debug!(%failure, "a batch is written again under a new identity");
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(failure.during("append")),
            }
        }
    }

    async fn cursor(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.read_cursor(source)
            .await
            .map_err(|failure| failure.during("cursor"))
    }

    /// Everything acknowledged is with a majority and in its journal already.
    async fn sync(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.read_cursor(source)
            .await
            .map_err(|failure| failure.during("sync"))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn attempts(failure: impl Fn() -> Failure) -> (u32, ErrorKind) {
        let attempts = Cell::new(0);
        let outcome: Outcome<()> = persist(|| {
            attempts.set(attempts.get() + 1);
            std::future::ready(Err(failure()))
        })
        .await;
        (attempts.get(), outcome.unwrap_err().kind)
    }

    #[tokio::test]
    async fn only_what_may_pass_is_tried_again_and_not_for_ever() {
        let passing = attempts(|| Failure::unavailable("an election")).await;
        assert_eq!(passing, (3, ErrorKind::Unavailable));
        let waited = || Failure {
            waited: true,
            ..Failure::unavailable("no server")
        };
        assert_eq!(attempts(waited).await, (1, ErrorKind::Unavailable));
        let damage = attempts(|| Failure::data("no position")).await;
        assert_eq!(damage, (1, ErrorKind::Data));
        let conflict = attempts(|| Failure::conflict("fenced")).await;
        assert_eq!(conflict, (1, ErrorKind::Conflict));
    }
}
