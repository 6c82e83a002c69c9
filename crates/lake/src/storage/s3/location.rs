//! Where in S3 a lake is: `s3://bucket/prefix`.
//!
//! The prefix is taken as written, without decoding, as all S3 tools do.

use std::fmt;

use crate::storage::ObjectKey;

/// A bucket and a prefix in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The bucket.
    pub bucket: String,
    /// What every object's name begins with, without the `/` after it; may be empty.
    pub prefix: String,
}

/// The text names no place in S3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// The bucket is missing or no bucket can have such a name.
    #[error("{0:?} has no bucket name S3 allows; write it as s3://bucket/prefix")]
    Bucket(String),
    /// The prefix has an empty segment, `.` or `..`.
    #[error("{0:?} has a prefix with an empty segment, . or ..; write it as s3://bucket/prefix")]
    Prefix(String),
}

impl Location {
    /// Reads what comes after `s3://`.
    ///
    /// # Errors
    /// [`LocationError`] that says how to write it.
    pub fn parse(rest: &str) -> Result<Self, LocationError> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if !(3..=255).contains(&bucket.len()) || !bucket.chars().all(plain) {
            return Err(LocationError::Bucket(format!("s3://{rest}")));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !prefix.is_empty() && ObjectKey::new(prefix).is_none() {
            return Err(LocationError::Prefix(format!("s3://{rest}")));
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// Returns an object's whole name.
    pub(super) fn object(&self, key: &str) -> String {
        if self.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.prefix)
        }
    }

    /// Returns the key of an object of that whole name; `None` when it is not below the prefix or is no key, for
    /// example a folder's marker, which ends in `/`.
    pub(super) fn key(&self, object: &str) -> Option<ObjectKey> {
        let key = if self.prefix.is_empty() {
            object
        } else {
            object.strip_prefix(&self.prefix)?.strip_prefix('/')?
        };
        ObjectKey::new(key)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_and_prefix_are_told_apart() {
        for (text, bucket, prefix, shown) in [
            ("lake", "lake", "", "s3://lake"),
            ("lake/", "lake", "", "s3://lake"),
            (
                "my.lake-1/a/b=c%20d/",
                "my.lake-1",
                "a/b=c%20d",
                "s3://my.lake-1/a/b=c%20d",
            ),
        ] {
            let location = Location::parse(text).unwrap();
            assert_eq!(
                (location.bucket.as_str(), location.prefix.as_str()),
                (bucket, prefix)
            );
            assert_eq!(location.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_an_example() {
        for text in [
            "",
            "/x",
            "ab",
            "b@d/x",
            "user:word@host/x",
            "lake//x",
            "lake/../x",
            "lake/a//",
        ] {
            let error = Location::parse(text).unwrap_err();
            assert!(
                error.to_string().contains("s3://bucket/prefix"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn names_go_in_and_out_of_the_prefix() {
        for text in ["lake", "lake/a/b"] {
            let location = Location::parse(text).unwrap();
            let name = location.object("raw/t/x");
            assert_eq!(location.key(&name), ObjectKey::new("raw/t/x"));
        }
        let location = Location::parse("lake/a").unwrap();
        for other in ["ab/x", "a", "a/", "a/x/", "b/a/x"] {
            assert_eq!(location.key(other), None, "{other}");
        }
    }
}
