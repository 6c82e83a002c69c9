//! Vacuum: deleting files of a table that are not live, and telling how small the live ones are.
//!
//! A file that was live once is named by the log with the time it was replaced; it goes when it was replaced for
//! long enough. A file that never was is what a run that died left behind, or what a run at work has put and not
//! committed yet; nothing but its age tells the two apart.
//!
//! In raw only files go whose rows the log says were taken from the store: they are in other files then, and a plain
//! reader would see them twice. Live files are never touched.

use model::UtcMicros;
use serde::Serialize;

use crate::delta::{Snapshot, Table};
use crate::error::LakeError;
use crate::hive::PartName;

/// What goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vacuum {
    /// How long files stay that were replaced, in microseconds; up to seven days, which is as long as a log names them.
    pub retention_us: i64,
    /// How long files stay that never were live, in microseconds; 0 is for who knows that nobody else is at work.
    pub grace_us: i64,
}

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Vacuumed {
    /// Files deleted.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The size of a table's live files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Live files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that are smaller than what was asked for.
    pub small_files: u64,
    /// Their bytes.
    pub small_bytes: u64,
}

impl Shape {
    /// Counts a table's files; below `small` bytes they are small.
    pub fn of(snapshot: &Snapshot, small: u64) -> Self {
        let mut shape = Self::default();
        for add in snapshot.files.values() {
            shape.files += 1;
            shape.bytes += add.size;
            if add.size < small {
                shape.small_files += 1;
                shape.small_bytes += add.size;
            }
        }
        shape
    }
}

impl Table {
    /// Deletes data files that are not live as of a snapshot that was just read.
    ///
    /// # Errors
    /// [`LakeError::Storage`]; the next vacuum does the rest.
    pub async fn vacuum(
        &self,
        snapshot: &Snapshot,
        rule: Vacuum,
        now: UtcMicros,
    ) -> Result<Vacuumed, LakeError> {
        let mut gone = Vacuumed::default();
        if !snapshot.exists() {
            return Ok(gone);
        }
        let folder = format!("{}/", self.folder());
        let before = |us: i64| now.as_micros().saturating_sub(us);
        for object in self.storage().list(self.folder()).await? {
            let path = object.key.as_str().strip_prefix(&folder);
            let path = path.unwrap_or_default();
            let is_data = path.ends_with(".parquet") && !path.starts_with("_delta_log/");
            if !is_data || snapshot.files.contains_key(path) {
                continue;
            }
            let goes = if let Some(replaced) = snapshot.replaced_at_ms(path) {
                replaced.saturating_mul(1_000) <= before(rule.retention_us)
            } else {
                let age = rule.grace_us.max(rule.retention_us);
                // The storage's clock is another than ours; no age at all needs neither.
                let is_old = age == 0 || object.modified.as_micros() <= before(age);
                is_old && self.is_superseded(snapshot, path)
            };
            if goes {
                self.storage().delete(&object.key).await?;
                gone.files += 1;
                gone.bytes += object.size;
            }
        }
        Ok(gone)
    }

    /// Tells whether a file that never was live never will be. Tables of models are made anew at any time; what was
    /// taken from the store is taken once.
    fn is_superseded(&self, snapshot: &Snapshot, path: &str) -> bool {
        let Some(name) = self.folder().as_str().strip_prefix("raw/") else {
            return true;
        };
        PartName::parse(path).is_some_and(|part| {
            let app_id = format!("lastmile/{name}/{}", part.writer_id);
            let taken = snapshot.transactions.get(&app_id);
            taken.is_some_and(|taken| part.to <= taken.cast_unsigned())
        })
    }
}
