//! The pipeline over a broker, once per connection.
//!
//! Every connection has a session, a pipeline and a store writer of its own; they share nothing that is
//! touched per message. At most this waits in memory for each: the receive buffer, and two batches with
//! what was decoded from them.

use std::sync::Arc;

use model::topic::INGEST_FILTERS;
use mqtt_client::{ConnectOptions, Consumer, ConsumerOptions, Link, SubscriptionError};
use service::{BoxError, CancellationToken, Context, Stage};
use store::Writer;

use super::{Handle, share};
use crate::members::{Member, Members};
use crate::pipeline;
use crate::settings::Subscription;
use crate::source::MqttSource;
use crate::store_batch::BatchWriter;
use crate::{Config, MqttConfig};

/// The broker will not deliver what is asked for.
#[derive(Debug, thiserror::Error)]
#[error("{hint}")]
struct Undeliverable {
    hint: &'static str,
    #[source]
    source: SubscriptionError,
}

/// Stores what a broker sends on [`INGEST_FILTERS`], and acknowledges it once it is stored. There is one
/// connection for each of `writers`.
///
/// Each connection is a member of the shared subscription `$share/client_id/...`: a broker can have that before
/// its first member comes, so that nothing is missed. The session of one that is alone, with one connection and
/// no `replica`, is `client_id`, of others `client_id-replica-connection`; a number of members is changed without
/// loss where the group holds the messages and not the sessions.
///
/// One that is alone takes plain subscriptions where the broker refuses shared ones, or when told to. Where it
/// has plain ones from before, it gives them up once it is a member. Until then, and for what the broker had
/// for both, messages come twice, which is harmless: they are stored once.
///
/// Told to stop, the subscriber stores and acknowledges what it has taken; the broker keeps the rest for
/// these sessions.
pub fn start_from_mqtt(
    config: Config,
    mqtt: &MqttConfig,
    replica: Option<u16>,
    writers: Vec<Arc<dyn Writer>>,
    context: &Context,
) -> Handle {
    let (mut shared, handle) = share(config, context);
    shared.confirm_first = mqtt.ack_before_commit;
    let replica = match replica {
        None if writers.len() == 1 => None,
        replica => Some(replica.unwrap_or(0)),
    };
    let links = Members::new(context.health.component("broker"));
    let stores = Members::new(context.health.component("store"));
    for (number, writer) in writers.into_iter().enumerate() {
        let member = replica.map(|replica| (replica, number));
        let (consumer, task) = Consumer::new(consumer_options(mqtt, member));
        let link = links.not_ready(number, "not connected yet");
        follow(&consumer, link, context);
        // The connection outlives the pipeline, so that the last acknowledgements leave.
        let done = CancellationToken::new();
        let ended = done.clone();
        context
            .tasks
            .spawn(Stage::Drain, "subscriber_mqtt", |_| async move {
                task.run(ended)
                    .await
                    .map_err(|error| explained(error, member.is_some()))
            });
        let shared = shared.clone();
        let clock = Arc::clone(&context.clock);
        // It was opened; a first batch may be long in coming.
        let health = stores.ready(number);
        context
            .tasks
            .spawn(Stage::Drain, "subscriber", |stop| async move {
                let _end = done.drop_guard();
                let source =
                    MqttSource::new(consumer, shared.config.batch_records, clock, stop.clone());
                let writer = BatchWriter::new(writer, stop, health, shared.metrics.clone());
                pipeline::run(source, Arc::new(writer), shared).await
            });
    }
    handle
}

/// Says how to connect; `member` is the replica and the number of the connection.
fn consumer_options(mqtt: &MqttConfig, member: Option<(u16, usize)>) -> ConsumerOptions {
    let id = &mqtt.client_id;
    let client_id = match member {
        None => id.clone(),
        Some((replica, number)) => format!("{id}-{replica}-{number}"),
    };
    let (url, tls) = (&mqtt.broker.0, mqtt.tls.clone());
    let mut connect = ConnectOptions::from_url(url, mqtt.default_port, client_id, tls);
    connect.max_packet_size = mqtt.max_packet_size.as_usize();
    let shared = INGEST_FILTERS.map(|filter| format!("$share/{id}/{filter}"));
    let mut options = match (member, mqtt.subscription) {
        (Some(_), _) => ConsumerOptions::new(connect, shared),
        (None, Subscription::Plain) => ConsumerOptions::new(connect, INGEST_FILTERS),
        (None, Subscription::Auto) => ConsumerOptions {
            instead: INGEST_FILTERS.map(str::to_owned).into(),
            ..ConsumerOptions::new(connect, shared)
        },
    };
    options.capacity = mqtt.receive_buffer.as_usize();
    options
}

/// Tells the operator what to do about a subscription that is not granted.
fn explained(error: BoxError, is_shared: bool) -> BoxError {
    match error.downcast::<SubscriptionError>() {
        Ok(source) => {
            let hint = match (&*source, is_shared) {
                (SubscriptionError::Refused { .. }, true) => {
                    "no shared subscription: run one subscriber with --connections 1 and --replica none, or \
                     take a broker that knows $share, or let this client use it"
                }
                (SubscriptionError::Refused { .. }, false) => {
                    "no subscription: let this client read these topics at the broker"
                }
                (SubscriptionError::Downgraded { .. }, _) => {
                    "no subscription that keeps messages: let the broker grant QoS 1"
                }
            };
            Undeliverable {
                hint,
                source: *source,
            }
            .into()
        }
        Err(error) => error,
    }
}

/// Keeps a member's health as its link is.
fn follow(consumer: &Consumer, health: Member, context: &Context) {
    let mut link = consumer.link();
    let stop = context.tasks.token(Stage::Drain);
    context.tasks.spawn_child(Stage::Drain, async move {
        loop {
            match &*link.borrow_and_update() {
                Link::Up => health.ready(),
                Link::Down(reason) => health.not_ready(reason),
            }
            match stop.run_until_cancelled(link.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return,
            }
        }
    });
}
