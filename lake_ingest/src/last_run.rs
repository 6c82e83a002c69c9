//! What the last run of a data folder did, kept in `run/lake_ingest.last.json` for `status` to show.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use service::Clock;

use crate::job::Report;

/// A run that came to an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastRun {
    /// When it began.
    pub(crate) began: String,
    /// When it ended.
    pub(crate) ended: String,
    /// `ok`, `interrupted` or `failed`.
    pub(crate) outcome: String,
    /// Rows offloaded.
    pub(crate) rows: u64,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

fn file(data: &Path) -> PathBuf {
    data.join("run/lake_ingest.last.json")
}

impl LastRun {
    pub(crate) fn new(clock: &dyn Clock, began: String, outcome: Result<&Report, String>) -> Self {
        let (word, rows, error) = match outcome {
            Ok(report) => {
                let word = if report.interrupted {
                    "interrupted"
                } else {
                    "ok"
                };
                let offload = report.offload.as_ref();
                (word, offload.map_or(0, lake::Summary::rows), None)
            }
            Err(error) => ("failed", 0, Some(error)),
        };
        Self {
            began,
            ended: clock.now().to_string(),
            outcome: word.to_owned(),
            rows,
            error,
        }
    }

    /// Keeps it. That it cannot be kept is no failure of the run.
    pub(crate) fn keep(&self, data: &Path) {
        let path = file(data);
        let kept = serde_json::to_vec(self).map_err(std::io::Error::from);
        let kept = kept.and_then(|content| {
            fs::create_dir_all(data.join("run"))?;
            let new = path.with_extension("new");
            fs::write(&new, content)?;
            fs::rename(new, &path)
        });
        if let Err(error) = kept {
            tracing::debug!(%error, path = %path.display(), "the run could not be noted");
        }
    }

    pub(crate) fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file(data)).ok()?).ok()
    }
}
