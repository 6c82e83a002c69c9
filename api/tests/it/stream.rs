//! Live streams.

use api::Settings;
use futures_util::StreamExt;
use reqwest::Response;
use serde_json::Value;
use store::{Batch, Writer};

use crate::harness::{DEADLINE, Server, TOPIC, item, problem};

/// Reads server-sent events off an open answer.
struct Events {
    chunks: futures_util::stream::BoxStream<'static, String>,
    text: String,
}

impl Events {
    async fn open(server: &Server, order_id: &str) -> Self {
        let response = server
            .get(&format!("/api/v1/orders/{order_id}/stream"))
            .await;
        Self::of(response)
    }

    fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let text = |chunk: Result<_, reqwest::Error>| {
            let bytes: bytes::Bytes = chunk.unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        Self {
            chunks: response.bytes_stream().map(text).boxed(),
            text: String::new(),
        }
    }

    /// Waits for the next block of lines; `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, _)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text.drain(..block.len() + 2);
                return Some(block);
            }
            let chunk = tokio::time::timeout(DEADLINE, self.chunks.next())
                .await
                .unwrap()?;
            self.text.push_str(&chunk);
        }
    }

    /// Waits for the next location, passing over comments.
    async fn location(&mut self) -> Value {
        loop {
            let block = self.block().await.unwrap();
            let Some(rest) = block.strip_prefix("event: location\n") else {
                assert!(
                    block.starts_with(':') || block.starts_with("retry:"),
                    "{block}"
                );
                continue;
            };
            let (id, data) = rest.split_once('\n').unwrap();
            assert!(id.starts_with("id: "), "{id}");
            return serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        }
    }
}

#[tokio::test]
async fn a_stream_begins_with_the_last_position_and_goes_on_with_newer_ones() {
    let server = Server::start().await;
    server.pipeline.publish(TOPIC, item("43", 10)).await;
    let mut events = Events::open(&server, "43").await;
    let last = server.json("/api/v1/orders/43/location").await;
    let mut first = events.location().await;
    first["age_s"] = last["age_s"].clone();
    assert_eq!(first, last);

    server.pipeline.publish(TOPIC, item("43", 9)).await;
    server.pipeline.publish(TOPIC, item("44", 11)).await;
    server.pipeline.publish(TOPIC, item("43", 12)).await;
    assert_eq!(events.location().await["seq"], 12);
    // What is posted comes as well, and metrics know of the stream.
    server.post("/api/v1/locations", item("43", 13)).await;
    assert_eq!(events.location().await["seq"], 13);
    assert!(metrics(&server).await.contains("api_streams 1"));
}

async fn metrics(server: &Server) -> String {
    server.get("/metrics").await.text().await.unwrap()
}

#[tokio::test]
async fn an_unknown_order_is_waited_for() {
    let server = Server::start().await;
    let request = server.request("/api/v1/orders/later/stream");
    let response = request
        .header("last-event-id", "nonsense")
        .send()
        .await
        .unwrap();
    let mut events = Events::of(response);
    assert_eq!(events.block().await.unwrap(), "retry: 2000");
    server.pipeline.publish(TOPIC, item("later", 1)).await;
    assert_eq!(events.location().await["seq"], 1);
}

#[tokio::test]
async fn what_the_live_feed_lost_is_found_at_the_next_heartbeat() {
    let server = Server::with(Settings {
        http_heartbeat: Some("20ms".parse().unwrap()),
        ..Settings::default()
    })
    .await;
    server.pipeline.publish(TOPIC, item("43", 1)).await;
    let mut events = Events::open(&server, "43").await;
    assert_eq!(events.location().await["seq"], 1);
    // Stored without a word on the feed.
    let received = model::UtcMicros::default();
    let position = model::native::parse(&item("43", 2), None, received).unwrap();
    let batch = Batch {
        records: vec![model::Record::Position(position)],
        ..Batch::default()
    };
    server.store.append(batch).await.unwrap();
    assert_eq!(events.location().await["seq"], 2);
    assert!(events.block().await.unwrap().starts_with(": "));
}

#[tokio::test]
async fn a_lagging_feed_is_told_and_the_newest_follows() {
    let server = Server::start().await;
    let mut events = Events::open(&server, "43").await;
    assert_eq!(events.block().await.unwrap(), "retry: 2000");
    // The test's runtime has one thread: nobody takes a batch while these are sent, so the feed of
    // 1,000 overflows.
    let position = |second| {
        let received = model::UtcMicros::new(10_000_000_000).unwrap();
        model::native::parse(&item("43", second), None, received).unwrap()
    };
    let batch = Batch {
        records: vec![model::Record::Position(position(5_000))],
        ..Batch::default()
    };
    server.store.append(batch).await.unwrap();
    server.pipeline.flood((0..3_000).map(position));
    let lagged = events.block().await.unwrap();
    assert!(
        lagged.starts_with("event: lagged\ndata: {\"skipped\":"),
        "{lagged}"
    );
    assert_eq!(events.location().await["seq"], 5_000);
}

#[tokio::test]
async fn streams_are_limited_and_their_places_given_back() {
    let server = Server::with(Settings {
        http_max_streams: Some(1),
        ..Settings::default()
    })
    .await;
    let events = Events::open(&server, "a").await;
    let refused = server.get("/api/v1/orders/b/stream").await;
    problem(refused, 503, "too_many_streams").await;
    drop(events);
    let until_free = async {
        while server.get("/api/v1/orders/b/stream").await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, until_free).await.unwrap();
}

#[tokio::test]
async fn a_stop_refuses_messages_and_ends_streams() {
    let server = Server::start().await;
    server.pipeline.publish(TOPIC, item("43", 1)).await;
    let mut events = Events::open(&server, "43").await;
    assert_eq!(events.location().await["seq"], 1);

    // The first stage is held open, as by a component with work left.
    let (done, held) = tokio::sync::oneshot::channel::<()>();
    let tasks = server.context.tasks.clone();
    tasks.spawn(service::Stage::Intake, "held", |token| async move {
        token.cancelled().await;
        held.await?;
        Ok(())
    });
    let stop = tasks.stop(DEADLINE);
    let asked = async {
        tasks.token(service::Stage::Intake).cancelled().await;
        let refused = server.post("/api/v1/locations", item("43", 2)).await;
        problem(refused, 503, "stopping").await;
        let last = server.json("/api/v1/orders/43/location").await;
        assert_eq!(last["seq"], 1);
        server.pipeline.publish(TOPIC, item("43", 3)).await;
        assert_eq!(events.location().await["seq"], 3);
        done.send(()).unwrap();
        while events.block().await.is_some() {}
    };
    let (stopped, ()) = tokio::join!(stop, asked);
    stopped.unwrap();
    assert!(server.request("/healthz").send().await.is_err());
    assert!(server.context.tasks.take_failures().is_empty());
}
