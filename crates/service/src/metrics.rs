//! The metrics of this process, in Prometheus' text form.
//!
//! Names follow `<service>_<noun>_<unit>`; counters are registered without `_total`, which the encoder
//! adds. Every process also tells its memory, start and build.

use std::fmt;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use crate::clock::Clock;

/// The registry. Cheap to clone; all clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Makes a registry that already tells memory, start and build of the process.
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        let mut registry = Registry::default();
        registry.register(
            "lastmile_build",
            "Version and git revision of the binary",
            Info::new([("version", crate::VERSION), ("revision", crate::REVISION)]),
        );
        let started_s = clock.now().as_micros() / 1_000_000;
        registry.register_collector(Box::new(Process { started_s }));
        Self(Arc::new(Mutex::new(registry)))
    }

    /// Registers a metric and returns it; keep the returned handle (or any clone) to change it.
    ///
    /// Register a name once per process: the registry would show it twice.
    pub fn register<T: Metric + Clone>(&self, name: &str, help: &str, metric: T) -> T {
        self.lock().register(name, help, metric.clone());
        metric
    }

    /// Registers something that finds its values when asked, for example queue depths.
    pub fn register_collector(&self, collector: Box<dyn Collector>) {
        self.lock().register_collector(collector);
    }

    /// Returns every metric as `OpenMetrics` text.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a String fails only when a metric's own encoding does.
        if let Err(error) = text::encode(&mut out, &self.lock()) {
            tracing::error!(%error, "a metric cannot be encoded");
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What the operating system knows about this process.
#[derive(Debug)]
struct Process {
    started_s: i64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name, help, value: i64| {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)
        };
        gauge(
            "process_start_time_seconds",
            "Start of the process, seconds since 1970",
            self.started_s,
        )?;
        let Some(resident) = resident_bytes() else {
            return Ok(());
        };
        gauge(
            "process_resident_memory_bytes",
            "Memory of the process that is in RAM",
            resident,
        )
    }
}

/// Reads the resident size; `None` where there is no `/proc`.
fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
