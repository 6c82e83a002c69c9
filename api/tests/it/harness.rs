//! A served API on a free port, a store in a temporary directory, and an intake that stores what it is
//! given as the subscriber would.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::{Config, Deps, Ingest, IngestError, LiveFeed, OutgoingMessage, Settings};
use async_trait::async_trait;
use model::Position;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use service::{Clock, Common, Context, ManualClock, SystemClock};
use store::{Batch, Reader, Writer};
use store_sqlite::{Options, SqliteStore};
use tokio::sync::{Semaphore, broadcast};

/// Deadline of every wait: far longer than anything here takes on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A running API and what stands behind it.
pub(crate) struct Server {
    pub(crate) base: String,
    pub(crate) client: Client,
    pub(crate) context: Context,
    pub(crate) store: SqliteStore,
    pub(crate) pipeline: Arc<Pipeline>,
    _dir: tempfile::TempDir,
}

/// Stores messages and passes them on live, at once: broker, log and subscriber in one.
pub(crate) struct Pipeline {
    store: SqliteStore,
    live: broadcast::Sender<Arc<Vec<Position>>>,
    clock: Arc<dyn Clock>,
    /// Messages are refused while this is set.
    pub(crate) down: AtomicBool,
    /// Each message takes a permit before it is stored; without permits it waits.
    pub(crate) permits: Semaphore,
    /// One permit for each call that has begun.
    pub(crate) begun: Semaphore,
    /// Topics of all messages, in order.
    pub(crate) topics: Mutex<Vec<String>>,
}

#[async_trait]
impl Ingest for Pipeline {
    async fn ingest(&self, messages: Vec<OutgoingMessage>) -> Result<(), IngestError> {
        self.begun.add_permits(1);
        if self.down.load(Ordering::SeqCst) {
            return Err(IngestError::Unavailable("disk /dev/secret is gone".into()));
        }
        let permit = self.permits.acquire().await.unwrap();
        let mut decoded = formats::Decoded::default();
        for message in &messages {
            let items = formats::decode(
                formats::Message {
                    topic: &message.topic,
                    payload: &message.payload,
                    received_time: self.clock.now(),
                    log_seq: None,
                },
                &mut decoded,
            );
            assert_eq!(items, 1, "one item per message");
            self.topics.lock().unwrap().push(message.topic.clone());
        }
        self.put(decoded).await;
        drop(permit);
        Ok(())
    }
}

impl Pipeline {
    /// Stores one message as if it had come over MQTT.
    pub(crate) async fn publish(&self, topic: &str, payload: impl AsRef<[u8]>) {
        let mut decoded = formats::Decoded::default();
        formats::decode(
            formats::Message {
                topic,
                payload: payload.as_ref(),
                received_time: self.clock.now(),
                log_seq: None,
            },
            &mut decoded,
        );
        self.put(decoded).await;
    }

    /// Puts positions on the live feed only, one batch each.
    pub(crate) fn flood(&self, positions: impl Iterator<Item = Position>) {
        for position in positions {
            drop(self.live.send(Arc::new(vec![position])));
        }
    }

    async fn put(&self, decoded: formats::Decoded) {
        let positions: Vec<_> = decoded
            .records
            .iter()
            .filter_map(|record| record.position().cloned())
            .collect();
        let batch = Batch {
            records: decoded.records,
            rejects: decoded.rejects,
            cursor: None,
        };
        self.store.append(batch).await.unwrap();
        // Nobody may be listening.
        drop(self.live.send(Arc::new(positions)));
    }
}

impl LiveFeed for Pipeline {
    fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<Position>>> {
        self.live.subscribe()
    }
}

impl Server {
    /// Starts with default settings.
    pub(crate) async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::with_clock(settings, Arc::new(SystemClock)).await
    }

    /// Starts with a clock that stands at `now`.
    pub(crate) async fn at(now: &str) -> Self {
        let clock = ManualClock::new(model::UtcMicros::parse(now).unwrap());
        Self::with_clock(Settings::default(), Arc::new(clock)).await
    }

    async fn with_clock(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store =
            SqliteStore::open(&dir.path().join("store.sqlite"), &Options::default()).unwrap();
        let context = Context::new(Arc::clone(&clock));
        let pipeline = Arc::new(Pipeline {
            store: store.clone(),
            live: broadcast::channel(1_000).0,
            clock,
            down: AtomicBool::new(false),
            permits: Semaphore::new(1_000),
            begun: Semaphore::new(0),
            topics: Mutex::default(),
        });
        let reader = Arc::new(store.clone());
        let base = serve(settings, reader, &pipeline, &context).await;
        Self {
            base,
            client: client(),
            context,
            store,
            pipeline,
            _dir: dir,
        }
    }

    pub(crate) fn request(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(path).send().await.unwrap()
    }

    /// Gets JSON with status 200.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    /// Gets an error answer, checks its form, and returns it.
    pub(crate) async fn problem(&self, path: &str, status: u16, code: &str) -> Value {
        problem(self.get(path).await, status, code).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<String>) -> Response {
        self.client
            .post(format!("{}{path}", self.base))
            .header("content-type", "application/json")
            .body(body.into())
            .send()
            .await
            .unwrap()
    }
}

/// Serves on a free port and returns the address.
pub(crate) async fn serve(
    settings: Settings,
    reader: Arc<dyn Reader>,
    pipeline: &Arc<Pipeline>,
    context: &Context,
) -> String {
    let mut config = Config::resolve(settings, &Common::new("unused")).unwrap();
    config.http_listen.set_port(0);
    let deps = Deps {
        reader,
        ingest: Arc::clone(pipeline) as _,
        live: Arc::clone(pipeline) as _,
    };
    let handle = api::start(config, deps, context).await.unwrap();
    format!("http://{}", handle.addr)
}

pub(crate) fn client() -> Client {
    Client::builder()
        .no_proxy()
        .timeout(DEADLINE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// Checks the form of an error answer and returns it.
pub(crate) async fn problem(response: Response, status: u16, code: &str) -> Value {
    let url = response.url().to_string();
    assert_eq!(response.status(), status, "{url}");
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .map(|v| v.to_str().unwrap().to_owned())
    };
    assert_eq!(
        header("content-type").as_deref(),
        Some("application/problem+json"),
        "{url}"
    );
    assert_eq!(
        header("cache-control").as_deref(),
        Some("no-store"),
        "{url}"
    );
    assert_eq!(header("retry-after").is_some(), status == 503, "{url}");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["code"], code, "{url}: {problem}");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], format!("/docs#{code}"));
    assert!(problem["title"].is_string());
    assert!(!problem.to_string().contains("secret"), "{problem}");
    problem
}

/// A native position of deliverer 1.
pub(crate) fn item(order_id: &str, second: i64) -> String {
    serde_json::json!({
        "order_id": order_id,
        "deliverer_id": "1",
        "delivery_state": "on_the_way",
        "timestamp": second,
        "lat": 52.5,
        "lon": 4.25,
        "seq": second,
    })
    .to_string()
}

/// The topic of deliverer 1.
pub(crate) const TOPIC: &str = "deliveries/1/location";
