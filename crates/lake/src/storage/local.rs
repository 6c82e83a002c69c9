//! A folder as storage.
//!
//! Content is written to `.tmp/` below the root, synced, and only then given its name: by `rename` where it
//! may replace, by `link` where it must be new. The folders that hold the name are synced last. Engines
//! that read the lake as plain files skip names that begin with a dot.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use model::UtcMicros;
use store::ErrorKind;

use super::{Creation, ObjectKey, ObjectMeta, Storage, StorageError};

/// Holds content until it gets its name.
const TEMPORARY: &str = ".tmp";

/// A folder of the local file system.
#[derive(Debug, Clone)]
pub struct LocalStorage(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    root: PathBuf,
    written: AtomicU64,
    /// Folders this process has seen made durable; those of a process that died may not be.
    durable: Mutex<HashSet<PathBuf>>,
}

/// Folders remembered as durable before the memory of them is dropped and begun anew.
const MAX_REMEMBERED: usize = 65_536;

impl LocalStorage {
    /// Takes a folder; the first write makes it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Folder {
            root: root.into(),
            written: AtomicU64::new(0),
            durable: Mutex::default(),
        }))
    }

    /// Runs file system calls where they may block.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        work: impl FnOnce(&Folder) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let folder = Arc::clone(&self.0);
        let outcome = tokio::task::spawn_blocking(move || work(&folder)).await;
        let outcome = outcome.unwrap_or_else(|error| Err(io::Error::other(error)));
        outcome.map_err(|source| StorageError {
            operation,
            key: key.to_owned(),
            kind: kind(&source),
            source: source.into(),
        })
    }
}

fn kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::Interrupted | io::ErrorKind::QuotaExceeded => {
            ErrorKind::Unavailable
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => ErrorKind::Data,
        _ => ErrorKind::Internal,
    }
}

impl Folder {
    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// Makes a folder and those above it, each durable in its parent.
    fn make(&self, folder: &Path) -> io::Result<()> {
        if self.durable().contains(folder) {
            return Ok(());
        }
        let parent = folder.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(parent) = parent.filter(|parent| *parent != Path::new("/")) {
            self.make(parent)?;
        }
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_folder(parent.unwrap_or(Path::new(".")))?,
        }
        let mut durable = self.durable();
        if durable.len() >= MAX_REMEMBERED {
            durable.clear();
        }
        durable.insert(folder.to_owned());
        Ok(())
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes content under a name nobody else uses, and syncs it.
    fn write_temporary(&self, content: &[u8]) -> io::Result<PathBuf> {
        let folder = self.root.join(TEMPORARY);
        self.make(&folder)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        // The address tells apart several of these in one process.
        let path = folder.join(format!(
            "{}-{:p}-{number}",
            std::process::id(),
            std::ptr::from_ref(self)
        ));
        let mut file = File::create(&path)?;
        file.write_all(content)?;
        file.sync_all()?;
        Ok(path)
    }

    fn put(&self, key: &ObjectKey, content: &[u8]) -> io::Result<()> {
        let (target, folder) = self.target(key)?;
        let temporary = self.write_temporary(content)?;
        fs::rename(&temporary, target)?;
        sync_folder(&folder)
    }

    fn put_if_absent(&self, key: &ObjectKey, content: &[u8]) -> io::Result<Creation> {
        let (target, folder) = self.target(key)?;
        let temporary = self.write_temporary(content)?;
        let linked = fs::hard_link(&temporary, target);
        fs::remove_file(&temporary)?;
        let creation = match linked {
            Ok(()) => Creation::Created,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Creation::Exists,
            Err(error) => return Err(error),
        };
        // Also where it exists: whoever made it may have died before this step, and we build on it.
        sync_folder(&folder)?;
        Ok(creation)
    }

    fn target(&self, key: &ObjectKey) -> io::Result<(PathBuf, PathBuf)> {
        let target = self.path(key);
        let folder = target.parent().unwrap_or(&self.root).to_owned();
        self.make(&folder)?;
        Ok((target, folder))
    }

    fn read(&self, key: &ObjectKey, range: Option<(u64, u64)>) -> io::Result<Option<Bytes>> {
        let path = self.path(key);
        let Some((offset, len)) = range else {
            return Ok(absent_is_none(fs::read(path))?.map(Bytes::from));
        };
        let Some(mut file) = absent_is_none(File::open(path))? else {
            return Ok(None);
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut content = Vec::new();
        file.take(len).read_to_end(&mut content)?;
        Ok(Some(content.into()))
    }

    fn head(&self, key: &ObjectKey) -> io::Result<Option<ObjectMeta>> {
        let metadata = absent_is_none(fs::metadata(self.path(key)))?;
        Ok(metadata
            .filter(fs::Metadata::is_file)
            .map(|metadata| object_meta(key.clone(), &metadata)))
    }

    fn list(&self, prefix: &ObjectKey) -> io::Result<Vec<ObjectMeta>> {
        let mut found = Vec::new();
        let mut folders = vec![prefix.clone()];
        while let Some(folder) = folders.pop() {
            let Some(entries) = absent_is_none(fs::read_dir(self.path(&folder)))? else {
                continue;
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let Some(key) = name.to_str().and_then(|name| folder.join(name)) else {
                    continue;
                };
                // Gone meanwhile is the same as never seen.
                let Some(metadata) = absent_is_none(entry.metadata())? else {
                    continue;
                };
                if metadata.is_dir() {
                    folders.push(key);
                } else {
                    found.push(object_meta(key, &metadata));
                }
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn delete(&self, key: &ObjectKey) -> io::Result<()> {
        let path = self.path(key);
        if absent_is_none(fs::remove_file(&path))?.is_none() {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.root);
        sync_folder(folder)?;
        // An empty partition folder would still be shown by engines that list folders; one that is not
        // empty refuses to go, which is what is wanted.
        if folder
            .file_name()
            .and_then(OsStr::to_str)
            .is_some_and(|name| name.contains('='))
        {
            self.durable().remove(folder);
            drop(fs::remove_dir(folder));
        }
        Ok(())
    }

    fn sweep(&self) -> io::Result<()> {
        let folder = self.root.join(TEMPORARY);
        let Some(entries) = absent_is_none(fs::read_dir(folder))? else {
            return Ok(());
        };
        for entry in entries {
            absent_is_none(fs::remove_file(entry?.path()))?;
        }
        Ok(())
    }
}

fn absent_is_none<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn object_meta(key: ObjectKey, metadata: &fs::Metadata) -> ObjectMeta {
    let modified = metadata.modified().ok();
    let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let micros = modified.and_then(|since| i64::try_from(since.as_micros()).ok());
    ObjectMeta {
        key,
        size: metadata.len(),
        modified: UtcMicros::default().saturating_add_micros(micros.unwrap_or_default()),
    }
}

#[async_trait]
impl Storage for LocalStorage {
    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), StorageError> {
        let owned = key.clone();
        self.blocking("put", key.as_str(), move |folder| {
            folder.put(&owned, &content)
        })
        .await
    }

    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        content: Bytes,
    ) -> Result<Creation, StorageError> {
        let owned = key.clone();
        self.blocking("put_if_absent", key.as_str(), move |folder| {
            folder.put_if_absent(&owned, &content)
        })
        .await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<Bytes>, StorageError> {
        let owned = key.clone();
        self.blocking("get", key.as_str(), move |folder| folder.read(&owned, None))
            .await
    }

    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        len: u64,
    ) -> Result<Option<Bytes>, StorageError> {
        let owned = key.clone();
        self.blocking("get_range", key.as_str(), move |folder| {
            folder.read(&owned, Some((offset, len)))
        })
        .await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StorageError> {
        let owned = key.clone();
        self.blocking("head", key.as_str(), move |folder| folder.head(&owned))
            .await
    }

    async fn list(&self, prefix: &ObjectKey) -> Result<Vec<ObjectMeta>, StorageError> {
        let owned = prefix.clone();
        self.blocking("list", prefix.as_str(), move |folder| folder.list(&owned))
            .await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        let owned = key.clone();
        self.blocking("delete", key.as_str(), move |folder| folder.delete(&owned))
            .await
    }

    async fn sweep(&self) -> Result<(), StorageError> {
        self.blocking("sweep", TEMPORARY, Folder::sweep).await
    }
}
