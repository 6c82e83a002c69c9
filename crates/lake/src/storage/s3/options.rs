//! What may be set for a bucket, and the limits every operation keeps.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use service::Secret;

/// How to reach a bucket.
///
/// What is `None` here is taken from where AWS's own tools take it: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`,
/// `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_PROFILE` with its files,
/// a web identity token, or the role of the container or machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The service's URL, for what is not AWS itself.
    pub endpoint: Option<String>,
    /// Whether the bucket is named in the path instead of the host; unless set, it is when there is an endpoint.
    pub path_style: Option<bool>,
    /// How the service encrypts what it stores; unless set, as the bucket says.
    pub encryption: Option<Encryption>,
    /// Whether [`Storage::check`](crate::storage::Storage::check) creates a bucket that does not exist.
    pub create_bucket: bool,
    /// Access key and secret key.
    pub credentials: Option<(String, Secret<String>)>,
    /// Limits of time and size.
    pub limits: Limits,
}

/// Server-side encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With keys the service keeps (`AES256`).
    Service,
    /// With a key of KMS (`aws:kms`): this one, or the account's own for S3.
    Kms(Option<String>),
}

/// The text names no encryption.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no encryption of S3; give AES256, aws:kms or aws:kms=KEY")]
pub struct EncryptionError(String);

impl FromStr for Encryption {
    type Err = EncryptionError;

    fn from_str(text: &str) -> Result<Self, EncryptionError> {
        match text.split_once('=') {
            None if text == "AES256" => Ok(Self::Service),
            None if text == "aws:kms" => Ok(Self::Kms(None)),
            Some(("aws:kms", key)) if !key.is_empty() => Ok(Self::Kms(Some(key.to_owned()))),
            _ => Err(EncryptionError(text.to_owned())),
        }
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service => f.write_str("AES256"),
            Self::Kms(None) => f.write_str("aws:kms"),
            Self::Kms(Some(key)) => write!(f, "aws:kms={key}"),
        }
    }
}

/// Limits of time and size.
///
/// An operation takes at most `give_up`, then the rest of the attempt at work: with the defaults
/// 120 s + 30 s + 1 s for each MiB of one request. Large objects are several requests, each with these limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest time to connect, TLS included.
    pub connect: Duration,
    /// Longest time for one attempt at one request, to which [`Limits::per_mib`] is added.
    pub attempt: Duration,
    /// What each MiB sent or received adds to an attempt; 1 s is the slowest line this works over.
    pub per_mib: Duration,
    /// Most attempts at one request.
    pub attempts: u32,
    /// No attempt begins later than this after the first.
    pub give_up: Duration,
    /// The wait before the second attempt. It doubles from attempt to attempt; half of it is chance.
    pub first_wait: Duration,
    /// The longest wait between attempts.
    pub longest_wait: Duration,
    /// Objects larger than this are sent in parts. Never above 5 GiB, which S3 refuses.
    pub parts_above: usize,
    /// Bytes of a part; S3 wants 5 MiB or more. Grows where 10,000 parts would not do.
    pub part_bytes: usize,
    /// Parts on their way at once.
    pub parallel_parts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            attempt: Duration::from_secs(30),
            per_mib: Duration::from_secs(1),
            attempts: 10,
            give_up: Duration::from_mins(2),
            // 0.1 + 0.2 + … + 6.4 + 10 + 10 s: an outage of half a minute is sat out.
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(10),
            parts_above: 32 << 20,
            part_bytes: 16 << 20,
            parallel_parts: 4,
        }
    }
}

/// Most parts S3 takes.
const MAX_PARTS: usize = 10_000;

impl Limits {
    /// Returns the longest time for one attempt that carries so many bytes.
    pub(super) fn attempt_of(&self, bytes: u64) -> Duration {
        let mib = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX);
        self.attempt
            .saturating_add(self.per_mib.saturating_mul(mib))
    }

    /// Returns the bytes of each part of an object.
    pub(super) fn part_bytes_of(&self, bytes: usize) -> usize {
        self.part_bytes.max(bytes.div_ceil(MAX_PARTS)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encryption_is_read_as_it_is_shown() {
        for text in ["AES256", "aws:kms", "aws:kms=arn:aws:kms:x:1:key/2"] {
            assert_eq!(text.parse::<Encryption>().unwrap().to_string(), text);
        }
        for text in ["", "aes", "aws:kms=", "AES256=x"] {
            let error = text.parse::<Encryption>().unwrap_err();
            assert!(error.to_string().contains("aws:kms=KEY"), "{error}");
        }
    }

    #[test]
    fn ten_thousand_parts_do_for_every_object() {
        let limits = Limits::default();
        assert_eq!(limits.part_bytes_of(1), 16 << 20);
        let huge = 1 << 40;
        assert!(huge / limits.part_bytes_of(huge) <= MAX_PARTS);
    }

    #[test]
    fn secrets_are_not_shown() {
        let options = Options {
            credentials: Some(("AKIA".to_owned(), "hunter2".to_owned().into())),
            ..Options::default()
        };
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
