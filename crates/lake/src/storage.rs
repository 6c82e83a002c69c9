//! The storage seam: the few operations the lake asks of a folder or a bucket.
//!
//! Every implementation keeps three promises. An object is whole or absent, never half-written. When a
//! write answers `Ok`, the object survives power loss. [`Storage::put_if_absent`] lets exactly one of any
//! number of callers create a key, which is what carries a Delta commit.
//!
//! Objects are handed over whole: the largest is one Parquet file, and the offload bounds those.

mod local;
#[cfg(feature = "s3")]
pub mod s3;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use model::UtcMicros;
use store::ErrorKind;

pub use local::LocalStorage;
#[cfg(feature = "s3")]
pub use s3::S3Storage;

/// The name of an object: segments parted by `/`, none of them empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Takes a name; `None` when a segment is empty, `.` or `..`, or holds a NUL.
    pub fn new(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        let fits = name
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | "..") && !segment.contains('\0'));
        fits.then_some(Self(name))
    }

    /// Returns the key of `name` under this one; `None` as in [`ObjectKey::new`].
    pub fn join(&self, name: &str) -> Option<Self> {
        Self::new(format!("{}/{name}", self.0))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its name.
    pub key: ObjectKey,
    /// Bytes.
    pub size: u64,
    /// When it was written, by the storage's clock.
    pub modified: UtcMicros,
}

/// What became of [`Storage::put_if_absent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// This call created the object.
    Created,
    /// It was there already, from whomever.
    Exists,
}

/// A failed storage operation.
#[derive(Debug, thiserror::Error)]
#[error("{operation} of {key:?} failed in the lake's storage")]
pub struct StorageError {
    /// What was tried, for example `put`.
    pub operation: &'static str,
    /// The object.
    pub key: String,
    /// What to do about it.
    pub kind: ErrorKind,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What will be done with a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is only read.
    Read,
    /// It is written, too.
    Write,
}

/// A folder or a bucket.
#[async_trait]
pub trait Storage: Send + Sync + fmt::Debug + 'static {
    /// Sees at the start that the storage is there and will do; a folder always is, its first write makes it.
    ///
    /// # Errors
    /// [`StorageError`] with words for the operator.
    async fn check(&self, _access: Access) -> Result<(), StorageError> {
        Ok(())
    }

    /// Writes an object, over the one that may be there.
    ///
    /// # Errors
    /// [`StorageError`]; the object is then the old one, the new one, or absent as before. So for every
    /// method that writes.
    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), StorageError>;

    /// Creates an object unless it is there.
    ///
    /// # Errors
    /// As [`Storage::put`]: after an error the object may have been created.
    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        content: Bytes,
    ) -> Result<Creation, StorageError>;

    /// Reads an object, or `None` when it is absent.
    ///
    /// # Errors
    /// [`StorageError`]; so for every method that reads.
    async fn get(&self, key: &ObjectKey) -> Result<Option<Bytes>, StorageError>;

    /// Reads at most `len` bytes from `offset`; fewer at the object's end. `None` when it is absent.
    ///
    /// # Errors
    /// As [`Storage::get`].
    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        len: u64,
    ) -> Result<Option<Bytes>, StorageError>;

    /// Returns what is known of an object, or `None` when it is absent.
    ///
    /// # Errors
    /// As [`Storage::get`].
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StorageError>;

    /// Returns all objects under `prefix/`, at any depth, by key.
    ///
    /// # Errors
    /// As [`Storage::get`].
    async fn list(&self, prefix: &ObjectKey) -> Result<Vec<ObjectMeta>, StorageError>;

    /// Deletes an object; an absent one is no error.
    ///
    /// # Errors
    /// As [`Storage::put`].
    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError>;

    /// Removes what interrupted writes left behind. Only for who holds the lake's lease: it may break a
    /// write in progress elsewhere.
    ///
    /// # Errors
    /// As [`Storage::put`].
    async fn sweep(&self) -> Result<(), StorageError>;
}
