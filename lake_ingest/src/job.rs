//! One run: the offload, then the models.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lake::{Offload, OffloadConfig, Progress, Summary};
use lake_models::{Model, ModelSummary, Runner};
use serde::Serialize;
use service::{BoxError, Clock, Context};
use store::LakeSource;

use crate::settings::Config;

/// What a run did.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The offload; absent when only models ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offload: Option<Summary>,
    /// The models, in the order run.
    pub(crate) models: Vec<ModelSummary>,
    /// Whether a stop was asked for before everything was done.
    pub(crate) interrupted: bool,
}

/// Runs from one store to one lake.
pub(crate) struct Job {
    offload: Offload,
    runner: Runner,
    models: Vec<Model>,
}

/// Returns the models to run.
pub(crate) fn models(config: &Config) -> Result<Vec<Model>, BoxError> {
    Ok(match &config.models {
        None => lake_models::builtin(),
        Some(folder) => lake_models::declaration::from_folder(folder)?,
    })
}

impl Job {
    pub(crate) fn new(
        config: &Config,
        source: Arc<dyn LakeSource>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, BoxError> {
        let started = clock.now().as_micros();
        let holder = format!("lake_ingest {} of {started}", std::process::id());
        let offload_config = OffloadConfig {
            window_rows: config.window_rows,
            ..OffloadConfig::new(holder)
        };
        let offload = Offload::new(source, &config.lake, offload_config, clock.clone());
        let lease = offload.lease().clone();
        Ok(Self {
            runner: Runner::new(config.lake.clone(), lease, clock.clone()),
            offload,
            models: models(config)?,
        })
    }

    /// Offloads and runs the models; ends early, at the next whole step, when a stop is asked for.
    pub(crate) async fn run(&self, context: &Context) -> Result<Report, BoxError> {
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
        let offload = self.offload.run_once(&mut on_progress).await;
        bar.finish_and_clear();
        let offload = offload?;
        let mut report = self.run_models(context).await?;
        report.offload = Some(offload);
        Ok(report)
    }

    /// Runs only the models.
    pub(crate) async fn run_models(&self, context: &Context) -> Result<Report, BoxError> {
        let mut models = Vec::new();
        for model in &self.models {
            if context.tasks.is_stopping() {
                break;
            }
            let bar = spinner(&model.full_name());
            let ran = self.runner.run(std::slice::from_ref(model), |_| ()).await;
            bar.finish_and_clear();
            models.extend(ran?);
        }
        Ok(Report {
            offload: None,
            interrupted: models.len() < self.models.len(),
            models,
        })
    }
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
