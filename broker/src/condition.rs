//! Watches the log's condition: says when it has no room or has failed, and closes it at the end.
//!
//! What happens at the bound of the disk, `--log-max-size` or the disk itself: the log takes nothing, so clients are not
//! read and nothing is acknowledged; subscribers are served, and what they are done with makes room. `/readyz` and the
//! metric `ingest_log_accepts` say it. Nothing that anybody waits for is evicted: only when no session, no group and no
//! consumer in this process holds the log, because the last one has expired, what it kept for it is let go.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ingest_log::{Cursor, Log, LogCondition, LogError};
use service::{BoxError, CancellationToken, ComponentHealth};

/// How often the log's condition is looked at.
const WATCH: Duration = Duration::from_millis(250);
/// The cursor that lets go of what nobody waits for.
const NOBODY: &str = "broker/nobody";

/// Reports the log's condition; fails when the log did; closes it at the end.
pub(crate) async fn watch(
    log: Log,
    health: ComponentHealth,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    // Left by a process that was killed.
    log.cursors().remove(NOBODY);
    let mut pace = tokio::time::interval(WATCH);
    let mut reported = LogCondition::Ok;
    loop {
        select! {
            () = stop.cancelled() => {
                log.close().await?;
                return Ok(());
            }
            _ = pace.tick() => {}
        }
        let condition = log.status().condition;
        if matches!(condition, LogCondition::Full(_)) {
            let_go(&log);
        }
        if condition == reported {
            continue;
        }
        match &condition {
            LogCondition::Ok => {
                tracing::info!("the log takes records again");
                log.cursors().remove(NOBODY);
                health.ready();
            }
            LogCondition::Full(reason) => {
                tracing::error!(%reason, "the log is full; clients are not read until there is room");
                health.not_ready(format!("the log is full: {reason}"));
            }
            LogCondition::Failed(reason) => {
                health.not_ready(format!("the log failed: {reason}"));
                return Err(LogError::Failed {
                    reason: Arc::clone(reason),
                }
                .into());
            }
            LogCondition::Closed => health.not_ready("the log is closed"),
        }
        reported = condition;
    }
}

/// Lets go of what the log keeps, if nobody waits for any of it.
fn let_go(log: &Log) {
    let cursors = log.cursors().list();
    let holds = |(name, cursor): &(String, Cursor)| cursor.pins && name != NOBODY;
    if cursors.iter().any(holds) {
        return;
    }
    let next = log.next_durable();
    if log.cursors().get(NOBODY).is_none() {
        tracing::warn!(
            first = log.first(),
            next,
            "the log is full and nobody waits for anything: what it keeps is let go"
        );
    }
    let cursor = Cursor {
        next,
        meta: Bytes::new(),
        pins: true,
    };
    log.cursors().put(NOBODY, cursor);
}
