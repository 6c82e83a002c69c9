//! The broker in another process: messages go to it over MQTT, live positions come back.
//!
//! A message counts as durable when the broker has sent its PUBACK; what that means is the broker's
//! promise (ours: after the disk has it). Live positions come with QoS 0 and are decoded here as the
//! subscriber decodes them; what is lost, streams find in the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use model::topic::INGEST_FILTERS;
use model::{Position, Record};
use mqtt_client::{
    BrokerUrl, ConnectOptions, LiveConsumer, LiveOptions, PublishError, Publisher,
    PublisherOptions, Qos, Tls, TlsSettings,
};
use serde::{Deserialize, Serialize};
use service::{Clock, Common, Context, Problems, Secret, Stage};
use tokio::sync::broadcast;

use crate::{Ingest, IngestError, LiveFeed, OutgoingMessage};

/// The broker's port unless the address has one; `--port-base` is added.
const DEFAULT_PORT: u16 = 1883;
/// How long messages wait for a broker that is not connected before they are refused. Connections are
/// tried again within two seconds.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// Batches a reader of the live feed may be behind. A batch is one MQTT message.
const FEED_CAPACITY: usize = 8_192;
/// Room in a packet beside the payload: head, packet id, and the longest topic.
const PACKET_OVERHEAD: usize = 512;

/// Settings of the connection to the broker; every field may be left out.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "api_broker")]
pub struct Settings {
    /// Broker that takes what is posted and tells what happens, as `mqtt://user:password@host:port`, or
    /// `mqtts://` for TLS [default: 127.0.0.1, port 1883, for TLS 8883]
    #[arg(long, env = "LASTMILE_BROKER", value_name = "URL")]
    pub broker: Option<Secret<String>>,
    /// TLS to it.
    #[command(flatten)]
    pub tls: TlsSettings,
}

/// The settings in effect.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// The broker, with its password.
    #[serde(serialize_with = "shown")]
    pub broker: BrokerUrl,
    /// TLS to it, where its address asks for that.
    #[serde(skip)]
    pub tls: Option<Tls>,
}

/// Shows an address without its password.
fn shown<S: serde::Serializer>(url: &BrokerUrl, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(url)
}

impl Config {
    /// Applies defaults and checks everything.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn resolve(settings: Settings, common: &Common) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let default = common.listen_addr("broker", None, DEFAULT_PORT, &mut problems);
        let given = settings.broker.map(|url| url.expose().clone());
        let mut broker = BrokerUrl {
            host: default.ip().to_string(),
            ..BrokerUrl::default()
        };
        if let Some(text) = given {
            match text.parse() {
                Ok(url) => broker = url,
                Err(error) => problems.add("broker", format!("is no address: {error}")),
            }
        }
        broker.port = Some(broker.port_or(default.port()));
        let tls = settings.tls.resolve(&broker, &mut problems);
        problems.or(Self { broker, tls })
    }
}

/// Returns a client id nobody else has, within the 23 bytes every broker takes. A broker pushes out the
/// client whose id comes again, and nothing else tells replicas apart for certain: in containers each is
/// process 1, and two may start in one microsecond.
fn client_id(role: &str) -> String {
    // 56 bits: a thousand replicas meet with a probability of some 1e-11.
    let random = rand::random::<u64>() >> 8;
    format!("api-{role}-{random:014x}")
}

/// The two ends of the connection.
#[derive(Clone)]
pub struct Remote {
    /// Takes messages.
    pub ingest: Arc<dyn Ingest>,
    /// Tells what happens.
    pub live: Arc<dyn LiveFeed>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

/// Connects to the broker, now or as soon as it is there; `max_payload` is the largest message.
pub fn connect(config: &Config, max_payload: usize, context: &Context) -> Remote {
    let options = |role: &str| {
        let id = client_id(role);
        tracing::info!(client_id = id, broker = %config.broker, "connecting to the broker");
        let mut options =
            ConnectOptions::from_url(&config.broker, DEFAULT_PORT, id, config.tls.clone());
        options.max_packet_size = max_payload.saturating_add(PACKET_OVERHEAD);
        options
    };
    let (publisher, task) = Publisher::new(PublisherOptions::new(options("post")));
    // It stops after the last POST was refused, with what is under way acknowledged.
    context
        .tasks
        .spawn(Stage::Drain, "api_publisher", |token| task.run(token));
    let filters = INGEST_FILTERS.map(str::to_owned);
    let mut live = options("live");
    live.max_packet_size = live.max_packet_size.max(LARGEST_LIVE_PACKET);
    let (consumer, task) = LiveConsumer::new(LiveOptions::new(live, filters));
    context
        .tasks
        .spawn(Stage::Serve, "api_live_mqtt", |token| task.run(token));
    let (feed, _) = broadcast::channel(FEED_CAPACITY);
    let clock = Arc::clone(&context.clock);
    let sender = feed.clone();
    context
        .tasks
        .spawn(Stage::Serve, "api_live_decoder", |token| async move {
            tokio::select! {
                () = decode(consumer, sender, clock) => {}
                () = token.cancelled() => {}
            }
            Ok(())
        });
    Remote {
        ingest: Arc::new(MqttIngest { publisher }),
        live: Arc::new(MqttLive { feed }),
    }
}

/// A live packet may be as large as another sender's messages, whatever is allowed over HTTP.
const LARGEST_LIVE_PACKET: usize = 4 * 1024 * 1024;

struct MqttIngest {
    publisher: Publisher,
}

#[async_trait]
impl Ingest for MqttIngest {
    async fn ingest(&self, messages: Vec<OutgoingMessage>) -> Result<(), IngestError> {
        let mut connected = self.publisher.connected();
        tokio::time::timeout(CONNECT_WAIT, connected.wait_for(|connected| *connected))
            .await
            .map_err(|_| IngestError::Unavailable("the broker is not connected".into()))?
            .map_err(|error| IngestError::Unavailable(error.into()))?;
        let mut receipts = Vec::with_capacity(messages.len());
        for OutgoingMessage { topic, payload } in messages {
            let published = self.publisher.publish(topic, payload, Qos::AtLeastOnce);
            receipts.push(published.await.map_err(|error| match error {
                PublishError::TooLarge { limit, .. } => IngestError::TooLarge { limit },
                error => IngestError::Unavailable(error.into()),
            })?);
        }
        for receipt in receipts {
            receipt
                .await
                .map_err(|error| IngestError::Unavailable(error.into()))?;
        }
        Ok(())
    }
}

struct MqttLive {
    feed: broadcast::Sender<Arc<Vec<Position>>>,
}

impl LiveFeed for MqttLive {
    fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<Position>>> {
        self.feed.subscribe()
    }
}

/// Decodes messages until there are no more.
async fn decode(
    mut consumer: LiveConsumer,
    feed: broadcast::Sender<Arc<Vec<Position>>>,
    clock: Arc<dyn Clock>,
) {
    while let Some(message) = consumer.next().await {
        let mut decoded = formats::Decoded::default();
        let message = formats::Message {
            topic: &message.topic,
            payload: &message.payload,
            received_time: clock.now(),
            log_seq: None,
        };
        formats::decode(message, &mut decoded);
        let positions: Vec<_> = decoded.records.into_iter().filter_map(position).collect();
        if !positions.is_empty() {
            // Fails only when nobody listens.
            drop(feed.send(Arc::new(positions)));
        }
    }
}

fn position(record: Record) -> Option<Position> {
    match record {
        Record::Position(position) => Some(position),
        Record::FleetEvent { position, .. } => position,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn client_ids_are_short_and_never_the_same() {
        let ids: HashSet<_> = (0..1_000).map(|_| client_id("post")).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| id.len() <= 23), "{ids:?}");
    }
}
