//! Reading a commit back: what storage holds must be what the store had.
//!
//! The log is read anew from storage and every file of the window is read and counted; nothing that the writing
//! run kept in memory is trusted. The sum over keys was taken from the store's rows before they became
//! columns, so a fault in building, sorting or encoding them shows here.

use std::collections::BTreeMap;

use store::Window;

use super::Offload;
use super::window::{KEYS_TAG, RawTable, files_of};
use crate::delta::Add;
use crate::encode::KeySum;
use crate::entity::LakeRow;
use crate::error::LakeError;
use crate::parquet_file;

/// What was read back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) rows: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Offload {
    /// Reads a committed window back.
    pub(super) async fn verify<R: LakeRow>(
        &self,
        table: &mut RawTable<R>,
        window: &Window,
    ) -> Result<Seen, LakeError> {
        table.snapshot = table.delta.load().await?;
        self.read_back(table, window).await
    }

    /// Reads every file of a window as of the snapshot at hand.
    pub(super) async fn read_back<R: LakeRow>(
        &self,
        table: &RawTable<R>,
        window: &Window,
    ) -> Result<Seen, LakeError> {
        let mut seen = Seen::default();
        for add in files_of(&table.snapshot, window) {
            self.lease.renew().await?;
            let wrong = |detail: String| mismatch(window, format!("{}: {detail}", add.path));
            let key = table.delta.key(&add.path)?;
            let content = self.storage.get(&key).await?;
            let content = content.ok_or_else(|| wrong("the file is gone".to_owned()))?;
            if content.len() as u64 != add.size {
                let detail = format!("has {} bytes, committed with {}", content.len(), add.size);
                return Err(wrong(detail));
            }
            let (path, time_column) = (add.path.clone(), table.entity.time_column);
            let (keys, counted, stated) = tokio::task::spawn_blocking(move || {
                let (mut keys, mut counted) = (KeySum::default(), 0_u64);
                let stated = parquet_file::read_keys(&path, content, time_column, |seq, time| {
                    keys.add(seq, time);
                    counted += 1;
                })?;
                Ok::<_, LakeError>((keys, counted, stated))
            })
            .await??;
            if counted != stated || Some(stated) != add.rows() {
                let committed = add.rows();
                let detail =
                    format!("has {counted} rows, states {stated}, committed with {committed:?}");
                return Err(wrong(detail));
            }
            if tag(add) != Some(keys.to_hex().as_str()) {
                return Err(wrong("holds other rows than the store had".to_owned()));
            }
            seen.rows += counted;
            seen.files += 1;
            seen.bytes += add.size;
        }
        if window.rows != Some(seen.rows) {
            let detail = format!("{} rows live, {:?} stored", seen.rows, window.rows);
            return Err(mismatch(window, detail));
        }
        Ok(seen)
    }
}

fn tag(add: &Add) -> Option<&str> {
    let tags: &BTreeMap<_, _> = add.tags.as_ref()?;
    tags.get(KEYS_TAG).map(String::as_str)
}

fn mismatch(window: &Window, detail: String) -> LakeError {
    LakeError::Mismatch {
        table: window.table.as_str(),
        writer_id: window.writer_id.clone(),
        after: window.after,
        to: window.to,
        detail,
    }
}
