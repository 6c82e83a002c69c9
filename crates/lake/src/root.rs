//! Where a lake is: a folder now, named by a path or a `file://` URL.
//!
//! Owns the reading of that name. It touches no disk; [`Root::open`] hands out the storage.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::hive;
use crate::storage::{LocalStorage, Storage};

/// A lake's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    folder: PathBuf,
}

/// The text names no lake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// The URL has a scheme this version cannot store to.
    #[error("{0:?} is not in this version; give a folder or a file:// URL")]
    Scheme(String),
    /// The URL names a host or has escapes that are not UTF-8.
    #[error("{0:?} is no file URL of this machine; write it as file:///absolute/folder")]
    FileUrl(String),
    /// The text is empty.
    #[error("is empty; give a folder or a file:// URL")]
    Empty,
}

impl Root {
    /// Takes a folder.
    pub fn from_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns access to it. The folder is made by the first write.
    pub fn open(&self) -> Arc<dyn Storage> {
        Arc::new(LocalStorage::new(&self.folder))
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
        write!(f, "{}", self.folder.display())
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
            assert_eq!(text.parse::<Root>().unwrap().folder(), Path::new(folder));
        }
    }

    #[test]
    fn what_this_version_cannot_store_to_is_refused_by_name() {
        let error = "s3://bucket/lake".parse::<Root>().unwrap_err();
        assert!(error.to_string().contains("not in this version"), "{error}");
        assert_eq!("".parse::<Root>(), Err(RootError::Empty));
        assert!("file://host/lake".parse::<Root>().is_err());
    }
}
