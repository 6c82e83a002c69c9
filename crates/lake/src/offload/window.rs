//! One table's windows: planned, written, committed, verified, in that order.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use arrow::datatypes::Field;
use futures_util::stream::{FuturesOrdered, StreamExt};
use store::{Window, WindowState, WriterProgress};

use super::{Offload, OnProgress, Progress, Step, TableSummary};
use crate::delta::{Add, Commit, Committed, Snapshot, Table};
use crate::encode::{Chunk, EncodedFile, MAX_CHUNK_ROWS, Page};
use crate::entity::{Entity, LakeRow, TableSchema};
use crate::error::LakeError;
use crate::hive::{self, PartName};
use crate::storage::ObjectKey;

/// Names the sum over keys among a file's tags.
pub(super) const KEYS_TAG: &str = "lastmile.keys";

/// Names the hash of a file's bytes among its tags.
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

/// Fewest pages read beside each other: a store over a network is waited for.
const MIN_READERS: usize = 2;

/// Most of them; each is a page in memory.
const MAX_READERS: usize = 4;

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
                        to: writer.committed.min(after + self.config.window_rows.max(1)),
                        state: WindowState::Planned,
                        rows: None,
                    };
                    self.source.plan_window(&window).await?;
                    window
                }
            };
            if window.state == WindowState::Planned {
                let rows = self.commit_window(table, &window, progress).await?;
                let committed = WindowState::Committed;
                self.source.advance_window(&window, committed, rows).await?;
                window.state = committed;
                window.rows = Some(rows);
                progress.tell(name, Step::Committed, 0);
            }
            let seen = self.verify(table, &window).await?;
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

    /// Makes a window's rows live in the lake; returns their number.
    async fn commit_window<R: LakeRow>(
        &self,
        table: &mut RawTable<R>,
        window: &Window,
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
        let (adds, rows) = self.write_files(table, window, progress).await?;
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

    /// Reads a window's rows and puts them into files. Pages are read beside each other, and become columns where they
    /// are read. A page is so many sequences, some of which may have no row: so it is known where the next begins before
    /// this one is there.
    async fn write_files<R: LakeRow>(
        &self,
        table: &RawTable<R>,
        window: &Window,
        progress: &mut Tracker<'_>,
    ) -> Result<(Vec<Add>, u64), LakeError> {
        let (mut adds, mut rows) = (Vec::new(), 0);
        let mut chunk = Chunk::new(table.entity);
        // The sequence the chunk's rows follow; it names their files.
        let mut after = window.after;
        let readers = available_parallelism().map_or(1, NonZero::get);
        let readers = readers.clamp(MIN_READERS, MAX_READERS);
        let mut reading = FuturesOrdered::new();
        let (mut asked, mut reached) = (window.after, window.after);
        while reached < window.to {
            while reading.len() < readers && asked < window.to {
                let to = asked.saturating_add(table.entity.page_rows as u64);
                let to = to.min(window.to);
                reading.push_back(self.read(table, window, asked, to));
                asked = to;
            }
            self.lease.renew().await?;
            let Some((to, page)) = reading.next().await.transpose()? else {
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
                let files = tokio::task::spawn_blocking(|| whole.finish()).await??;
                for file in files {
                    adds.push(self.put(table, window, &part, file).await?);
                }
            }
        }
        Ok((adds, rows))
    }

    /// Reads the rows after a sequence and up to another.
    async fn read<R: LakeRow>(
        &self,
        table: &RawTable<R>,
        window: &Window,
        after: u64,
        to: u64,
    ) -> Result<(u64, Page<R>), LakeError> {
        let writer_id = &window.writer_id;
        let empty = || Page::new(table.entity, writer_id);
        let page = Arc::new(Mutex::new(empty()));
        let limit = table.entity.page_rows;
        let source = self.source.as_ref();
        R::visit(source, writer_id, after, to, limit, page.clone()).await?;
        let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((to, std::mem::replace(&mut page, empty())))
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
            (CONTENT_TAG, file.hash),
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
