//! The keeper: all that must not delay a commit.
//!
//! It persists cursors, deletes segments that nobody needs, cuts sealed segments to their length, and
//! makes the next segment's file ahead. [`Keeper::step`] does all that is due and never sleeps; the
//! thread calls it every second and whenever the bell rings.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cursors::file::CursorFile;
use crate::segment::{self, Segment};
use crate::shared::Shared;
use crate::sync::lock;
use crate::{LogCondition, LogError};

/// How often cursors are persisted when nobody waits for it.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    cursor_file: CursorFile,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, cursor_file: CursorFile) -> Self {
        Self {
            shared,
            cursor_file,
        }
    }

    /// Loops until the writer has ended, then persists the cursors a last time and frees the folder.
    pub(crate) fn run(mut self) {
        while !self.shared.writer_has_ended() {
            self.shared.bell.wait(EVERY);
            self.step();
        }
        self.finish();
    }

    /// Does all that is due. A failure stops the log.
    pub(crate) fn step(&mut self) {
        if self.shared.has_failed() {
            return;
        }
        match self.work() {
            // A writer that waits for space says itself when it found some.
            Ok(()) if self.shared.pending_bytes() == 0 => {
                self.shared.set_condition(LogCondition::Ok);
            }
            Ok(()) => {}
            // The writer meets the same and waits for space; here the next step tries again.
            Err(LogError::Full { .. }) => {}
            Err(error) if error.is_no_space() => {
                let full = LogCondition::Full(error.to_reason());
                self.shared.set_condition(full);
            }
            Err(error) => self.shared.fail(error.to_reason()),
        }
    }

    fn work(&mut self) -> Result<(), LogError> {
        // First what frees space, then what takes it.
        let persisted = self.persist_cursors();
        self.delete_unneeded()?;
        self.cut_sealed()?;
        persisted?;
        let shared = &self.shared;
        let mut spare = lock(&shared.spare);
        spare.prepare(&*shared.disk, &shared.config, &shared.segments)
    }

    fn persist_cursors(&mut self) -> Result<(), LogError> {
        if let Some(snapshot) = self.shared.cursors.unpersisted() {
            self.cursor_file.write(&snapshot.cursors)?;
            self.shared.cursors.set_persisted(&snapshot);
        }
        Ok(())
    }

    /// Deletes segments below the slowest cursor, oldest first; each deletion is made durable before
    /// the next, so that those left are always consecutive.
    fn delete_unneeded(&self) -> Result<(), LogError> {
        let shared = &self.shared;
        while let Some(oldest) = shared
            .cursors
            .with_floor(|floor| self.give_up_oldest(floor))
        {
            let path = segment::path(&shared.config.dir, oldest.ordinal);
            match shared.disk.remove(&path) {
                // Removed by an earlier try whose folder sync found no space.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|error| LogError::io("remove", &path, error))?,
            }
            let synced = shared.disk.sync_dir(&shared.config.dir);
            synced.map_err(|error| LogError::io("sync", &shared.config.dir, error))?;
            // Only now: what failed above is tried again by the next step.
            shared.segments.forget_oldest();
            shared.space_was_freed();
        }
        Ok(())
    }

    fn give_up_oldest(&self, floor: u64) -> Option<Arc<Segment>> {
        let (oldest, first) = self.shared.segments.oldest_below(floor)?;
        self.shared.bounds.first.store(first, Ordering::Release);
        Some(oldest)
    }

    /// Cuts the unused end off sealed segments. It frees space only: readers and the next open know the
    /// length from the header of the segment that follows, so nothing here needs a sync.
    fn cut_sealed(&self) -> Result<(), LogError> {
        let segments = self.shared.segments.all();
        let Some((_active, sealed)) = segments.split_last() else {
            return Ok(());
        };
        for segment in sealed {
            let len = segment.durable_len();
            if segment.file_len() > len {
                let path = segment::path(&self.shared.config.dir, segment.ordinal);
                self.cut(&path, len)?;
                segment.set_file_len(len);
                self.shared.space_was_freed();
            }
        }
        Ok(())
    }

    fn cut(&self, path: &Path, len: u64) -> Result<(), LogError> {
        let file = self.shared.disk.open(path);
        let file = file.map_err(|error| LogError::io("open", path, error))?;
        let cut = file.set_len(len);
        cut.map_err(|error| LogError::io("cut", path, error))
    }

    /// Ends the log once its writer has ended.
    pub(crate) fn finish(&mut self) {
        if !self.shared.has_failed() {
            let persisted = self.persist_cursors();
            let shared = &self.shared;
            let discard = || lock(&shared.spare).discard(&*shared.disk, &shared.config);
            if let Err(error) = persisted.and_then(|()| discard()) {
                shared.fail(error.to_reason());
            }
        }
        self.shared.cursors.stop(LogError::Closed);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail("its keeper panicked".into());
        }
        *lock(&self.shared.folder_lock) = None;
        self.shared.ended.send_replace(true);
        self.shared.news.send_replace(());
    }
}
