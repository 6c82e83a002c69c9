//! The pipeline over the ingest log of the same process.

use std::sync::Arc;

use bytes::Bytes;
use ingest_log::{Cursor, Log};
use mqtt_client::Backoff;
use service::{BoxError, CancellationToken, Context, ErrorChain, Stage};
use store::{ErrorKind, StoreError, Writer};

use super::{Handle, LOG_CURSOR, share};
use crate::Config;
use crate::members::Members;
use crate::pipeline;
use crate::source::LogSource;
use crate::store_batch::BatchWriter;

/// Stores what the log holds and will hold, from where the store stands in it.
///
/// Until the store has synced, the log keeps everything from the subscriber's cursor on. Told to stop, the
/// subscriber stores what was durable in the log by then, and syncs.
pub fn start_from_log(
    config: Config,
    log: Log,
    store: Arc<dyn Writer>,
    context: &Context,
) -> Handle {
    // From now on the log keeps what is not stored, even before the first batch.
    if log.cursors().get(LOG_CURSOR).is_none() {
        put_cursor(&log, log.first());
    }
    let (shared, handle) = share(config, context);
    let context = context.clone();
    context
        .tasks
        .clone()
        .spawn(Stage::Drain, "subscriber", |stop| async move {
            let health = Members::new(context.health.component("store"));
            let id = log.id().to_owned();
            let Some(stored) = stored_so_far(&*store, &id, &stop).await? else {
                return Ok(());
            };
            // It answered; with nothing to store there is no batch that would say so.
            let health = health.ready(0);
            let source = LogSource::new(
                log.clone(),
                stored,
                shared.config.batch_bytes.as_usize(),
                stop.clone(),
            )?;
            let writer = BatchWriter::new(Arc::clone(&store), stop, health, shared.metrics.clone());
            let interval = shared.config.sync_interval.as_duration();
            let work = pipeline::run(source, Arc::new(writer), shared);
            pipeline::with_upkeep(work, interval, || sync(&*store, &log)).await
        });
    handle
}

/// Asks the store where it stands, again while it is unavailable; `None` when told to stop meanwhile.
async fn stored_so_far(
    store: &dyn Writer,
    source: &str,
    stop: &CancellationToken,
) -> Result<Option<Option<u64>>, StoreError> {
    let mut backoff = Backoff::default();
    loop {
        match store.cursor(source).await {
            Ok(next) => return Ok(Some(next)),
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::warn!(error = %ErrorChain(&error), "the store is unavailable");
            }
            Err(error) => return Err(error),
        }
        let pause = tokio::time::sleep(backoff.next_delay());
        if stop.run_until_cancelled(pause).await.is_none() {
            return Ok(None);
        }
    }
}

/// Makes the store durable, then lets the log go up to there.
async fn sync(store: &dyn Writer, log: &Log) -> Result<(), BoxError> {
    match store.sync(log.id()).await {
        Ok(Some(next)) => {
            put_cursor(log, next);
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            tracing::warn!(error = %ErrorChain(&error), "the store could not be synced; the log keeps more");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn put_cursor(log: &Log, next: u64) {
    let cursor = Cursor {
        next,
        meta: Bytes::new(),
        pins: true,
    };
    log.cursors().put(LOG_CURSOR, cursor);
}
