//! The default command: a fleet under way.

use service::{BoxError, Context};
use tokio::time::Instant;

use crate::engine::{self, Job};
use crate::settings::SimulateConfig;
use crate::source::{Fleet, Plan, Source};
use crate::summary::Summary;

/// Simulates until all orders have arrived, the limit is reached, or the process is told to stop.
pub(crate) async fn run(config: &SimulateConfig, context: &Context) -> Result<(), BoxError> {
    let ledger = config.send.open_ledger()?;
    let start = Instant::now();
    let plan = Plan {
        workers: config.workers,
        locations: config.locations,
        orders: config.orders,
        messages: config.burst,
        pace: config.pace(),
        seed: config.seed,
        start,
        until: config.duration.map(|duration| start + duration.0),
    };
    let connections = config.send.connections;
    let fleets = (0..connections).map(|index| Fleet::new(plan.clone(), index, connections));
    let job = Job {
        options: config.send.options(),
        sources: fleets.map(|fleet| Source::Fleet(Box::new(fleet))).collect(),
        threads: config.send.threads,
        ledger: ledger.clone(),
        stop_patience: config.send.stop_patience,
        expected: config.expected(),
    };
    let acknowledged = job.options.acknowledged;
    let report = engine::run(job, context).await?;
    let mut summary = Summary::new(&report, acknowledged);
    summary.seed = Some(config.seed);
    config.send.conclude(&report, &summary, ledger.as_deref())
}
