//! The next segment's file, made ahead so that a roll costs the writer nothing.
//!
//! Invariant: a file handed out by [`Spare::take`] is empty, and its folder entry is durable; so the
//! sync of its first group is all that group needs.

use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Disk, File};
use crate::segment::{self, Segments};
use crate::{LogConfig, LogError};

/// The file that becomes the next segment.
#[derive(Debug)]
pub(crate) struct Spare {
    ordinal: u64,
    file: Option<Arc<dyn File>>,
}

/// A file taken for the next segment.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) ordinal: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
}

impl Spare {
    pub(crate) fn new(ordinal: u64) -> Self {
        Self {
            ordinal,
            file: None,
        }
    }

    /// Makes the file if there is none.
    ///
    /// # Errors
    /// [`LogError::Full`] when the disk or the cap of the log is exhausted; trying again later is right.
    /// Other errors are for good.
    pub(crate) fn prepare(
        &mut self,
        disk: &dyn Disk,
        config: &LogConfig,
        segments: &Segments,
    ) -> Result<(), LogError> {
        if self.file.is_some() {
            return Ok(());
        }
        if let Some(most) = config.max_log_bytes {
            let (_, used) = segments.size();
            if used + config.segment_bytes > most {
                let reason = format!("it has reached max_log_bytes, {most} bytes");
                return Err(LogError::Full {
                    reason: reason.into(),
                });
            }
        }
        match self.make(disk, config) {
            Ok(file) => {
                self.file = Some(file);
                Ok(())
            }
            Err(error) if error.is_no_space() => {
                // What was made may hold the last free blocks. When this fails too, the next try
                // empties the file.
                if let Err(error) = disk.remove(&segment::path(&config.dir, self.ordinal)) {
                    tracing::debug!(%error, "a half-made segment stays");
                }
                Err(LogError::Full {
                    reason: error.to_reason(),
                })
            }
            Err(error) => Err(error),
        }
    }

    fn make(&self, disk: &dyn Disk, config: &LogConfig) -> Result<Arc<dyn File>, LogError> {
        let path = segment::path(&config.dir, self.ordinal);
        let file = disk.create(&path);
        let file = file.map_err(|error| LogError::io("create", &path, error))?;
        let allocated = file.preallocate(config.segment_bytes);
        allocated.map_err(|error| LogError::io("allocate", &path, error))?;
        // The length must be on disk now, so that the groups' syncs need not write it.
        let synced = file.sync_all();
        synced.map_err(|error| LogError::io("sync", &path, error))?;
        let synced = disk.sync_dir(&config.dir);
        synced.map_err(|error| LogError::io("sync", &config.dir, error))?;
        Ok(file)
    }

    /// Hands out the file that [`Spare::prepare`] made.
    pub(crate) fn take(&mut self, config: &LogConfig) -> Option<Taken> {
        let file = self.file.take()?;
        let ordinal = self.ordinal;
        self.ordinal += 1;
        Some(Taken {
            ordinal,
            path: segment::path(&config.dir, ordinal),
            file,
        })
    }

    /// Removes an unused file when the log is closed.
    pub(crate) fn discard(&mut self, disk: &dyn Disk, config: &LogConfig) -> Result<(), LogError> {
        if self.file.take().is_none() {
            return Ok(());
        }
        let path = segment::path(&config.dir, self.ordinal);
        let removed = disk.remove(&path);
        removed.map_err(|error| LogError::io("remove", &path, error))?;
        let synced = disk.sync_dir(&config.dir);
        synced.map_err(|error| LogError::io("sync", &config.dir, error))
    }
}
