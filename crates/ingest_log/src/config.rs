//! Settings of a log, and their check.

use std::path::PathBuf;
use std::time::Duration;

use crate::LogError;

/// What "durable" means when a commit resolves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// Each group is written and `fdatasync`ed: acknowledged records survive power loss.
    #[default]
    Fdatasync,
    /// Each group is written to the operating system: acknowledged records survive `kill -9` of the
    /// process and nothing more. Segments are still synced when they are sealed and on close.
    OsBuffer,
}

/// Settings of a log.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The folder that holds the log and nothing else. Created when absent.
    pub dir: PathBuf,
    /// Size at which a segment is sealed, in bytes. Small segments free disk sooner, large ones roll
    /// less often. A group larger than this makes one larger segment.
    pub segment_bytes: u64,
    /// Most bytes accepted and not yet durable. At the bound `append` waits. Also the largest batch.
    pub max_pending_bytes: usize,
    /// How long the writer lets a group gather before it writes, counted from the group's first record.
    /// Zero loses nothing under load: the next group gathers while the current one is synced.
    pub linger: Duration,
    /// What "durable" means.
    pub sync: SyncMode,
    /// Most bytes the segments may take on disk. At the bound commits wait until consumers have moved
    /// on; nothing is evicted. `None`: the disk is the bound.
    pub max_log_bytes: Option<u64>,
    /// Whether records are also kept until [`crate::Cursors::hold`] lets them go.
    pub held: bool,
}

impl LogConfig {
    /// Returns the defaults for a folder: 64 MiB segments, 32 MiB pending, no linger, fdatasync, no cap.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            max_pending_bytes: 32 << 20,
            linger: Duration::ZERO,
            sync: SyncMode::Fdatasync,
            max_log_bytes: None,
            held: false,
        }
    }

    /// Checks the settings against each other.
    ///
    /// # Errors
    /// [`LogError::Config`] names the first setting that makes no sense.
    pub fn check(&self) -> Result<(), LogError> {
        let wrong = |setting, problem: String| Err(LogError::Config { setting, problem });
        if self.segment_bytes < MIN_SEGMENT_BYTES || self.segment_bytes > MAX_SEGMENT_BYTES {
            return wrong(
                "segment_bytes",
                format!(
                    "is {}; give {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}",
                    self.segment_bytes
                ),
            );
        }
        if self.max_pending_bytes == 0 || u32::try_from(self.max_pending_bytes).is_err() {
            return wrong(
                "max_pending_bytes",
                format!("is {}; give 1 byte to 4 GiB", self.max_pending_bytes),
            );
        }
        // One active segment, one prepared ahead and one that consumers still read.
        let least = 3 * self.segment_bytes;
        match self.max_log_bytes {
            Some(most) if most < least => wrong(
                "max_log_bytes",
                format!("is {most}; give at least three segments, {least} bytes"),
            ),
            _ => Ok(()),
        }
    }
}

/// Smallest segment, in bytes. Tests roll often with it.
const MIN_SEGMENT_BYTES: u64 = 512;
/// Largest segment, in bytes.
const MAX_SEGMENT_BYTES: u64 = 4 << 30;
