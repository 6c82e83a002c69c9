//! One process per data directory.
//!
//! The log and its cursors belong to one process. An advisory lock on `run/lastmile.lock` says whose the
//! directory is; the kernel lets go of it when the process ends in whatever way, so nothing stale is left.
//! The file also holds the process id, for the message only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the data directory {} is in use by process {holder}; stop that one first (./stop.sh --data {}), or give another --data", .directory.display(), .directory.display())]
    Taken {
        /// The directory.
        directory: PathBuf,
        /// The other process, or `unknown`.
        holder: String,
    },
    /// It cannot be made or written.
    #[error("the data directory {} cannot be used", .directory.display())]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl DataLock {
    /// Makes the directory if need be and takes its lock.
    ///
    /// # Errors
    /// [`LockError::Taken`] when another process has it.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let unusable = |source: io::Error| LockError::Unusable {
            directory: directory.to_path_buf(),
            source,
        };
        let run = directory.join("run");
        fs::create_dir_all(&run).map_err(unusable)?;
        let path = run.join("lastmile.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unusable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                // Only the message suffers when the id cannot be read.
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let holder = holder.trim();
                let known = !holder.is_empty() && holder.bytes().all(|b| b.is_ascii_digit());
                return Err(LockError::Taken {
                    directory: directory.to_path_buf(),
                    holder: if known { holder } else { "unknown" }.to_owned(),
                });
            }
            Err(error) => return Err(unusable(error.into())),
        }
        file.set_len(0).map_err(unusable)?;
        writeln!(file, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataLock::take(directory.path()).unwrap();
        let error = DataLock::take(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        assert!(error.contains(&directory.path().display().to_string()));
        drop(first);
        DataLock::take(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = DataLock::take(Path::new("/dev/null/data")).unwrap_err();
        assert!(matches!(error, LockError::Unusable { .. }));
    }
}
