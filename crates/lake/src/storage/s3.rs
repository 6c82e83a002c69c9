//! A bucket as storage.
//!
//! | module | owns |
//! |---|---|
//! | [`location`] | reading `s3://bucket/prefix` |
//! | [`options`] | what may be set, and the limits of time and size |
//! | `client` | credentials, region, TLS: the one client of a storage |
//! | `failure` | which failures are tried again, for how long |
//! | `read`, `write` | the operations; parts of large objects; whose object it is after a lost reply |
//! | `check` | the bucket's check at the start, with messages for operators |
//!
//! Invariant: `If-None-Match: *` decides who creates a key. A reply that got lost is not guessed at: every such
//! write carries a token of its own in the object's metadata, and who is told "exists" looks whether the
//! token is its own.
//!
//! Durability is the service's: S3 answers a write when it is stored. Nothing connects before the first
//! operation, and all clones of a storage share one client.
//!
//! Not done here: object versions, locks, tags, listing of buckets.

mod check;
mod client;
mod failure;
pub mod location;
pub mod options;
mod read;
mod write;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use bytes::Bytes;
use store::ErrorKind;
use tokio::sync::OnceCell;

use super::{Access, Creation, ObjectKey, ObjectMeta, Storage, StorageError};
use client::Connected;
use failure::Failure;

pub use location::{Location, LocationError};
pub use options::{Encryption, Limits, Options};

/// A bucket, or the part of it below a prefix.
#[derive(Clone)]
pub struct S3Storage(Arc<Bucket>);

struct Bucket {
    location: Location,
    options: Options,
    connected: OnceCell<Connected>,
    /// Tells this process's writes from all others'.
    writer: u64,
    written: AtomicU64,
}

impl fmt::Debug for S3Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Storage")
            .field("location", &self.0.location)
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

/// Two are equal when they name the same place with the same options.
impl PartialEq for S3Storage {
    fn eq(&self, other: &Self) -> bool {
        self.0.location == other.0.location && self.0.options == other.0.options
    }
}

impl Eq for S3Storage {}

impl S3Storage {
    /// Names a bucket; nothing is connected yet.
    pub fn new(location: Location, options: Options) -> Self {
        Self(Arc::new(Bucket {
            location,
            options,
            connected: OnceCell::new(),
            writer: rand::random(),
            written: AtomicU64::new(0),
        }))
    }

    /// Returns the bucket and the prefix.
    pub fn location(&self) -> &Location {
        &self.0.location
    }

    /// Returns what was set.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    fn limits(&self) -> &Limits {
        &self.0.options.limits
    }

    async fn connected(&self) -> Result<&Connected, Failure> {
        let connect = || client::connect(&self.0.options);
        self.0.connected.get_or_try_init(connect).await
    }

    async fn client(&self) -> Result<&Client, Failure> {
        Ok(&self.connected().await?.client)
    }

    fn bucket(&self) -> &str {
        &self.0.location.bucket
    }

    /// Returns the object's whole name in the bucket.
    fn object(&self, key: &ObjectKey) -> String {
        self.0.location.object(key.as_str())
    }

    /// Returns a text no other write has.
    fn token(&self) -> String {
        let number = self.0.written.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{number}", self.0.writer)
    }

    fn error(operation: &'static str, key: &str, failure: Failure) -> StorageError {
        StorageError {
            operation,
            key: key.to_owned(),
            kind: if failure.again {
                ErrorKind::Unavailable
            } else {
                ErrorKind::Internal
            },
            source: Box::new(failure),
        }
    }
}

#[async_trait]
impl Storage for S3Storage {
    async fn check(&self, access: Access) -> Result<(), StorageError> {
        self.check_bucket(access).await
    }

    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), StorageError> {
        self.write("put", key, content, false).await.map(drop)
    }

    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        content: Bytes,
    ) -> Result<Creation, StorageError> {
        self.write("put_if_absent", key, content, true).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<Bytes>, StorageError> {
        self.read("get", key, None).await
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        len: u64,
    ) -> Result<Option<Bytes>, StorageError> {
        if len == 0 {
            // HTTP has no range of no bytes.
            return Ok(self.head(key).await?.map(|_| Bytes::new()));
        }
        self.read("get_range", key, Some((offset, len))).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StorageError> {
        self.read_head(key).await
    }

    async fn list(&self, prefix: &ObjectKey) -> Result<Vec<ObjectMeta>, StorageError> {
        self.read_list(prefix).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        self.remove(key).await
    }

    async fn sweep(&self) -> Result<(), StorageError> {
        self.abort_all().await
    }
}
