//! Where a lake is: a folder, named by a path or a `file://` URL, or a bucket, named by an `s3://` URL.
//!
//! Owns the reading of that name. It touches neither disk nor network; [`Root::open`] hands out the storage.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::hive;
#[cfg(feature = "s3")]
use crate::storage::s3::{Location, LocationError, Options, S3Storage};
use crate::storage::{LocalStorage, Storage};

/// A lake's place. Clones share one storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Folder(PathBuf),
    #[cfg(feature = "s3")]
    S3(S3Storage),
}

/// How a lake's place may be written.
const FORMS: &str = if cfg!(feature = "s3") {
    "give a folder, a file:// URL or s3://bucket/prefix"
} else {
    "give a folder or a file:// URL; only lake_ingest stores to s3://"
};

/// The text names no lake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// The URL has a scheme this program cannot store to.
    #[error("{0:?} is no place this program can store to; {FORMS}")]
    Scheme(String),
    /// The URL names a host or has escapes that are not UTF-8.
    #[error("{0:?} is no file URL of this machine; write it as file:///absolute/folder")]
    FileUrl(String),
    /// The URL names no place in S3.
    #[cfg(feature = "s3")]
    #[error(transparent)]
    S3(#[from] LocationError),
    /// The text is empty.
    #[error("is empty; {FORMS}")]
    Empty,
}

impl Root {
    /// Takes a folder.
    pub fn from_folder(folder: impl Into<PathBuf>) -> Self {
        Self(Place::Folder(folder.into()))
    }

    /// Takes a bucket.
    #[cfg(feature = "s3")]
    pub fn from_s3(storage: S3Storage) -> Self {
        Self(Place::S3(storage))
    }

    /// Returns the folder, unless it is a bucket.
    pub fn folder(&self) -> Option<&Path> {
        match &self.0 {
            Place::Folder(folder) => Some(folder),
            #[cfg(feature = "s3")]
            Place::S3(_) => None,
        }
    }

    /// Sets how to reach the bucket; a folder is left as it is.
    #[cfg(feature = "s3")]
    #[must_use]
    pub fn with_s3(self, options: Options) -> Self {
        match self.0 {
            Place::Folder(_) => self,
            Place::S3(storage) => {
                Self::from_s3(S3Storage::new(storage.location().clone(), options))
            }
        }
    }

    /// Returns access to it. A folder is made by the first write; a bucket is connected to by the first operation.
    pub fn open(&self) -> Arc<dyn Storage> {
        match &self.0 {
            Place::Folder(folder) => Arc::new(LocalStorage::new(folder)),
            #[cfg(feature = "s3")]
            Place::S3(storage) => Arc::new(storage.clone()),
        }
    }
}

impl FromStr for Root {
    type Err = RootError;

    fn from_str(text: &str) -> Result<Self, RootError> {
        if text.is_empty() {
            return Err(RootError::Empty);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::from_folder(text));
        };
        #[cfg(feature = "s3")]
        if scheme.eq_ignore_ascii_case("s3") {
            let storage = S3Storage::new(Location::parse(rest)?, Options::default());
            return Ok(Self::from_s3(storage));
        }
        if !scheme.eq_ignore_ascii_case("file") {
            return Err(RootError::Scheme(format!("{scheme}://")));
        }
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        if !path.starts_with('/') {
            return Err(RootError::FileUrl(text.to_owned()));
        }
        let path = hive::percent_decode(path).ok_or_else(|| RootError::FileUrl(text.to_owned()))?;
        Ok(Self::from_folder(path))
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Folder(folder) => write!(f, "{}", folder.display()),
            #[cfg(feature = "s3")]
            Place::S3(storage) => write!(f, "{}", storage.location()),
        }
    }
}

impl Serialize for Root {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_file_urls_name_folders() {
        for (text, folder) in [
            ("./data/lake", "./data/lake"),
            ("/srv/lake", "/srv/lake"),
            ("file:///srv/my%20lake", "/srv/my lake"),
            ("file://localhost/srv/lake", "/srv/lake"),
        ] {
            let root = text.parse::<Root>().unwrap();
            assert_eq!(root.folder(), Some(Path::new(folder)));
        }
    }

    #[test]
    fn what_is_no_place_is_refused_by_name() {
        let error = "gs://bucket/lake".parse::<Root>().unwrap_err();
        assert!(error.to_string().contains("gs://"), "{error}");
        assert_eq!("".parse::<Root>(), Err(RootError::Empty));
        assert!("file://host/lake".parse::<Root>().is_err());
    }

    #[cfg(feature = "s3")]
    #[test]
    fn buckets_are_named_by_s3_urls() {
        let root = "S3://bucket/a/b/".parse::<Root>().unwrap();
        assert_eq!(
            (root.to_string(), root.folder()),
            ("s3://bucket/a/b".to_owned(), None)
        );
        let options = Options {
            endpoint: Some("http://127.0.0.1:9".to_owned()),
            ..Options::default()
        };
        assert_ne!(root.clone().with_s3(options), root);
        assert!("s3:///x".parse::<Root>().is_err());
    }
}
