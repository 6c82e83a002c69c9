//! A broker in this process, over a real log folder.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ::broker::{Config, Handle, Settings};
use ingest_log::Log;
use service::{Common, Context};

use crate::client::Client;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LIMIT, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "in vain: {what}");
}

pub(crate) struct Broker {
    context: Context,
    handle: Handle,
}

impl Broker {
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(dir, Settings::default()).await
    }

    pub(crate) async fn start_with(dir: &Path, settings: Settings) -> Self {
        let settings = Settings {
            mqtt_listen: Some("127.0.0.1:0".parse().unwrap()),
            ..settings
        };
        let context = Context::for_tests();
        let config = Config::resolve(&settings, &Common::new(dir)).unwrap();
        let handle = ::broker::start(config, &context).await.unwrap();
        Self { context, handle }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.handle.mqtt_addr
    }

    /// Returns where a listener is.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let mut addresses = self.handle.addresses.iter();
        addresses.find(|(other, _)| *other == name).unwrap().1
    }

    pub(crate) fn log(&self) -> &Log {
        &self.handle.log
    }

    /// Returns why a component is not ready, if it is not.
    pub(crate) fn unready(&self, component: &str) -> Option<String> {
        let components = self.context.health.components().into_iter();
        let mut reasons = components.filter(|(name, _)| *name == component);
        reasons.next().expect("it is a component").1
    }

    /// Returns the sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.context.metrics.encode();
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        values.sum()
    }

    /// Returns the sum of all metrics with a label.
    pub(crate) fn labelled(&self, label: &str) -> u64 {
        let text = self.context.metrics.encode();
        let lines = text.lines().filter(|line| line.contains(label));
        let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
        values.sum()
    }

    pub(crate) async fn client(&self, id: &str, clean: bool) -> Client {
        Client::connect(self.addr(), id, clean).await.0
    }

    pub(crate) async fn stop(self) {
        self.context.tasks.stop(LIMIT).await.unwrap();
        let failures = self.context.tasks.take_failures();
        assert!(failures.is_empty(), "{failures:?}");
    }

    /// Returns topic and payload of every durable record.
    pub(crate) fn records(&self) -> Vec<(String, Vec<u8>)> {
        let mut reader = self.log().reader(self.log().first());
        let mut records = Vec::new();
        while let Some(chunk) = reader.try_next_chunk(1 << 20).unwrap() {
            records.extend(
                chunk
                    .iter()
                    .map(|r| (r.topic.to_owned(), r.payload.to_vec())),
            );
        }
        records
    }
}
