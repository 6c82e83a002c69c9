//! How far each table is offloaded, and what the lake holds.

use std::sync::Arc;

use lake::Root;
use lake::delta::Table;
use lake::storage::ObjectKey;
use lake::vacuum::Shape;
use lake_models::Model;
use serde::Serialize;
use service::BoxError;
use store::{LakeSource, LakeTable, WindowState};

use crate::background::Running;
use crate::last_run::LastRun;

/// A writer's rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Watermark {
    pub(crate) table: &'static str,
    pub(crate) writer_id: String,
    /// Last sequence the store has committed.
    pub(crate) committed: u64,
    /// Last sequence that is in the lake and was read back.
    pub(crate) in_lake: u64,
    /// The newest window, as `after..to`.
    pub(crate) window: Option<String>,
    /// How far it has come.
    pub(crate) state: Option<WindowState>,
    /// Its rows.
    pub(crate) rows: Option<u64>,
}

/// A table of the lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Held {
    pub(crate) table: String,
    pub(crate) commits: u64,
    pub(crate) rows: u64,
    /// Its live files.
    #[serde(flatten)]
    pub(crate) shape: Shape,
}

/// Both sides.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    /// The service in the background; absent when there is none.
    pub(crate) service: Option<Running>,
    /// The last run of this data folder, as far as it is known.
    pub(crate) last_run: Option<LastRun>,
    pub(crate) watermarks: Vec<Watermark>,
    pub(crate) lake: Vec<Held>,
}

/// Asks the store how far its rows were taken.
pub(crate) async fn watermarks(source: &dyn LakeSource) -> Result<Vec<Watermark>, BoxError> {
    let mut all = Vec::new();
    for table in LakeTable::ALL {
        for writer in source.writers(table).await? {
            let last = source.last_window(table, &writer.writer_id).await?;
            let taken = last.as_ref().map_or(0, |window| match window.state {
                WindowState::Verified => window.to,
                WindowState::Planned | WindowState::Committed => window.after,
            });
            all.push(Watermark {
                table: table.as_str(),
                writer_id: writer.writer_id,
                committed: writer.committed,
                in_lake: taken,
                window: last.as_ref().map(|w| format!("{}..{}", w.after, w.to)),
                state: last.as_ref().map(|window| window.state),
                rows: last.and_then(|window| window.rows),
            });
        }
    }
    Ok(all)
}

/// Reads what every table's log says; files below `small` bytes are counted as such.
pub(crate) async fn held(root: &Root, models: &[Model], small: u64) -> Result<Vec<Held>, BoxError> {
    let storage = root.open();
    let raw = LakeTable::ALL
        .iter()
        .map(|table| format!("raw/{}", table.as_str()));
    let names = raw.chain(models.iter().map(Model::folder));
    let mut all = Vec::new();
    for name in names {
        let Some(folder) = ObjectKey::new(name.clone()) else {
            continue;
        };
        let snapshot = Table::new(Arc::clone(&storage), folder).load().await?;
        if snapshot.exists() {
            all.push(Held {
                table: name.replacen('/', ".", 1),
                commits: snapshot.commits,
                rows: snapshot.rows(),
                shape: Shape::of(&snapshot, small),
            });
        }
    }
    Ok(all)
}
