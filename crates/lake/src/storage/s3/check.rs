//! The bucket's check at the start: what is wrong is said in the operator's words.

use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use bytes::Bytes;

use super::S3Storage;
use super::client::Connected;
use super::failure::Failure;
use crate::storage::{Access, Creation, ObjectKey, StorageError};

/// Attempts at the first question; whoever asks wants to know soon.
const ATTEMPTS: u32 = 4;

/// The object by which a service shows that it knows `If-None-Match`.
const PROBE: &str = "_lastmile/if-none-match";

/// What the object says to who finds it.
const PROBE_TEXT: &str = "lake_ingest tries to create this object again at each start, to see that this service \
refuses it. It may be deleted.\n";

impl S3Storage {
    /// Asks for one key below the prefix, which is what every other operation needs too; creates the bucket when
    /// told to; for a writer, sees that the service knows `If-None-Match`.
    pub(super) async fn check_bucket(&self, access: Access) -> Result<(), StorageError> {
        let shown = self.location().to_string();
        let failed = |failure| Self::error("check", &shown, failure);
        let connected = self.connected().await.map_err(failed)?;
        let mut asked = self.ask(connected).await;
        for _ in 1..ATTEMPTS {
            if asked.as_ref().err().is_none_or(|failure| !failure.again) {
                break;
            }
            tokio::time::sleep(self.limits().first_wait * 5).await;
            asked = self.ask(connected).await;
        }
        if let Err(failure) = asked {
            if !failure.is("NoSuchBucket") || !self.options().create_bucket {
                return Err(failed(self.explain(connected, failure)));
            }
            self.create(connected).await.map_err(failed)?;
        }
        // AWS itself is known to keep the promise.
        if access == Access::Write && connected.endpoint.is_some() {
            self.probe(connected).await?;
        }
        Ok(())
    }

    async fn ask(&self, connected: &Connected) -> Result<(), Failure> {
        let request = connected.client.list_objects_v2().bucket(self.bucket());
        let request = request
            .prefix(self.location().object(""))
            .max_keys(1)
            .send();
        self.limits().send(0, request).await.map(drop)
    }

    async fn create(&self, connected: &Connected) -> Result<(), Failure> {
        let region = connected.region.as_str();
        let elsewhere = (region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        let request = connected.client.create_bucket().bucket(self.bucket());
        let request = request.set_create_bucket_configuration(elsewhere).send();
        match self.limits().send(0, request).await {
            Err(failure) if !failure.is("BucketAlreadyOwnedByYou") => {
                let words = format!("the bucket {} could not be created", self.bucket());
                Err(failure.explained(words))
            }
            _ => {
                tracing::info!(bucket = self.bucket(), "bucket created");
                Ok(())
            }
        }
    }

    async fn probe(&self, connected: &Connected) -> Result<(), StorageError> {
        let key = ObjectKey::new(PROBE).expect("the name is written right");
        for _ in 0..2 {
            let text = Bytes::from_static(PROBE_TEXT.as_bytes());
            if self.write("check", &key, text, true).await? == Creation::Exists {
                return Ok(());
            }
        }
        let failure = Failure::lasting(format!(
            "the S3 service at {} does not know If-None-Match: it let an object be created twice, so two commits could \
             overwrite each other and rows be lost; use a service with conditional writes",
            place(connected)
        ));
        Err(Self::error("check", PROBE, failure))
    }

    /// Says what is wrong in words that tell what to do.
    fn explain(&self, connected: &Connected, failure: Failure) -> Failure {
        let (bucket, place) = (self.bucket(), place(connected));
        let region = &connected.region;
        let words = match (failure.code.as_deref(), failure.status) {
            (Some("NoSuchBucket"), _) => format!(
                "the bucket {bucket} does not exist at {place}; create it, or start with --s3-create-bucket"
            ),
            (
                Some(
                    "InvalidAccessKeyId"
                    | "SignatureDoesNotMatch"
                    | "ExpiredToken"
                    | "InvalidToken"
                    | "TokenRefreshRequired",
                ),
                _,
            ) => format!(
                "{place} refused the credentials; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
                 AWS_SESSION_TOKEN"
            ),
            (Some("RequestTimeTooSkewed"), _) => {
                format!("the clock of this machine is not that of {place}; set it")
            }
            (
                Some(
                    "PermanentRedirect"
                    | "AuthorizationHeaderMalformed"
                    | "IllegalLocationConstraintException",
                ),
                _,
            )
            | (_, Some(301 | 307)) => {
                let right = failure.region.as_deref().unwrap_or("the bucket's region");
                format!(
                    "the bucket {bucket} is not in the region {region}; set AWS_REGION to {right}"
                )
            }
            (_, Some(401 | 403)) => {
                format!("these credentials may not list the bucket {bucket} at {place}")
            }
            (_, None) => format!("the S3 service at {place} cannot be reached"),
            _ => format!("the S3 service at {place} cannot be used"),
        };
        failure.explained(words)
    }
}

/// Names the service.
fn place(connected: &Connected) -> String {
    match &connected.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => format!("AWS in {}", connected.region),
    }
}
