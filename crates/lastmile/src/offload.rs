//! The lake's part: offloads on a schedule and has the SQL models run after it.
//!
//! A run that fails is logged and made up for by the next: the offload is exactly once whatever happens to
//! it. The models are due after every offload that carried rows, once after the start, and again until they
//! succeed.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use lake::{LakeError, Offload, OffloadConfig, Summary};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use service::{BoxError, CancellationToken, Clock, Context, ErrorChain, Metrics, Stage};
use store::LakeSource;

use crate::models::{Models, Run};
use crate::settings::LakeConfig;

/// Who holds the lake's lease. The same after a restart, so that a killed process does not keep its successor
/// waiting for the lease to run out; the lock on the data directory keeps two of them apart.
const HOLDER: &str = "lastmile";

/// What the lake's part counts.
#[derive(Debug)]
struct LakeMetrics {
    /// Rows carried into the lake and verified there.
    rows: Counter,
    /// Offloads that failed and are made up for by the next.
    failures: Counter,
    /// Rows the store had and the lake had not when the last offload ended.
    lag_rows: Gauge<i64, AtomicI64>,
    /// End of the last complete offload, seconds since 1970.
    complete_s: Gauge<i64, AtomicI64>,
    /// Runs of the SQL models that failed.
    model_failures: Counter<u64, AtomicU64>,
}

impl LakeMetrics {
    fn new(metrics: &Metrics) -> Self {
        let counter = |name, help| metrics.register(name, help, Counter::default());
        let gauge = |name, help| metrics.register(name, help, Gauge::default());
        Self {
            rows: counter(
                "lake_offloaded_rows",
                "Rows carried into the lake and verified",
            ),
            failures: counter("lake_failed_offloads", "Offloads that failed"),
            lag_rows: gauge(
                "lake_lag_rows",
                "Rows not in the lake after the last offload",
            ),
            complete_s: gauge(
                "lake_complete_timestamp_seconds",
                "End of the last complete offload, seconds since 1970",
            ),
            model_failures: counter(
                "lake_failed_model_runs",
                "Runs of the SQL models that failed",
            ),
        }
    }
}

/// Spawns the schedule, unless it is off.
///
/// # Errors
/// When the system does not tell where this program is.
pub(crate) fn spawn(
    config: LakeConfig,
    data: &Path,
    source: Arc<dyn LakeSource>,
    context: &Context,
) -> Result<(), BoxError> {
    let Some(schedule) = config.lake_schedule else {
        tracing::info!("the lake's schedule is off");
        return Ok(());
    };
    let clock = Arc::clone(&context.clock);
    let offload_config = OffloadConfig::new(HOLDER);
    let root = config.lake;
    let offload = Offload::new(source, &root, offload_config, Arc::clone(&clock));
    let limit = config.lake_models_timeout.as_duration();
    let models = if config.lake_run_models {
        Some(Models::beside_this_program(data, &root.to_string(), limit)?)
    } else {
        None
    };
    let job = Arc::new(Job {
        offload,
        models,
        models_due: AtomicBool::new(true),
        metrics: LakeMetrics::new(&context.metrics),
        clock: Arc::clone(&clock),
    });
    context
        .tasks
        .spawn(Stage::Drain, "lake", async move |stop| {
            lake::schedule::run(&schedule, clock.as_ref(), &stop, || {
                let job = Arc::clone(&job);
                let stop = stop.clone();
                async move { job.run(&stop).await }
            })
            .await;
            Ok(())
        });
    Ok(())
}

struct Job {
    offload: Offload,
    models: Option<Models>,
    models_due: AtomicBool,
    metrics: LakeMetrics,
    clock: Arc<dyn Clock>,
}

impl Job {
    async fn run(&self, stop: &CancellationToken) {
        let outcome = self
            .offload
            .run_once(&mut |_| {
                if stop.is_cancelled() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .await;
        match outcome {
            Ok(summary) => self.carried(&summary),
            Err(LakeError::LeaseHeld { .. }) => {
                tracing::info!("another process works on the lake; this offload is left to it");
            }
            Err(error) => {
                self.metrics.failures.inc();
                tracing::error!(error = %ErrorChain(&error), "the offload failed; the next goes on from there");
            }
        }
        let due = self.models_due.load(Ordering::Relaxed) && !stop.is_cancelled();
        if let Some(models) = &self.models
            && due
        {
            match models.run(stop).await {
                Run::Done => self.models_due.store(false, Ordering::Relaxed),
                Run::Failed => {
                    self.metrics.model_failures.inc();
                }
                Run::Absent => {}
            }
        }
    }

    fn carried(&self, summary: &Summary) {
        let rows = summary.rows();
        let lag: u64 = summary.tables.iter().map(|table| table.lag_rows).sum();
        self.metrics
            .lag_rows
            .set(i64::try_from(lag).unwrap_or(i64::MAX));
        if summary.complete {
            let now_s = self.clock.now().as_micros() / 1_000_000;
            self.metrics.complete_s.set(now_s);
        }
        if rows > 0 {
            self.metrics.rows.inc_by(rows);
            self.models_due.store(true, Ordering::Relaxed);
            let (bytes, seconds) = (summary.bytes(), summary.seconds);
            tracing::info!(rows, bytes, seconds, "rows were carried into the lake");
        }
    }
}
