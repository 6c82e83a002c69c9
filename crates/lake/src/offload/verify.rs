//! Reading a commit back: what storage holds must be what the store had.
//!
//! The log is read anew from storage and every file of the window is read and counted; nothing that the writing
//! run kept in memory is trusted. The sum over keys was taken from the store's rows before they became
//! columns, so a fault in building, sorting or encoding them shows here. Bytes that changed since show by their hash,
//! before they are decoded: a decoder may take damage for rows, or fail in a way that ends the process.

use store::Window;

use super::Offload;
use super::window::{CHECKSUM_TAG, CONTENT_TAG, KEYS_TAG, RawTable, files_of};
use crate::delta::Add;
use crate::encode::{KeySum, checksum_of, hash_of};
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
            let adding = |(keys, counted): &mut (KeySum, u64), seq, time| {
                keys.add(seq, time);
                *counted += 1;
            };
            let read = self.read_file(table, add, adding).await?;
            let (parts, stated) = read.map_err(wrong)?;
            let (mut keys, mut counted) = (KeySum::default(), 0);
            for (of_part, rows) in parts {
                keys.merge(of_part);
                counted += rows;
            }
            if counted != stated || Some(stated) != add.rows() {
                let committed = add.rows();
                let detail =
                    format!("has {counted} rows, states {stated}, committed with {committed:?}");
                return Err(wrong(detail));
            }
            if tag(add, KEYS_TAG) != Some(keys.to_hex().as_str()) {
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

    /// Gathers the sequence and time of every row of a live file; returns that, in parts, and the number of rows its
    /// footer states. The inner error says what is wrong with a file that is gone or not what was committed.
    pub(super) async fn read_file<R: LakeRow, T: Default + Send + 'static>(
        &self,
        table: &RawTable<R>,
        add: &Add,
        gather: fn(&mut T, u64, i64),
    ) -> Result<Result<(Vec<T>, u64), String>, LakeError> {
        let content = self.storage.get(&table.delta.key(&add.path)?).await?;
        let Some(content) = content else {
            return Ok(Err("the file is gone".to_owned()));
        };
        let (found, committed) = (content.len() as u64, add.size);
        if found != committed {
            return Ok(Err(format!(
                "has {found} bytes, committed with {committed}"
            )));
        }
        let (path, time_column) = (add.path.clone(), table.entity.time_column);
        let stated = |name| tag(add, name).map(str::to_owned);
        let (checksum, hash) = (stated(CHECKSUM_TAG), stated(CONTENT_TAG));
        let reading = tokio::task::spawn_blocking(move || {
            if checksum.is_some_and(|checksum| checksum != checksum_of(&content))
                || hash.is_some_and(|hash| hash != hash_of(&content))
            {
                return Ok(Err("holds other bytes than were committed".to_owned()));
            }
            Ok(Ok(parquet_file::read_keys(
                &path,
                &content,
                time_column,
                gather,
            )?))
        });
        reading.await?
    }
}

fn tag<'a>(add: &'a Add, name: &str) -> Option<&'a str> {
    add.tags.as_ref()?.get(name).map(String::as_str)
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
