//! Starts the pipeline over one source or the other, as supervised components.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ingest_log::{Cursor, Log};
use model::topic::INGEST_FILTERS;
use mqtt_client::{Backoff, ConnectOptions, Consumer, ConsumerOptions};
use service::{BoxError, CancellationToken, Context, ErrorChain, Stage};
use store::{ErrorKind, StoreError, Writer};
use tokio::sync::broadcast;

use crate::counters::Counters;
use crate::metrics::Metrics;
use crate::pipeline::{self, LiveSender, Shared};
use crate::source::{LogSource, MqttSource};
use crate::store_batch::BatchWriter;
use crate::{Config, MqttConfig};

/// Name of the subscriber's cursor in the ingest log: what is below it survives a power loss in the store.
pub const LOG_CURSOR: &str = "subscriber";

/// A running subscriber.
#[derive(Clone)]
pub struct Handle {
    /// Sends the positions of every batch just stored; those of redelivered messages come again. It keeps
    /// a bounded number of batches: who is slower loses the oldest, and is told so.
    pub live: LiveSender,
    /// Counts since the start.
    pub counters: Counters,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

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
            let health = context.health.component("store");
            let id = log.id().to_owned();
            let Some(stored) = stored_so_far(&*store, &id, &stop).await? else {
                return Ok(());
            };
            // It answered; with nothing to store there is no batch that would say so.
            health.ready();
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

/// Stores what a broker sends on [`INGEST_FILTERS`], and acknowledges it once it is stored.
///
/// Told to stop, the subscriber stores and acknowledges what it has taken; the broker keeps the rest for
/// this session.
pub fn start_from_mqtt(
    config: Config,
    mqtt: &MqttConfig,
    store: &Arc<dyn Writer>,
    context: &Context,
) -> Handle {
    let (shared, handle) = share(config, context);
    for number in 0..mqtt.connections {
        let (consumer, task) = Consumer::new(consumer_options(mqtt, number, &shared.config));
        follow_connection(&consumer, context);
        // The connection outlives the pipeline, so that the last acknowledgements leave.
        let done = CancellationToken::new();
        let ended = done.clone();
        context
            .tasks
            .spawn(Stage::Drain, "subscriber-mqtt", |_| task.run(ended));
        let (shared, store) = (shared.clone(), Arc::clone(store));
        let (clock, health) = (
            Arc::clone(&context.clock),
            context.health.component("store"),
        );
        context
            .tasks
            .spawn(Stage::Drain, "subscriber", |stop| async move {
                let _end = done.drop_guard();
                // It was opened; a first batch may be long in coming.
                health.ready();
                let source =
                    MqttSource::new(consumer, shared.config.batch_records, clock, stop.clone());
                let writer = BatchWriter::new(store, stop, health, shared.metrics.clone());
                pipeline::run(source, Arc::new(writer), shared).await
            });
    }
    handle
}

fn share(config: Config, context: &Context) -> (Shared, Handle) {
    let (live, _) = broadcast::channel(config.live_batches);
    let handle = Handle {
        live: live.clone(),
        counters: Counters::default(),
    };
    let shared = Shared {
        config,
        counters: handle.counters.clone(),
        metrics: Metrics::register(&context.metrics),
        live,
        clock: Arc::clone(&context.clock),
    };
    (shared, handle)
}

fn consumer_options(mqtt: &MqttConfig, number: usize, config: &Config) -> ConsumerOptions {
    let id = &mqtt.client_id;
    // One connection takes plain subscriptions, which every broker has; several share one.
    let (client_id, prefix) = if mqtt.connections == 1 {
        (id.clone(), String::new())
    } else {
        (format!("{id}-{number}"), format!("$share/{id}/"))
    };
    let mut connect = ConnectOptions::from_url(&mqtt.broker.0, mqtt.default_port, client_id);
    connect.max_packet_size = mqtt.max_packet_size.as_usize();
    let filters = INGEST_FILTERS.map(|filter| format!("{prefix}{filter}"));
    let mut options = ConsumerOptions::new(connect, filters);
    options.capacity = config.batch_records.min(options.capacity);
    options
}

fn follow_connection(consumer: &Consumer, context: &Context) {
    let health = context.health.component("broker");
    let mut connected = consumer.connected();
    let stop = context.tasks.token(Stage::Drain);
    context.tasks.spawn_child(Stage::Drain, async move {
        loop {
            if *connected.borrow_and_update() {
                health.ready();
            } else {
                health.not_ready("the broker is not connected");
            }
            match stop.run_until_cancelled(connected.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return,
            }
        }
    });
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
