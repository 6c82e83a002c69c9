//! Reading a writer's rows page by page, and somewhat ahead of where they are needed.
//!
//! Pages are read beside each other, and become columns where they are read. A page is so many sequences, some of which may
//! have no row: so it is known where the next begins before this one is there. Memory is [`AHEAD`] pages and one for each
//! reader.
//!
//! Only committed sequences are asked for, whose rows are final; so a row read before its window was planned is the row
//! that is read after.

use std::collections::VecDeque;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use futures_util::stream::{FuturesOrdered, StreamExt};
use store::LakeSource;

use crate::encode::Page;
use crate::entity::{Entity, LakeRow};
use crate::error::LakeError;

/// Fewest pages read beside each other: a store over a network is waited for.
const MIN_READERS: usize = 2;

/// Most of them; each is a page in memory.
const MAX_READERS: usize = 4;

/// Pages kept of the window to come.
const AHEAD: usize = 12;

/// A page on its way, with its last sequence.
type Reading<'a, R> = Pin<Box<dyn Future<Output = Result<(u64, Page<R>), LakeError>> + Send + 'a>>;

/// A writer's pages.
pub(super) struct Pages<'a, R: 'static> {
    source: &'a dyn LakeSource,
    entity: &'static Entity<R>,
    writer_id: &'a str,
    readers: usize,
    /// The sequence the next page follows.
    after: u64,
    /// Pages that are there, each with its last sequence.
    ready: VecDeque<(u64, Page<R>)>,
    /// Pages on their way, which follow those.
    reading: FuturesOrdered<Reading<'a, R>>,
    /// The last sequence asked for.
    asked: u64,
}

impl<'a, R: LakeRow> Pages<'a, R> {
    pub(super) fn new(
        source: &'a dyn LakeSource,
        entity: &'static Entity<R>,
        writer_id: &'a str,
    ) -> Self {
        // One more than can be at work, for one that is done waits until those before it are.
        let readers = available_parallelism().map_or(1, NonZero::get) + 1;
        Self {
            source,
            entity,
            writer_id,
            readers: readers.clamp(MIN_READERS, MAX_READERS),
            after: 0,
            ready: VecDeque::new(),
            reading: FuturesOrdered::new(),
            asked: 0,
        }
    }

    /// Begins a window. What was read ahead is kept if it is the window's.
    pub(super) fn begin(&mut self, after: u64, to: u64) {
        if self.after != after || self.asked > to {
            self.after = after;
            self.ready.clear();
            self.reading = FuturesOrdered::new();
            self.asked = after;
        }
    }

    /// Returns the next page of the window that ends at `end`, with its last sequence; `None` after the last.
    pub(super) async fn next(&mut self, end: u64) -> Result<Option<(u64, Page<R>)>, LakeError> {
        let page = if let Some(page) = self.ready.pop_front() {
            Some(page)
        } else {
            self.ask(end, self.readers);
            self.reading.next().await.transpose()?
        };
        if let Some((to, _)) = &page {
            self.after = *to;
        }
        Ok(page)
    }

    /// Reads the first pages of the window after `after`, which will end at `end`. What cannot be read now is read again
    /// when it is needed, and fails then.
    pub(super) async fn read_ahead(&mut self, after: u64, end: u64) {
        self.begin(after, end);
        loop {
            self.ask(end, AHEAD.saturating_sub(self.ready.len()));
            match self.reading.next().await {
                Some(Ok(page)) => self.ready.push_back(page),
                None => return,
                Some(Err(error)) => {
                    tracing::debug!(%error, "rows of the next window not read yet");
                    self.reading = FuturesOrdered::new();
                    self.asked = self.ready.back().map_or(after, |(to, _)| *to);
                    return;
                }
            }
        }
    }

    /// Lets so many pages be on their way, as many as there are readers at most.
    fn ask(&mut self, end: u64, most: usize) {
        while self.reading.len() < self.readers.min(most) && self.asked < end {
            let after = self.asked;
            self.asked = after.saturating_add(self.entity.page_rows as u64).min(end);
            let read = read(self.source, self.entity, self.writer_id, after, self.asked);
            self.reading.push_back(Box::pin(read));
        }
    }
}

/// Reads the rows after a sequence and up to another.
async fn read<R: LakeRow>(
    source: &dyn LakeSource,
    entity: &'static Entity<R>,
    writer_id: &str,
    after: u64,
    to: u64,
) -> Result<(u64, Page<R>), LakeError> {
    let empty = || Page::new(entity, writer_id);
    let page = Arc::new(Mutex::new(empty()));
    R::visit(source, writer_id, after, to, entity.page_rows, page.clone()).await?;
    let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((to, std::mem::replace(&mut page, empty())))
}
