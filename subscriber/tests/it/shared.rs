//! Several connections in one process share the load, each into a writer of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use service::{Common, Context};
use store::{Appended, Batch, StoreError, Writer};
use subscriber::{MqttConfig, MqttSettings, start_from_mqtt};

use crate::support::{PATIENCE, small_batches};
use crate::world::{World, publish};

/// Counts what it is given.
#[derive(Default)]
struct Counting(AtomicU64);

#[async_trait]
impl Writer for Counting {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        let stored = batch.records.len() as u64;
        self.0.fetch_add(stored, Ordering::Relaxed);
        Ok(Appended {
            stored,
            duplicate: 0,
            rejected: batch.rejects.len() as u64,
        })
    }

    async fn cursor(&self, _source: &str) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    async fn sync(&self, _source: &str) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }
}

#[test]
fn every_connection_gets_its_share_and_nothing_comes_twice() {
    let test = "shared::every_connection_gets_its_share_and_nothing_comes_twice";
    let Some(world) = World::with_broker(test) else {
        return;
    };
    let writers: Vec<_> = (0..4).map(|_| Arc::new(Counting::default())).collect();
    let settings = MqttSettings {
        broker: Some(format!("mqtt://127.0.0.1:{}", world.port())),
        connections: Some(writers.len()),
        ..MqttSettings::default()
    };
    let mqtt = MqttConfig::resolve(settings, &Common::new("unused")).unwrap();
    crate::world::runtime().block_on(async {
        let context = Context::for_tests();
        let given = writers.iter().map(|writer| {
            let writer: Arc<dyn Writer> = Arc::<Counting>::clone(writer);
            writer
        });
        let handle = start_from_mqtt(small_batches(), &mqtt, Some(7), given.collect(), &context);
        let ready = context.health.components_ready();
        tokio::time::timeout(PATIENCE, ready).await.unwrap();
        let port = world.port();
        let load = std::thread::spawn(move || publish(port, 0..4_000, 0));
        let all = async {
            while handle.counters.snapshot().stored < 4_000 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap();
        load.join().unwrap();
        context.tasks.stop(PATIENCE).await.unwrap();
        let failures = context.tasks.take_failures();
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(handle.counters.snapshot().received, 4_000);
    });
    for writer in writers {
        let share = writer.0.load(Ordering::Relaxed);
        assert!(share > 400, "one of four connections got {share} of 4000");
    }
}
