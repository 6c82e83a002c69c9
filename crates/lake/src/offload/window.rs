//! One table's windows: planned, written, committed, verified, in that order.

use std::ops::ControlFlow;

use arrow::datatypes::Field;
use futures_util::future::join;
use store::{Window, WindowState, WriterProgress};

use super::pages::Pages;
use super::{Offload, OnProgress, Progress, Step, TableSummary};
use crate::delta::{Add, Commit, Committed, Snapshot, Table};
use crate::encode::{Chunk, EncodedFile, MAX_CHUNK_ROWS};
use crate::entity::{Entity, LakeRow, TableSchema};
use crate::error::LakeError;
use crate::hive::{self, PartName};
use crate::storage::ObjectKey;

/// Names the sum over keys among a file's tags.
pub(super) const KEYS_TAG: &str = "lastmile.keys";

/// Names the checksum of a file's bytes among its tags.
pub(super) const CHECKSUM_TAG: &str = "lastmile.xxh64";

/// Names the hash of a file's bytes in its place, among the tags of files of earlier versions.
pub(super) const CONTENT_TAG: &str = "lastmile.content";

/// Names the window among a file's tags, as `after-to`.
pub(super) const WINDOW_TAG: &str = "lastmile.window";

/// Counts sequences and tells the caller.
pub(super) struct Tracker<'a> {
    tell: OnProgress<'a>,
    done: u64,
    total: u64,
    stop: bool,
}

impl<'a> Tracker<'a> {
    pub(super) fn new(tell: OnProgress<'a>) -> Self {
        Self {
            tell,
            done: 0,
            total: 0,
            stop: false,
        }
    }

    /// Adds what a writer has committed beyond its last finished window.
    pub(super) fn expect(&mut self, committed: u64, last: Option<&Window>) {
        let finished = last.map_or(0, |window| match window.state {
            WindowState::Planned => window.after,
            WindowState::Committed | WindowState::Verified => window.to,
        });
        self.total += committed.saturating_sub(finished);
    }

    /// Tells whether the caller asked to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop
    }

    pub(super) fn tell(&mut self, table: store::LakeTable, step: Step, rows: u64) {
        self.done += rows;
        let progress = Progress {
            table,
            step,
            done: self.done,
            total: self.total.max(self.done),
        };
        if (self.tell)(&progress) == ControlFlow::Break(()) {
            self.stop = true;
        }
    }
}

/// A table of raw at work.
pub(super) struct RawTable<R: 'static> {
    pub(super) entity: &'static Entity<R>,
    pub(super) schema: TableSchema,
    pub(super) delta: Table,
    pub(super) snapshot: Snapshot,
}

/// The application transaction of a writer's windows in a table.
fn transaction(window: &Window) -> String {
    format!("lastmile/{}/{}", window.table.as_str(), window.writer_id)
}

impl Offload {
    /// Names a table of raw; nothing is read yet.
    pub(super) fn raw_table<R: LakeRow>(&self) -> RawTable<R> {
        let entity = R::entity();
        let folder = ObjectKey::new(entity.folder()).expect("a table's name is a plain word");
        RawTable {
            entity,
            schema: entity.schema(),
            snapshot: Snapshot::default(),
            delta: Table::new(self.storage.clone(), folder),
        }
    }

    pub(super) async fn offload_table<R: LakeRow>(
        &self,
        writers: &[&WriterProgress],
        progress: &mut Tracker<'_>,
    ) -> Result<TableSummary, LakeError> {
        let mut table = self.raw_table::<R>();
        let entity = table.entity;
        let mut summary = TableSummary {
            table: entity.table.as_str().to_owned(),
            ..TableSummary::default()
        };
        if !writers.is_empty() {
            table.snapshot = table.delta.load().await?;
        }
        progress.tell(entity.table, Step::Begun, 0);
        for writer in writers {
            let reached = self
                .offload_writer(&mut table, writer, progress, &mut summary)
                .await?;
            summary.lag_rows += writer.committed.saturating_sub(reached);
        }
        Ok(summary)
    }

    /// Takes a writer's rows up to its committed sequence; returns the last sequence taken.
    async fn offload_writer<R: LakeRow>(
        &self,
        table: &mut RawTable<R>,
        writer: &WriterProgress,
        progress: &mut Tracker<'_>,
        summary: &mut TableSummary,
    ) -> Result<u64, LakeError> {
        let name = table.entity.table;
        let mut pages = Pages::new(self.source.as_ref(), table.entity, &writer.writer_id);
        let end_of = |after: u64| {
            let end = after.saturating_add(self.config.window_rows.max(1));
            writer.committed.min(end)
        };
        loop {
            self.lease.renew().await?;
            let last = self.source.last_window(name, &writer.writer_id).await?;
            let mut window = match last {
                Some(window) if window.state != WindowState::Verified => window,
                finished => {
                    let after = finished.map_or(0, |window| window.to);
                    if progress.stop || after >= writer.committed {
                        return Ok(after);
                    }
                    let window = Window {
                        table: name,
                        writer_id: writer.writer_id.clone(),
                        after,
                        to: end_of(after),
                        state: WindowState::Planned,
                        rows: None,
                    };
                    self.source.plan_window(&window).await?;
                    window
                }
            };
            let next = end_of(window.to);
            if window.state == WindowState::Planned {
                let rows = self
                    .commit_window(table, &window, next, &mut pages, progress)
                    .await?;
                let committed = WindowState::Committed;
                self.source.advance_window(&window, committed, rows).await?;
                window.state = committed;
                window.rows = Some(rows);
                progress.tell(name, Step::Committed, 0);
            }
            // Reading back waits for storage; meanwhile the next window's rows are read.
            let (seen, ()) = join(
                self.verify(table, &window),
                pages.read_ahead(window.to, next),
            )
            .await;
            let seen = seen?;
            let verified = WindowState::Verified;
            self.source
                .advance_window(&window, verified, seen.rows)
                .await?;
            summary.windows += 1;
            summary.rows += seen.rows;
            summary.files += seen.files;
            summary.bytes += seen.bytes;
            progress.tell(name, Step::Verified, 0);
            tracing::info!(
                table = name.as_str(),
                writer_id = window.writer_id,
                after = window.after,
                to = window.to,
                rows = seen.rows,
                files = seen.files,
                bytes = seen.bytes,
                "window verified"
            );
        }
    }

    /// Makes a window's rows live in the lake; returns their number. The window after it will end at `next`.
    async fn commit_window<R: LakeRow>(
        &self,
        table: &mut RawTable<R>,
        window: &Window,
        next: u64,
        pages: &mut Pages<'_, R>,
        progress: &mut Tracker<'_>,
    ) -> Result<u64, LakeError> {
        let app_id = transaction(window);
        table.delta.refresh(&mut table.snapshot).await?;
        let recorded = table.snapshot.transactions.get(&app_id).copied();
        let in_lake = recorded.map_or(0, i64::cast_unsigned);
        if in_lake == window.to {
            // An earlier run came as far as the commit.
            return Ok(files_of(&table.snapshot, window)
                .filter_map(Add::rows)
                .sum());
        }
        if in_lake != window.after {
            return Err(LakeError::Diverged {
                table: window.table.as_str(),
                writer_id: window.writer_id.clone(),
                in_lake,
                after: window.after,
                to: window.to,
            });
        }
        let (adds, rows) = self
            .write_files(table, window, next, pages, progress)
            .await?;
        let commit = Commit {
            operation: "WRITE",
            schema: &table.schema,
            now: self.clock.now(),
            adds,
            removes: Vec::new(),
            transactions: vec![(app_id, window.to.cast_signed())],
            once: true,
        };
        match table.delta.commit(&mut table.snapshot, &commit).await? {
            Committed::Now => Ok(rows),
            // Another runner, whose lease ran out, did the same work; what is live is what counts.
            Committed::Before => Ok(files_of(&table.snapshot, window)
                .filter_map(Add::rows)
                .sum()),
        }
    }

    /// Reads a window's rows and puts them into files; while the last of these are made, rows of the next window are read.
    async fn write_files<R: LakeRow>(
        &self,
        table: &RawTable<R>,
        window: &Window,
        next: u64,
        pages: &mut Pages<'_, R>,
        progress: &mut Tracker<'_>,
    ) -> Result<(Vec<Add>, u64), LakeError> {
        let (mut adds, mut rows) = (Vec::new(), 0);
        let mut chunk = Chunk::new(table.entity);
        // The sequence the chunk's rows follow; it names their files.
        let mut after = window.after;
        let mut reached = window.after;
        pages.begin(window.after, window.to);
        while reached < window.to {
            self.lease.renew().await?;
            let Some((to, page)) = pages.next(window.to).await? else {
                break;
            };
            rows += page.rows();
            chunk.push(page)?;
            progress.tell(table.entity.table, Step::Written, to - reached);
            reached = to;
            let full = chunk.bytes() >= self.config.chunk_bytes || chunk.rows() >= MAX_CHUNK_ROWS;
            if full || reached == window.to {
                let part = PartName {
                    writer_id: window.writer_id.clone(),
                    after: std::mem::replace(&mut after, reached),
                    to: reached,
                };
                let whole = std::mem::replace(&mut chunk, Chunk::new(table.entity));
                let put = async {
                    let files = tokio::task::spawn_blocking(|| whole.finish()).await??;
                    for file in files {
                        adds.push(self.put(table, window, &part, file).await?);
                    }
                    Ok::<_, LakeError>(())
                };
                if reached == window.to {
                    let (put, ()) = join(put, pages.read_ahead(window.to, next)).await;
                    put?;
                } else {
                    put.await?;
                }
            }
        }
        Ok((adds, rows))
    }

    async fn put<R: LakeRow>(
        &self,
        table: &RawTable<R>,
        window: &Window,
        part: &PartName,
        file: EncodedFile,
    ) -> Result<Add, LakeError> {
        self.lease.renew().await?;
        let names = table.schema.partitions.iter().map(Field::name);
        let values: Vec<_> = names.zip(&file.partition).collect();
        let mut path = String::new();
        for (name, value) in &values {
            path.push_str(&hive::folder(name, Some(value)));
            path.push('/');
        }
        path.push_str(&part.file_name());
        let size = file.content.len() as u64;
        let key = table.delta.key(&path)?;
        self.storage.put(&key, file.content).await?;
        let tags = [
            (KEYS_TAG, file.keys.to_hex()),
            (CHECKSUM_TAG, file.checksum),
            (WINDOW_TAG, format!("{}-{}", window.after, window.to)),
        ];
        Ok(Add {
            path,
            partition_values: values
                .into_iter()
                .map(|(name, value)| (name.clone(), Some(value.clone())))
                .collect(),
            size,
            modification_time: self.clock.now().as_micros() / 1_000,
            data_change: true,
            stats: Some(Add::stats_of(file.rows)),
            tags: Some(tags.map(|(name, value)| (name.to_owned(), value)).into()),
        })
    }
}

/// Returns the live files of a window.
pub(super) fn files_of<'a>(
    snapshot: &'a Snapshot,
    window: &'a Window,
) -> impl Iterator<Item = &'a Add> {
    snapshot.files.values().filter(|add| {
        PartName::parse(&add.path).is_some_and(|part| {
            part.writer_id == window.writer_id && window.after <= part.after && part.to <= window.to
        })
    })
}
