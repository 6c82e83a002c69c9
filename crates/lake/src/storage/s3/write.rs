//! Writing: one request for small objects, parts for large ones.
//!
//! Each write has a token, kept in the object's metadata. When the service says that the key exists, or that an upload
//! is gone, the token tells whether an earlier attempt of this very write did it and its reply got lost. A server
//! in between that repeats requests by itself is covered the same way.
//!
//! An upload that fails is aborted, so that its parts cost nothing; what a dead process left is aborted by
//! [`S3Storage::abort_all`].

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ServerSideEncryption,
};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::S3Storage;
use super::failure::Failure;
use super::options::Encryption;
use crate::storage::{Creation, ObjectKey, StorageError};

/// Names the token among an object's metadata.
const TOKEN: &str = "lastmile-write";

/// How often an upload is begun anew when the service lost it or another writer was in its way.
const UPLOADS: u32 = 4;

/// A write at work.
struct Write<'a> {
    operation: &'static str,
    key: &'a ObjectKey,
    /// The object's whole name.
    name: String,
    content: Bytes,
    /// Whether it may not replace.
    absent: bool,
    token: String,
}

impl Write<'_> {
    fn if_none_match(&self) -> Option<String> {
        self.absent.then(|| "*".to_owned())
    }
}

/// How the completion of an upload ended.
enum Completion {
    Done(Creation),
    /// The upload is gone and the object is not of this write.
    Gone,
}

impl S3Storage {
    pub(super) async fn write(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        content: Bytes,
        absent: bool,
    ) -> Result<Creation, StorageError> {
        let write = Write {
            operation,
            key,
            name: self.object(key),
            content,
            absent,
            token: self.token(),
        };
        if write.content.len() > self.limits().parts_above {
            return self.upload(&write).await;
        }
        let write = &write;
        let attempt = move || async move {
            let (encryption, kms_key) = self.encryption();
            let request = self.client().await?.put_object();
            let request = request
                .bucket(self.bucket())
                .key(&write.name)
                .body(ByteStream::from(write.content.clone()))
                .checksum_algorithm(ChecksumAlgorithm::Crc32C)
                .set_if_none_match(write.if_none_match())
                .set_server_side_encryption(encryption)
                .set_ssekms_key_id(kms_key)
                .metadata(TOKEN, &write.token)
                .send();
            let sent = self.limits().send(write.content.len(), request);
            match sent.await {
                Ok(_) => Ok(Creation::Created),
                Err(failure) if write.absent && failure.is_precondition() => {
                    Ok(self.creation(write).await?)
                }
                Err(failure) => Err(failure),
            }
        };
        self.retried(operation, key.as_str(), attempt).await
    }

    /// Tells who created the object that is there.
    async fn creation(&self, write: &Write<'_>) -> Result<Creation, Failure> {
        if self.is_mine(write).await? {
            tracing::debug!(key = %write.key, "the reply to an earlier attempt was lost; the object is ours");
            return Ok(Creation::Created);
        }
        Ok(Creation::Exists)
    }

    /// Tells whether the object that is there is of this very write.
    async fn is_mine(&self, write: &Write<'_>) -> Result<bool, Failure> {
        let request = self.client().await?.head_object();
        let request = request.bucket(self.bucket()).key(&write.name).send();
        let head = match self.limits().send(0, request).await {
            Err(failure) if failure.is_absent() => return Ok(false),
            head => head?,
        };
        let token = head.metadata().and_then(|metadata| metadata.get(TOKEN));
        Ok(token == Some(&write.token))
    }

    /// Sends a large object in parts.
    async fn upload(&self, write: &Write<'_>) -> Result<Creation, StorageError> {
        for _ in 0..UPLOADS {
            let id = self.begin(write).await?;
            let outcome = self.send_parts(write, &id).await;
            match outcome {
                Ok(Completion::Done(Creation::Created)) => return Ok(Creation::Created),
                Ok(Completion::Done(Creation::Exists)) => {
                    self.abort(&write.name, &id).await;
                    return Ok(Creation::Exists);
                }
                Ok(Completion::Gone) => self.abort(&write.name, &id).await,
                Err(error) => {
                    self.abort(&write.name, &id).await;
                    return Err(error);
                }
            }
        }
        let failure = Failure::passing(format!("{UPLOADS} uploads were each lost or overtaken"));
        Err(Self::error(write.operation, write.key.as_str(), failure))
    }

    async fn begin(&self, write: &Write<'_>) -> Result<String, StorageError> {
        let attempt = move || async move {
            let (encryption, kms_key) = self.encryption();
            let request = self.client().await?.create_multipart_upload();
            let request = request
                .bucket(self.bucket())
                .key(&write.name)
                .checksum_algorithm(ChecksumAlgorithm::Crc32C)
                .set_server_side_encryption(encryption)
                .set_ssekms_key_id(kms_key)
                .metadata(TOKEN, &write.token)
                .send();
            let answer = self.limits().send(0, request).await?;
            let id = answer.upload_id().map(str::to_owned);
            id.ok_or_else(|| Failure::lasting("the service began an upload without an id"))
        };
        self.retried(write.operation, write.key.as_str(), attempt)
            .await
    }

    async fn send_parts(&self, write: &Write<'_>, id: &str) -> Result<Completion, StorageError> {
        let bytes = write.content.len();
        let part_bytes = self.limits().part_bytes_of(bytes);
        let parts = (0..bytes)
            .step_by(part_bytes)
            .zip(1..)
            .map(|(from, number)| {
                let part = write.content.slice(from..bytes.min(from + part_bytes));
                self.send_part(write, id, number, part)
            });
        let parts = stream::iter(parts).buffered(self.limits().parallel_parts.max(1));
        let parts: Vec<CompletedPart> = match parts.try_collect().await {
            Ok(parts) => parts,
            Err(Part::Gone) => return Ok(Completion::Gone),
            Err(Part::Failed(error)) => return Err(error),
        };
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let parts = &parts;
        let attempt = move || async move {
            let request = self.client().await?.complete_multipart_upload();
            let request = request
                .bucket(self.bucket())
                .key(&write.name)
                .upload_id(id)
                .multipart_upload(parts.clone())
                .set_if_none_match(write.if_none_match())
                .send();
            // The service joins the parts meanwhile.
            match self.limits().send(bytes, request).await {
                Ok(_) => Ok(Completion::Done(Creation::Created)),
                Err(failure) if write.absent && failure.is_precondition() => {
                    Ok(Completion::Done(self.creation(write).await?))
                }
                // An earlier attempt completed it, or it was swept; after a conflict S3 wants a new upload.
                Err(failure) if failure.is("NoSuchUpload") || failure.status == Some(409) => {
                    Ok(if self.is_mine(write).await? {
                        Completion::Done(Creation::Created)
                    } else {
                        Completion::Gone
                    })
                }
                Err(failure) => Err(failure),
            }
        };
        self.retried(write.operation, write.key.as_str(), attempt)
            .await
    }

    async fn send_part(
        &self,
        write: &Write<'_>,
        id: &str,
        number: i32,
        part: Bytes,
    ) -> Result<CompletedPart, Part> {
        let part = &part;
        let attempt = move || async move {
            let request = self.client().await?.upload_part();
            let request = request
                .bucket(self.bucket())
                .key(&write.name)
                .upload_id(id)
                .part_number(number)
                .checksum_algorithm(ChecksumAlgorithm::Crc32C)
                .body(ByteStream::from(part.clone()))
                .send();
            let answer = match self.limits().send(part.len(), request).await {
                Err(failure) if failure.is("NoSuchUpload") => return Ok(None),
                answer => answer?,
            };
            let completed = CompletedPart::builder()
                .part_number(number)
                .set_e_tag(answer.e_tag().map(str::to_owned))
                .set_checksum_crc32_c(answer.checksum_crc32_c().map(str::to_owned));
            Ok(Some(completed.build()))
        };
        let sent = self
            .retried(write.operation, write.key.as_str(), attempt)
            .await;
        sent.map_err(Part::Failed)?.ok_or(Part::Gone)
    }

    /// Aborts an upload; a failure is only logged, the next sweep does it.
    async fn abort(&self, name: &str, id: &str) {
        let attempt = move || async move {
            let request = self.client().await?.abort_multipart_upload();
            let request = request.bucket(self.bucket()).key(name).upload_id(id).send();
            match self.limits().send(0, request).await {
                Err(failure) if failure.status != Some(404) => Err(failure),
                _ => Ok(()),
            }
        };
        if let Err(error) = self.retried("abort", name, attempt).await {
            let error = service::ErrorChain(&error).to_string();
            tracing::warn!(error, "an upload could not be aborted");
        }
    }

    /// Aborts every upload below the prefix. A service that knows no such list, or does not let us see it, has its
    /// own rules for leftovers; that is logged.
    pub(super) async fn abort_all(&self) -> Result<(), StorageError> {
        let prefix = &self.location().object("");
        let (mut key, mut id): (Option<String>, Option<String>) = (None, None);
        loop {
            let (from_key, from_id) = (&key, &id);
            let attempt = move || async move {
                let request = self.client().await?.list_multipart_uploads();
                let request = request
                    .bucket(self.bucket())
                    .prefix(prefix)
                    .set_key_marker(from_key.clone())
                    .set_upload_id_marker(from_id.clone())
                    .send();
                match self.limits().send(0, request).await {
                    Err(failure) if matches!(failure.status, Some(403 | 405 | 501)) => {
                        tracing::info!(%failure, "leftovers of broken uploads cannot be listed here");
                        Ok(None)
                    }
                    answer => answer.map(Some),
                }
            };
            let Some(page) = self.retried("sweep", prefix, attempt).await? else {
                return Ok(());
            };
            for upload in page.uploads() {
                if let (Some(name), Some(id)) = (upload.key(), upload.upload_id()) {
                    self.abort(name, id).await;
                }
            }
            let next = (
                page.next_key_marker().map(str::to_owned),
                page.next_upload_id_marker().map(str::to_owned),
            );
            if page.is_truncated() != Some(true) || next == (key.clone(), id.clone()) {
                return Ok(());
            }
            (key, id) = next;
        }
    }

    fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.options().encryption {
            None => (None, None),
            Some(Encryption::Service) => (Some(ServerSideEncryption::Aes256), None),
            Some(Encryption::Kms(key)) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        }
    }
}

/// Why a part was not taken.
enum Part {
    Gone,
    Failed(StorageError),
}
