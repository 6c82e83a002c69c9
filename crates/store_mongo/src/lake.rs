//! The offload's side: writers and their rows by sequence; windows, purge and leases have rooms of their own.

use async_trait::async_trait;
use mongodb::bson::doc;
use store::{
    LakeSource, LakeTable, StoreError, Stored, StoredFleetEvent, StoredPosition, StoredReject,
    Window, WindowState, WriterProgress,
};

use crate::database::{WRITERS, answer, rows_of};
use crate::error::Outcome;
use crate::identity::WriterDoc;
use crate::reader::read;
use crate::rows::{FleetEventDoc, RejectDoc, RowDoc};
use crate::writer::persist;
use crate::{MongoStore, lease, lists, purge, window};

fn clamped(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl MongoStore {
    async fn progress_of_all(&self, table: LakeTable) -> Outcome<Vec<WriterProgress>> {
        let field = format!("committed.{}", table.as_str());
        let writers = self.store.collection::<WriterDoc>(WRITERS);
        let stored = doc! { field: { "$gt": 0_i64 } };
        let mut found = answer(writers.find(stored).sort(doc! { "number": 1 })).await?;
        let mut all = Vec::new();
        while answer(found.advance()).await? {
            let writer = found.deserialize_current()?;
            all.push(WriterProgress {
                committed: writer.committed.of(table),
                writer_id: writer.id,
            });
        }
        Ok(all)
    }

    async fn scan<D: RowDoc>(
        &self,
        table: LakeTable,
        writer_id: &str,
        (after, to): (u64, u64),
        limit: usize,
    ) -> Result<Vec<Stored<D::Row>>, StoreError> {
        let scanned = persist(|| async {
            if after >= to || limit == 0 {
                return Ok(Vec::new());
            }
            let range = doc! { "$gt": clamped(after), "$lte": clamped(to) };
            let rows = self.store.collection::<D>(rows_of(table));
            let found = rows
                .find(doc! { "w": writer_id, "s": range })
                .sort(doc! { "w": 1, "s": 1 });
            let mut found = read(found, limit).await?;
            found.truncate(limit);
            found
                .into_iter()
                .map(|row| {
                    Ok(Stored {
                        writer_seq: row.seq()?,
                        row: row.into_row()?,
                    })
                })
                .collect::<Outcome<Vec<_>>>()
        });
        scanned.await.map_err(|failure| failure.during("scan"))
    }
}

#[async_trait]
impl LakeSource for MongoStore {
    async fn writers(&self, table: LakeTable) -> Result<Vec<WriterProgress>, StoreError> {
        persist(|| self.progress_of_all(table))
            .await
            .map_err(|failure| failure.during("writers"))
    }

    async fn scan_positions(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<StoredPosition>, StoreError> {
        persist(|| lists::scan(&self.store, writer_id, (after, to), limit))
            .await
            .map_err(|failure| failure.during("scan"))
    }

    async fn scan_fleet_events(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<StoredFleetEvent>, StoreError> {
        let table = LakeTable::FleetEvent;
        self.scan::<FleetEventDoc>(table, writer_id, (after, to), limit)
            .await
    }

    async fn scan_rejected(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<StoredReject>, StoreError> {
        let table = LakeTable::Rejected;
        self.scan::<RejectDoc>(table, writer_id, (after, to), limit)
            .await
    }

    async fn last_window(
        &self,
        table: LakeTable,
        writer_id: &str,
    ) -> Result<Option<Window>, StoreError> {
        persist(|| window::last(&self.store, table, writer_id))
            .await
            .map_err(|failure| failure.during("last_window"))
    }

    async fn plan_window(&self, window: &Window) -> Result<(), StoreError> {
        let mut again = false;
        persist(|| {
            let before = std::mem::replace(&mut again, true);
            window::plan(&self.store, window, before)
        })
        .await
        .map_err(|failure| failure.during("plan_window"))
    }

    async fn advance_window(
        &self,
        window: &Window,
        state: WindowState,
        rows: u64,
    ) -> Result<(), StoreError> {
        let mut again = false;
        persist(|| {
            let before = std::mem::replace(&mut again, true);
            window::advance(&self.store, window, state, rows, before)
        })
        .await
        .map_err(|failure| failure.during("advance_window"))
    }

    async fn purge(&self, window: &Window, limit: usize) -> Result<u64, StoreError> {
        purge::purge(&self.store, window, limit)
            .await
            .map_err(|failure| failure.during("purge"))
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        now_us: i64,
        ttl_us: i64,
    ) -> Result<bool, StoreError> {
        persist(|| lease::acquire(&self.store, name, holder, now_us, ttl_us))
            .await
            .map_err(|failure| failure.during("acquire_lease"))
    }

    async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        persist(|| lease::release(&self.store, name, holder))
            .await
            .map_err(|failure| failure.during("release_lease"))
    }
}
