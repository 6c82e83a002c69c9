//! How fast messages come from a broker into a store that costs nothing, and what that costs.
//!
//! `mqtt_bench subscribe HOST:PORT CONNECTIONS` leaves sessions at the broker. Publish something then, and
//! `mqtt_bench drain HOST:PORT CONNECTIONS MESSAGES` takes it, and says how fast, and how much processor time
//! a message took in this process. An optional fifth argument is the store's time for a batch, in milliseconds.
#![expect(clippy::print_stdout, reason = "the result is printed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use service::{BoxError, Common, Context};
use store::{Appended, Batch, StoreError, Writer};
use subscriber::{Config, MqttConfig, MqttSettings, Settings, start_from_mqtt};

/// Takes everything and keeps nothing.
struct Nothing(Duration);

#[async_trait]
impl Writer for Nothing {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        if !self.0.is_zero() {
            tokio::time::sleep(self.0).await;
        }
        Ok(Appended {
            stored: batch.records.len() as u64,
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

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, broker, connections, rest @ ..] = arguments.as_slice() else {
        return Err("give subscribe or drain, HOST:PORT, CONNECTIONS [MESSAGES [MS]]".into());
    };
    let messages: u64 = rest.first().map_or(Ok(0), |text| text.parse())?;
    let pause: u64 = rest.get(1).map_or(Ok(0), |text| text.parse())?;
    let common = Common::new("unused");
    let settings = MqttSettings {
        broker: Some(format!("mqtt://{broker}")),
        connections: Some(connections.parse()?),
        ..MqttSettings::default()
    };
    let mqtt = MqttConfig::resolve(settings, &common)?;
    let config = Config::resolve(Settings::default(), &common)?;
    let writers = (0..mqtt.connections)
        .map(|_| Arc::new(Nothing(Duration::from_millis(pause))) as Arc<dyn Writer>)
        .collect();
    let context = Context::for_tests();
    let handle = start_from_mqtt(config, &mqtt, None, writers, &context);
    context.health.components_ready().await;
    let began = Instant::now();
    let processor_before = processor_seconds()?;
    if what == "drain" {
        let stored = || handle.counters.snapshot().stored;
        while stored() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while stored() < messages {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "some millions")]
        let count = handle.counters.snapshot().stored as f64;
        let seconds = began.elapsed().as_secs_f64();
        let processor = processor_seconds()? - processor_before;
        println!(
            "{count} messages in {seconds:.2} s: {:.0} per second, {:.2} us of processor time each; {:?}",
            count / seconds,
            processor / count * 1e6,
            handle.counters.snapshot()
        );
    }
    context.tasks.stop(Duration::from_secs(10)).await?;
    Ok(())
}

/// Processor time of this process so far; the kernel counts in hundredths.
fn processor_seconds() -> Result<f64, BoxError> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(") ").ok_or("no name in stat")?.1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks = |index: usize| -> Result<f64, BoxError> {
        Ok(fields.get(index).ok_or("stat is short")?.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
