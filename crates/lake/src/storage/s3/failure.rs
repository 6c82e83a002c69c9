//! Which failures are tried again, how often, and how long to wait between.
//!
//! The SDK's own retries are off: they do not cover the reading of a body, and would hide that an earlier attempt may
//! have been carried out.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use service::ErrorChain;
use tokio::time::Instant;

use super::{Limits, S3Storage};
use crate::storage::StorageError;

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whether the same request may succeed later.
    pub(super) again: bool,
    /// HTTP status, when there was an answer.
    pub(super) status: Option<u16>,
    /// The service's code, for example `SlowDown`.
    pub(super) code: Option<String>,
    /// Where the bucket is, when the service says so.
    pub(super) region: Option<String>,
    message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Codes of failures that pass.
const PASSING: [&str; 10] = [
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

impl Failure {
    /// A failure that stays, said in words.
    pub(super) fn lasting(message: impl Into<String>) -> Self {
        Self {
            again: false,
            status: None,
            code: None,
            region: None,
            message: message.into(),
        }
    }

    /// A failure that may pass, said in words.
    pub(super) fn passing(message: impl Into<String>) -> Self {
        Self {
            again: true,
            ..Self::lasting(message)
        }
    }

    /// Puts words for the operator in front.
    pub(super) fn explained(self, words: impl fmt::Display) -> Self {
        Self {
            message: format!("{words} ({})", self.message),
            ..self
        }
    }

    /// Tells whether the service answered with this code.
    pub(super) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Tells whether the object is not there; a bucket that is not there is another matter.
    pub(super) fn is_absent(&self) -> bool {
        self.status == Some(404) && !self.is("NoSuchBucket") && !self.is("NoSuchUpload")
    }

    /// Tells whether `If-None-Match` was not met.
    pub(super) fn is_precondition(&self) -> bool {
        self.status == Some(412) || self.is("PreconditionFailed")
    }
}

impl<E: ProvideErrorMetadata + std::error::Error + 'static> From<SdkError<E>> for Failure {
    fn from(error: SdkError<E>) -> Self {
        let answer = error.raw_response();
        let status = answer.map(|answer| answer.status().as_u16());
        let region = answer.and_then(|answer| answer.headers().get("x-amz-bucket-region"));
        let region = region.map(str::to_owned);
        let metadata = error.as_service_error().map(ProvideErrorMetadata::meta);
        let code = metadata
            .and_then(|metadata| metadata.code())
            .map(str::to_owned);
        let unclear = match &error {
            SdkError::TimeoutError(_) | SdkError::ResponseError(_) => true,
            SdkError::DispatchFailure(failure) => !failure.is_user(),
            _ => false,
        };
        let message = match (&error, status) {
            (SdkError::ServiceError(_), Some(status)) => {
                let said = metadata.and_then(|metadata| metadata.message());
                let mut words = vec![format!("HTTP {status}")];
                words.extend(
                    [code.as_deref(), said]
                        .into_iter()
                        .flatten()
                        .map(str::to_owned),
                );
                words.join(": ")
            }
            _ => ErrorChain(&error).to_string(),
        };
        let passes = status.is_some_and(|status| status >= 500 && status != 501 || status == 429)
            || code.as_deref().is_some_and(|code| PASSING.contains(&code));
        Self {
            again: unclear || passes,
            status,
            code,
            region,
            message,
        }
    }
}

/// Returns the wait after so many failed attempts: doubling, half of it by chance, so that many clients do not come
/// back all at once.
fn wait_after(limits: &Limits, failed: u32) -> Duration {
    let doubled = limits
        .first_wait
        .saturating_mul(1 << failed.saturating_sub(1).min(20));
    let longest = doubled.min(limits.longest_wait);
    longest.mul_f64(rand::random_range(0.5..=1.0))
}

/// Does one attempt within its time.
pub(super) async fn within<T>(
    time: Duration,
    attempt: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let outcome = tokio::time::timeout(time, attempt).await;
    outcome.unwrap_or_else(|_| Err(Failure::passing(format!("no answer within {time:?}"))))
}

impl Limits {
    /// Sends a request that carries so many bytes, within its time. Boxed at once, because the SDK's futures take
    /// tens of kilobytes.
    pub(super) fn send<'a, T, E>(
        &self,
        bytes: usize,
        request: impl Future<Output = Result<T, SdkError<E>>> + Send + 'a,
    ) -> Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>
    where
        T: 'a,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let time = self.attempt_of(bytes as u64);
        Box::pin(within(time, async { Ok(request.await?) }))
    }
}

impl S3Storage {
    /// Attempts a request until it succeeds, fails for good, or the limits are reached.
    pub(super) async fn retried<T, F>(
        &self,
        operation: &'static str,
        key: &str,
        mut attempt: impl FnMut() -> F + Send,
    ) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let limits = self.limits();
        let begun = Instant::now();
        let mut failed = 0;
        loop {
            let failure = match attempt().await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            failed += 1;
            if !failure.again || failed >= limits.attempts || begun.elapsed() >= limits.give_up {
                let tried = if failed > 1 {
                    failure.explained(format_args!("given up after {failed} attempts"))
                } else {
                    failure
                };
                return Err(Self::error(operation, key, tried));
            }
            let wait = wait_after(limits, failed);
            tracing::debug!(operation, key, failed, ?wait, %failure, "S3 will be asked again");
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_vary() {
        let limits = Limits::default();
        for (failed, most) in [(1, 100), (2, 200), (7, 6_400), (8, 10_000), (60, 10_000)] {
            let most = Duration::from_millis(most);
            for _ in 0..50 {
                let wait = wait_after(&limits, failed);
                assert!(wait <= most && wait >= most / 2, "{failed}: {wait:?}");
            }
        }
    }

    #[tokio::test]
    async fn an_attempt_ends_in_time() {
        let outcome = within::<()>(Duration::from_millis(3), std::future::pending()).await;
        assert!(outcome.is_err_and(|failure| failure.again));
    }
}
