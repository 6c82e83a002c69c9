//! The seam between the log and the operating system.
//!
//! All I/O of the log goes through [`Disk`] and [`File`], so that tests can run it on
//! [`crate::sim::SimDisk`], which loses, tears and refuses writes. [`RealDisk`] is the only other
//! implementation. Calls block; they are made by the log's own threads, and by readers for data that
//! is normally in the page cache.

mod real;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;

/// Keeps other processes out of a log until it is dropped.
pub trait DiskLock: Send + Sync + Debug {}

/// A file system, as far as the log needs one.
///
/// Creating and removing a file is durable only after [`Disk::sync_dir`] of its folder.
pub trait Disk: Send + Sync + Debug {
    /// Creates a folder and its parents, durably; an existing one is fine.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` when there is none; any other error of the operating system.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Makes an empty file, emptying one that is there.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Removes a file. Open handles keep working.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Lists the names of the files in a folder, in no order.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes all creations and removals in a folder durable.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive lock of a file, made when absent. The lock ends with the process.
    ///
    /// # Errors
    /// `WouldBlock` when another holds it; any other error of the operating system.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file. Positions are bytes from its beginning.
pub trait File: Send + Sync + Debug {
    /// Reads at a position until the buffer is full or the file ends; returns the bytes read.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of a buffer at a position.
    ///
    /// # Errors
    /// Any error of the operating system; part of the buffer may then have been written.
    fn write_at(&self, buffer: &[u8], at: u64) -> io::Result<()>;

    /// Makes the content durable, and the length as far as reading the content back needs it.
    ///
    /// # Errors
    /// Any error of the operating system. What was written since the last successful sync may then be
    /// lost, even when a later sync succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the content and all metadata durable.
    ///
    /// # Errors
    /// As [`File::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Sets the length; what is added reads as zeros.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves space up to a length and sets that length; what is added reads as zeros.
    ///
    /// # Errors
    /// `StorageFull` when there is no space; any other error of the operating system.
    fn preallocate(&self, len: u64) -> io::Result<()>;

    /// Returns the length.
    ///
    /// # Errors
    /// Any error of the operating system.
    fn len(&self) -> io::Result<u64>;

    /// Tells whether the length is zero.
    ///
    /// # Errors
    /// As [`File::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
