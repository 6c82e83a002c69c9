//! Storage for tests: in memory, dying at a chosen call, forgetting transactions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use lake::storage::{Creation, ObjectKey, ObjectMeta, Storage, StorageError};
use model::UtcMicros;
use store::ErrorKind;

/// How a process dies at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// The call is not carried out.
    Before,
    /// The call is carried out and its answer is lost.
    After,
    /// The call is carried out and its answer is lost, and the process lives on.
    Lost,
}

/// Counts calls over source and storage, and kills the process at one of them. After its death every call
/// fails, until [`Faults::restart`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    calls: u64,
    die_at: Option<(u64, Death)>,
    dead: bool,
    died_in: Option<&'static str>,
    pace: u64,
    only_writes: bool,
}

/// Calls that change something.
const WRITES: [&str; 6] = [
    "put",
    "put_if_absent",
    "delete",
    "plan_window",
    "advance_window",
    "purge",
];

impl Faults {
    /// Counts a call. `Err`: it is not carried out. `Ok(true)`: it is, and its answer is lost.
    pub(crate) fn before(&self, operation: &'static str) -> Result<bool, ()> {
        let mut plan = self.0.lock().unwrap();
        if plan.dead {
            return Err(());
        }
        if plan.only_writes && !WRITES.contains(&operation) {
            return Ok(false);
        }
        let call = plan.calls;
        plan.calls += 1;
        match plan.die_at {
            Some((at, death)) if at == call => {
                plan.dead = death != Death::Lost;
                plan.died_in = Some(operation);
                if death == Death::Before {
                    Err(())
                } else {
                    Ok(true)
                }
            }
            _ => Ok(false),
        }
    }

    /// Starts a new process that dies at its call number `die_at`, from 0, if it gets so far.
    pub(crate) fn restart(&self, die_at: Option<(u64, Death)>) {
        let mut plan = self.0.lock().unwrap();
        *plan = Plan {
            die_at,
            pace: plan.pace,
            only_writes: plan.only_writes,
            ..Plan::default()
        };
    }

    /// Counts only calls that change something, from now on, or all again.
    pub(crate) fn set_only_writes(&self, only_writes: bool) {
        self.0.lock().unwrap().only_writes = only_writes;
    }

    /// Lets others take so many turns before each call to storage.
    pub(crate) fn set_pace(&self, pace: u64) {
        self.0.lock().unwrap().pace = pace;
    }

    pub(crate) fn pace(&self) -> u64 {
        self.0.lock().unwrap().pace
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    pub(crate) fn died_in(&self) -> Option<&'static str> {
        self.0.lock().unwrap().died_in
    }
}

/// Storage that dies with the process.
#[derive(Debug)]
pub(crate) struct Mortal {
    pub(crate) inner: Arc<dyn Storage>,
    pub(crate) faults: Faults,
}

fn died(operation: &'static str, key: &ObjectKey) -> StorageError {
    StorageError {
        operation,
        key: key.to_string(),
        kind: ErrorKind::Unavailable,
        source: "by the test".into(),
    }
}

macro_rules! mortal {
    ($self:ident, $operation:literal, $key:expr, $call:expr) => {{
        let wrong = |()| died($operation, $key);
        // Several processes take turns here.
        for _ in 0..$self.faults.pace() {
            tokio::task::yield_now().await;
        }
        let lost = $self.faults.before($operation).map_err(wrong)?;
        let outcome = $call.await;
        if lost { Err(wrong(())) } else { outcome }
    }};
}

#[async_trait]
impl Storage for Mortal {
    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), StorageError> {
        mortal!(self, "put", key, self.inner.put(key, content))
    }
    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        content: Bytes,
    ) -> Result<Creation, StorageError> {
        mortal!(
            self,
            "put_if_absent",
            key,
            self.inner.put_if_absent(key, content)
        )
    }
    async fn get(&self, key: &ObjectKey) -> Result<Option<Bytes>, StorageError> {
        mortal!(self, "get", key, self.inner.get(key))
    }
    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        len: u64,
    ) -> Result<Option<Bytes>, StorageError> {
        mortal!(
            self,
            "get_range",
            key,
            self.inner.get_range(key, offset, len)
        )
    }
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StorageError> {
        mortal!(self, "head", key, self.inner.head(key))
    }
    async fn list(&self, prefix: &ObjectKey) -> Result<Vec<ObjectMeta>, StorageError> {
        mortal!(self, "list", prefix, self.inner.list(prefix))
    }
    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        mortal!(self, "delete", key, self.inner.delete(key))
    }
    async fn sweep(&self) -> Result<(), StorageError> {
        let key = ObjectKey::new("sweep").unwrap();
        mortal!(self, "sweep", &key, self.inner.sweep())
    }
}

/// Storage in memory. With `forget_transactions`, logs are read without their transactions: the negative
/// control of "read the last transaction before committing".
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryStorage {
    pub(crate) objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    pub(crate) forget_transactions: bool,
    /// Everything was written long ago, so that logs are cleaned up as soon as they may be.
    pub(crate) always_old: bool,
}

/// 2200-01-01: what was written then is old to no clock of a test.
const NEVER_OLD_US: i64 = 7_258_118_400_000_000;

impl MemoryStorage {
    fn meta(&self, key: &str, content: &Bytes) -> ObjectMeta {
        let modified = if self.always_old { 0 } else { NEVER_OLD_US };
        ObjectMeta {
            key: ObjectKey::new(key).unwrap(),
            size: content.len() as u64,
            modified: UtcMicros::new(modified).unwrap(),
        }
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn put(&self, key: &ObjectKey, content: Bytes) -> Result<(), StorageError> {
        let mut objects = self.objects.lock().unwrap();
        objects.insert(key.to_string(), content);
        Ok(())
    }
    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        content: Bytes,
    ) -> Result<Creation, StorageError> {
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(key.as_str()) {
            return Ok(Creation::Exists);
        }
        objects.insert(key.to_string(), content);
        Ok(Creation::Created)
    }
    async fn get(&self, key: &ObjectKey) -> Result<Option<Bytes>, StorageError> {
        let content = self.objects.lock().unwrap().get(key.as_str()).cloned();
        // They are in checkpoints, too.
        if self.forget_transactions && key.as_str().contains("checkpoint") {
            return Ok(None);
        }
        if self.forget_transactions && key.as_str().contains("_delta_log") {
            return Ok(content.map(|content| {
                let text = String::from_utf8(content.to_vec()).unwrap();
                let kept = text.lines().filter(|line| !line.starts_with(r#"{"txn""#));
                kept.collect::<Vec<_>>().join("\n").into()
            }));
        }
        Ok(content)
    }
    async fn get_range(
        &self,
        key: &ObjectKey,
        offset: u64,
        len: u64,
    ) -> Result<Option<Bytes>, StorageError> {
        let content = self.get(key).await?;
        Ok(content.map(|content| {
            let from = usize::try_from(offset).unwrap().min(content.len());
            let to = (from + usize::try_from(len).unwrap()).min(content.len());
            content.slice(from..to)
        }))
    }
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StorageError> {
        let objects = self.objects.lock().unwrap();
        Ok(objects
            .get(key.as_str())
            .map(|content| self.meta(key.as_str(), content)))
    }
    async fn list(&self, prefix: &ObjectKey) -> Result<Vec<ObjectMeta>, StorageError> {
        let prefix = format!("{prefix}/");
        let objects = self.objects.lock().unwrap();
        let found = objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        Ok(found
            .map(|(key, content)| self.meta(key, content))
            .collect())
    }
    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        self.objects.lock().unwrap().remove(key.as_str());
        Ok(())
    }
    async fn sweep(&self) -> Result<(), StorageError> {
        Ok(())
    }
}
