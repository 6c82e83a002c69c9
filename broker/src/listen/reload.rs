//! Reads files again when they change, or when SIGHUP comes.
//!
//! Looks once a second, which needs no watching of folders and sees what replaces a file or a link as well as what
//! writes into it. What is wrong with a new file is said once, and all stays as it was.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use service::{BoxError, CancellationToken, Context, ErrorChain, Stage};
use tokio::signal::unix::{SignalKind, signal};

use crate::metrics::Metrics;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// What is read from files.
pub(crate) struct Source {
    /// For messages.
    pub(crate) name: &'static str,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) reload: Box<dyn Fn() -> Result<(), BoxError> + Send + Sync>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What tells one state of a file from another.
type Look = Option<(u64, u64, i64, i64)>;

fn look(path: &Path) -> Look {
    let of = |meta: fs::Metadata| (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
    fs::metadata(path).ok().map(of)
}

fn look_at(sources: &[Source]) -> Vec<Vec<Look>> {
    let looks = |source: &Source| source.files.iter().map(|path| look(path)).collect();
    sources.iter().map(looks).collect()
}

/// Watches until intake stops; does nothing where there is nothing to watch.
pub(crate) fn watch(mut sources: Vec<Source>, metrics: Metrics, context: &Context) {
    sources.retain(|source| !source.files.is_empty());
    if sources.is_empty() {
        return;
    }
    // From before the task runs: what changes from now on is seen.
    let seen = look_at(&sources);
    context.tasks.spawn(Stage::Intake, "reload", |stop| {
        run(sources, seen, metrics, stop)
    });
}

async fn run(
    sources: Vec<Source>,
    mut seen: Vec<Vec<Look>>,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut pace = tokio::time::interval(LOOK);
    let sources = std::sync::Arc::new(sources);
    loop {
        let all = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = pace.tick() => false,
            _ = hangup.recv() => true,
        };
        let (mine, metrics, before) = (sources.clone(), metrics.clone(), seen.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let now = look_at(&mine);
            for (index, source) in mine.iter().enumerate() {
                if all || now[index] != before[index] {
                    reload(source, &metrics);
                }
            }
            now
        });
        seen = looked.await?;
    }
}

fn reload(source: &Source, metrics: &Metrics) {
    let files = source.name;
    let reloaded = (source.reload)();
    metrics.reloaded(reloaded.is_ok());
    match reloaded {
        Ok(()) => tracing::info!(files, "read again"),
        Err(error) => {
            let error = ErrorChain(error.as_ref());
            tracing::error!(files, %error, "what changed cannot be taken; all stays as it was");
        }
    }
}
