//! Reading, listing, deleting.

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use bytes::{Bytes, BytesMut};
use model::UtcMicros;
use service::ErrorChain;

use super::S3Storage;
use super::failure::{Failure, within};
use crate::storage::{ObjectKey, ObjectMeta, StorageError};

/// Room made before the first byte has come; a longer body grows it.
const FIRST_ROOM: usize = 64 << 20;

impl S3Storage {
    /// Reads an object, or a range given by offset and length.
    pub(super) async fn read(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        range: Option<(u64, u64)>,
    ) -> Result<Option<Bytes>, StorageError> {
        let name = &self.object(key);
        let range = range.map(|(offset, len)| {
            let last = offset.saturating_add(len).saturating_sub(1);
            format!("bytes={offset}-{last}")
        });
        let range = &range;
        let attempt = move || async move {
            let request = self.client().await?.get_object();
            let request = request.bucket(self.bucket()).key(name);
            let request = request.set_range(range.clone()).send();
            let answer = match self.limits().send(0, request).await {
                Err(failure) if failure.is_absent() => return Ok(None),
                // The range begins behind the last byte, as every range of an empty object does.
                Err(failure) if failure.status == Some(416) => return Ok(Some(Bytes::new())),
                other => other?,
            };
            let len = answer.content_length();
            let len = len.and_then(|len| usize::try_from(len).ok());
            let time = self.limits().attempt_of(len.unwrap_or(FIRST_ROOM) as u64);
            within(time, collect(answer.body, len)).await.map(Some)
        };
        self.retried(operation, key.as_str(), attempt).await
    }

    pub(super) async fn read_head(
        &self,
        key: &ObjectKey,
    ) -> Result<Option<ObjectMeta>, StorageError> {
        let name = &self.object(key);
        let attempt = move || async move {
            let request = self.client().await?.head_object();
            let request = request.bucket(self.bucket()).key(name).send();
            match self.limits().send(0, request).await {
                Ok(answer) => Ok(Some(ObjectMeta {
                    key: key.clone(),
                    size: size(answer.content_length()),
                    modified: modified(answer.last_modified()),
                })),
                Err(failure) if failure.is_absent() => Ok(None),
                Err(failure) => Err(failure),
            }
        };
        self.retried("head", key.as_str(), attempt).await
    }

    pub(super) async fn read_list(
        &self,
        prefix: &ObjectKey,
    ) -> Result<Vec<ObjectMeta>, StorageError> {
        let name = &format!("{}/", self.object(prefix));
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let from = &next;
            let attempt = move || async move {
                let request = self.client().await?.list_objects_v2();
                let request = request.bucket(self.bucket()).prefix(name);
                let request = request.set_continuation_token(from.clone()).send();
                self.limits().send(0, request).await
            };
            let page = self.retried("list", prefix.as_str(), attempt).await?;
            for object in page.contents() {
                let key = object.key().and_then(|name| self.location().key(name));
                found.extend(key.map(|key| ObjectMeta {
                    key,
                    size: size(object.size()),
                    modified: modified(object.last_modified()),
                }));
            }
            let more = page.is_truncated().unwrap_or_default();
            match page.next_continuation_token() {
                Some(token) if more && next.as_deref() != Some(token) => {
                    next = Some(token.to_owned());
                }
                _ if more => {
                    let failure =
                        Failure::lasting("the service cut the list and gave no way to go on");
                    return Err(Self::error("list", prefix.as_str(), failure));
                }
                _ => break,
            }
        }
        // Most services list by key; not all promise to.
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    pub(super) async fn remove(&self, key: &ObjectKey) -> Result<(), StorageError> {
        let name = &self.object(key);
        let attempt = move || async move {
            let request = self.client().await?.delete_object();
            let request = request.bucket(self.bucket()).key(name).send();
            match self.limits().send(0, request).await {
                Err(failure) if !failure.is_absent() => Err(failure),
                _ => Ok(()),
            }
        };
        self.retried("delete", key.as_str(), attempt).await
    }
}

/// Reads a body, of `len` bytes where that was said; the SDK compares its checksum where the service sent one.
async fn collect(mut body: ByteStream, len: Option<usize>) -> Result<Bytes, Failure> {
    let mut content = BytesMut::with_capacity(len.unwrap_or_default().min(FIRST_ROOM));
    loop {
        match body.try_next().await {
            Ok(Some(piece)) => content.extend_from_slice(&piece),
            Ok(None) => break,
            Err(error) => {
                let chain = ErrorChain(&error).to_string();
                return Err(Failure::passing(format!(
                    "the body was cut or damaged: {chain}"
                )));
            }
        }
    }
    if let Some(of) = len.filter(|len| *len != content.len()) {
        let got = content.len();
        return Err(Failure::passing(format!(
            "the body was cut: {got} bytes of {of}"
        )));
    }
    Ok(content.freeze())
}

fn size(len: Option<i64>) -> u64 {
    len.and_then(|len| u64::try_from(len).ok())
        .unwrap_or_default()
}

fn modified(time: Option<&DateTime>) -> UtcMicros {
    let micros = time.map(|time| time.as_nanos() / 1_000);
    let micros = micros.and_then(|micros| i64::try_from(micros).ok());
    micros.and_then(UtcMicros::new).unwrap_or_default()
}
