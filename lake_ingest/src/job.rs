//! One run: the offload, the comparison of dates where one is asked for, the models, the lake's upkeep.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lake::storage::{Access, Storage};
use lake::{DateCount, Dates, LakeError, Offload, OffloadConfig, Progress, Summary};
use lake_models::{Model, ModelError, ModelSummary, Runner};
use serde::Serialize;
use service::{BoxError, Clock, Context};
use store::LakeSource;
use tokio::sync::OnceCell;

use crate::settings::Config;
use crate::upkeep::{self, Kept, Task, Upkeep, UpkeepConfig};

/// What a run did.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// The offload; absent when only models ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offload: Option<Summary>,
    /// The dates that were looked at, by table and date; absent when none were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dates: Option<Vec<DateCount>>,
    /// The models, in the order run.
    pub(crate) models: Vec<ModelSummary>,
    /// The tables after the run, and what was done to keep them in shape.
    pub(crate) upkeep: Vec<Kept>,
    /// Whether a stop was asked for before everything was done.
    pub(crate) interrupted: bool,
}

impl Report {
    /// Fails when the lake does not have every row of the dates once.
    pub(crate) fn agrees(&self) -> Result<(), BoxError> {
        let wrong: Vec<_> = self
            .dates
            .iter()
            .flatten()
            .filter(|count| !count.agrees())
            .map(|count| {
                format!(
                    "{} of {}: {} rows of the store are missing, {} are there twice",
                    count.table, count.date, count.missing, count.repeated
                )
            })
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!(
            "store and lake do not agree; raw files were deleted or changed, or the store holds rows at sequences the \
             lake had passed. {}",
            wrong.join("; ")
        )
        .into())
    }
}

/// Runs from one store to one lake.
pub(crate) struct Job {
    offload: Offload,
    runner: Runner,
    models: Vec<Model>,
    dates: Option<Dates>,
    upkeep: UpkeepConfig,
    clock: Arc<dyn Clock>,
    patience: Duration,
    storage: Arc<dyn Storage>,
    checked: OnceCell<()>,
}

/// How long a single run waits for the lease: longer than that of a runner that died a moment ago holds. A
/// scheduled one does not wait, its next run comes soon enough.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Returns the models to run.
pub(crate) fn models(config: &Config) -> Result<Vec<Model>, BoxError> {
    Ok(match &config.models {
        None => lake_models::builtin(),
        Some(folder) => lake_models::declaration::from_folder(folder)?,
    })
}

/// Returns the models that are named, or of a layer named; no name stands for all.
pub(crate) fn selected(models: Vec<Model>, names: &[String]) -> Result<Vec<Model>, BoxError> {
    let is = |model: &Model, name: &str| model.full_name() == name || model.layer.as_str() == name;
    let known = |name: &&String| models.iter().any(|model| is(model, name));
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let known: Vec<_> = models.iter().map(Model::full_name).collect();
        let known = known.join(", ");
        return Err(format!("there is no model or layer {unknown}; the models are {known}").into());
    }
    let is_selected = |model: &Model| names.is_empty() || names.iter().any(|name| is(model, name));
    Ok(models.into_iter().filter(is_selected).collect())
}

impl Job {
    pub(crate) fn new(
        config: &Config,
        source: Arc<dyn LakeSource>,
        clock: &Arc<dyn Clock>,
        patience: Duration,
    ) -> Result<Self, BoxError> {
        // In containers each is process 1, and two may start in one microsecond.
        let holder = format!("lake_ingest {:016x}", rand::random::<u64>());
        let offload_config = OffloadConfig {
            window_rows: config.window_rows,
            purge_after_us: config.purge_after.map(upkeep::micros),
            ..OffloadConfig::new(holder)
        };
        let offload = Offload::new(source, &config.lake, offload_config, clock.clone());
        let lease = offload.lease().clone();
        let runner = Runner::new(config.lake.clone(), lease, clock.clone());
        let anew = config.dates.into_iter().flat_map(Dates::names);
        Ok(Self {
            runner: runner
                .with_dates(anew)
                .with_replaced_kept(upkeep::micros(config.upkeep.keep_replaced)),
            offload,
            models: models(config)?,
            dates: config.dates,
            upkeep: config.upkeep.clone(),
            clock: clock.clone(),
            patience,
            storage: config.lake.open(),
            checked: OnceCell::new(),
        })
    }

    /// Leaves the models out.
    pub(crate) fn without_models(mut self) -> Self {
        self.models.clear();
        self
    }

    /// Leaves out the models that are not [`selected`].
    pub(crate) fn with_only(mut self, names: &[String]) -> Result<Self, BoxError> {
        self.models = selected(self.models, names)?;
        Ok(self)
    }

    /// Sees that the lake can be written, until it once could.
    async fn check(&self) -> Result<(), BoxError> {
        let check = || self.storage.check(Access::Write);
        let checked = self.checked.get_or_try_init(check).await;
        Ok(checked.map(drop).map_err(LakeError::from)?)
    }

    /// Offloads and runs the models; ends early, at the next whole step, when a stop is asked for.
    pub(crate) async fn run(&self, context: &Context) -> Result<Report, BoxError> {
        self.check().await?;
        let bar = bar();
        let mut on_progress = |progress: &Progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            bar.set_message(progress.table.as_str());
            if context.tasks.is_stopping() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let deadline = Instant::now() + self.patience;
        let offload = loop {
            match Box::pin(self.offload.run_once(&mut on_progress)).await {
                Err(LakeError::LeaseHeld { .. }) if wait(context, deadline).await => {}
                outcome => break outcome,
            }
        };
        bar.finish_and_clear();
        let offload = offload?;
        let dates = match self.dates {
            Some(dates) => Some(Box::pin(self.reconcile(dates, context)).await?),
            None => None,
        };
        let lacks = |dates: &[DateCount]| !dates.iter().all(DateCount::agrees);
        let mut report = if dates.as_deref().is_some_and(lacks) {
            // Models of a lake that lacks rows would only spread that.
            Report::default()
        } else {
            let mut report = Box::pin(self.run_models(context)).await?;
            report.upkeep = Box::pin(self.keep_up(Task::Run, context)).await?;
            report
        };
        report.offload = Some(offload);
        report.dates = dates;
        Ok(report)
    }

    async fn reconcile(
        &self,
        dates: Dates,
        context: &Context,
    ) -> Result<Vec<DateCount>, LakeError> {
        let deadline = Instant::now() + self.patience;
        loop {
            tokio::select! {
                outcome = self.offload.reconcile(dates) => match outcome {
                    Err(LakeError::LeaseHeld { .. }) if wait(context, deadline).await => {}
                    outcome => return outcome,
                },
                // Nothing is said of dates that were not looked at to the end.
                () = context.tasks.stopped() => return Ok(Vec::new()),
            }
        }
    }

    /// Keeps the lake's tables in shape.
    pub(crate) async fn keep_up(
        &self,
        task: Task,
        context: &Context,
    ) -> Result<Vec<Kept>, BoxError> {
        self.check().await?;
        let upkeep = Upkeep {
            storage: &self.storage,
            models: &self.models,
            config: &self.upkeep,
            lease: self.offload.lease(),
            clock: self.clock.as_ref(),
        };
        let deadline = Instant::now() + self.patience;
        loop {
            match upkeep.go(task, || context.tasks.is_stopping()).await {
                Err(LakeError::LeaseHeld { .. }) if wait(context, deadline).await => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Runs only the models.
    pub(crate) async fn run_models(&self, context: &Context) -> Result<Report, BoxError> {
        self.check().await?;
        let mut models = Vec::new();
        for model in &self.models {
            if context.tasks.is_stopping() {
                break;
            }
            let bar = spinner(&model.full_name());
            let deadline = Instant::now() + self.patience;
            let ran = loop {
                match self.runner.run(std::slice::from_ref(model), |_| ()).await {
                    Err(ModelError::Lake(LakeError::LeaseHeld { .. }))
                        if wait(context, deadline).await => {}
                    outcome => break outcome,
                }
            };
            bar.finish_and_clear();
            models.extend(ran?);
        }
        Ok(Report {
            offload: None,
            dates: None,
            upkeep: Vec::new(),
            interrupted: models.len() < self.models.len(),
            models,
        })
    }
}

/// Waits a moment for another runner to end; `false` when that is no use any more.
async fn wait(context: &Context, deadline: Instant) -> bool {
    if context.tasks.is_stopping() || Instant::now() >= deadline {
        return false;
    }
    tracing::info!("another runner has the lease, waiting");
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(2)) => {}
        () = context.tasks.stopped() => {}
    }
    true
}

/// A bar on a terminal, nothing elsewhere.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = "{spinner} {msg:20} {wide_bar} {human_pos}/{human_len} rows {per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn spinner(model: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    spinner.set_message(format!("running {model}"));
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}
