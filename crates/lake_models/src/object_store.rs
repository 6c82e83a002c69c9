//! The lake's storage as DataFusion reads it.
//!
//! A thin reading side over [`Storage`], so that a bucket has one client in this process, with one set of limits and
//! retries. Folders do not come this way: DataFusion reads files itself.
//!
//! Not done here: writing, listing, conditions. Whoever asks for those is told so.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::object_store::path::Path;
use datafusion::object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use lake::storage::{ObjectKey, Storage, StorageError};

/// Names this store in errors.
const NAME: &str = "lake";

/// The reading side of a lake's storage.
#[derive(Debug)]
pub(crate) struct LakeStore(Arc<dyn Storage>);

impl LakeStore {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self(storage)
    }

    async fn size(&self, location: &Path) -> Result<u64> {
        let head = self.0.head(&key(location)?).await.map_err(generic)?;
        Ok(head.ok_or_else(|| absent(location))?.size)
    }
}

impl fmt::Display for LakeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)
    }
}

fn key(location: &Path) -> Result<ObjectKey> {
    ObjectKey::new(location.as_ref()).ok_or_else(|| absent(location))
}

fn absent(location: &Path) -> Error {
    Error::NotFound {
        path: location.to_string(),
        source: "the object is not there".into(),
    }
}

fn generic(error: StorageError) -> Error {
    Error::Generic {
        store: NAME,
        source: Box::new(error),
    }
}

fn not_here(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: NAME.to_owned(),
    }
}

#[async_trait]
impl ObjectStore for LakeStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let conditional = options.if_match.is_some()
            || options.if_none_match.is_some()
            || options.if_modified_since.is_some()
            || options.if_unmodified_since.is_some()
            || options.version.is_some();
        if conditional {
            return Err(not_here("a conditional get"));
        }
        let (range, size) = match options.range {
            // The hot path: who names a range has the size from the log, and it is not asked for again.
            Some(GetRange::Bounded(range)) if !options.head => (range.clone(), range.end),
            range => {
                let size = self.size(location).await?;
                let range = match range {
                    None => 0..size,
                    Some(GetRange::Bounded(range)) => range.start..range.end.min(size),
                    Some(GetRange::Offset(from)) => from.min(size)..size,
                    Some(GetRange::Suffix(len)) => size.saturating_sub(len)..size,
                };
                (range, size)
            }
        };
        let content = if options.head {
            Bytes::new()
        } else {
            let len = range.end.saturating_sub(range.start);
            let content = self.0.get_range(&key(location)?, range.start, len).await;
            content.map_err(generic)?.ok_or_else(|| absent(location))?
        };
        let range = if options.head {
            range
        } else {
            range.start..range.start + content.len() as u64
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::once(async move { Ok(content) }).boxed()),
            meta: ObjectMeta {
                location: location.clone(),
                last_modified: std::time::UNIX_EPOCH.into(),
                size,
                e_tag: None,
                version: None,
            },
            range,
            attributes: Attributes::default(),
        })
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(not_here("put"))
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_here("put"))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        locations.map(|_| Err(not_here("delete"))).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::once(async { Err(not_here("list")) }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(not_here("list"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_here("copy"))
    }
}
