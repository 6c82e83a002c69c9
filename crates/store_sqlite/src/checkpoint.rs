//! Copies the write-ahead log into the file beside the writer, which would otherwise stand still for it.
//!
//! A copy ("checkpoint") of the whole log takes a hundred milliseconds and more. So a thread with a connection
//! of its own copies while the writer goes on, and again what came meanwhile. The little that is left then the
//! writer copies itself between two transactions, when nothing can be added: only when all of a log is in the
//! file does SQLite begin it anew.
//!
//! Invariant: the writer copies at most [`LEFT_MOST`] pages, unless the log has grown to [`TOO_LONG`] times of
//! what it should be; then it waits for the thread and copies the rest, so that only a reader that stays can
//! make the log longer. Not done here: deciding what is durable. SQLite syncs the log before it copies, and the
//! file before it begins the log anew, whoever copies.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::Connection;

use crate::error::Outcome;
use crate::{schema, sql};

/// Bytes of a page, which is SQLite's default.
const PAGE_BYTES: u64 = 4096;
/// Times a log is copied on at most before the writer is asked to end it.
const PASSES: usize = 4;
/// Pages left at which copying on gains nothing: some two milliseconds of the writer's time.
const LEFT_FEW: i64 = 256;
/// Most pages that are left to the writer.
const LEFT_MOST: i64 = 2_048;
/// Times of its set length at which the writer waits: the disk takes what is copied more slowly than positions
/// come, and must not fill.
const TOO_LONG: i64 = 4;
/// Part of the set length that is waited for when a log was copied and not begun anew, because somebody
/// was reading from it at that moment.
const AGAIN: i64 = 16;

/// The write-ahead log as one connection sees it.
#[derive(Debug, Clone, Copy)]
struct Log {
    /// Pages in it, since it was begun; each commit adds some.
    pages: i64,
    /// The first so many are in the file.
    copied: i64,
}

impl Log {
    /// Only looks.
    fn look(on: &Connection) -> Outcome<Self> {
        Self::ask(on, sql::LOOK_AT_LOG)
    }

    /// Copies what no reader needs as it was.
    fn copy(on: &Connection) -> Outcome<Self> {
        Self::ask(on, sql::COPY_LOG)
    }

    fn ask(on: &Connection, sql: &str) -> Outcome<Self> {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Self {
                pages: row.get(1)?,
                copied: row.get(2)?,
            })
        };
        Ok(on.prepare_cached(sql)?.query_row([], read)?)
    }

    fn left(self) -> i64 {
        self.pages - self.copied
    }
}

/// The writer's side: says when to copy, and ends what was begun.
pub(crate) struct Checkpoints {
    copier: Copier,
    /// Pages a log should have at most.
    length: i64,
    /// Pages at which the next copy begins.
    begin_at: i64,
    /// Pages seen last; fewer mean that the log was begun anew.
    seen: i64,
    /// Whether the thread was told to copy, and the writer has not ended it.
    begun: bool,
}

impl Checkpoints {
    /// Starts the thread.
    pub(crate) fn start(path: &Path, log_bytes: u64) -> Outcome<Self> {
        let length = i64::try_from(log_bytes / PAGE_BYTES).unwrap_or(i64::MAX);
        let length = length.clamp(1, i64::MAX / TOO_LONG);
        Ok(Self {
            copier: Copier::start(schema::open_copier(path)?)?,
            length,
            begin_at: length,
            seen: 0,
            begun: false,
        })
    }

    /// Does what is due between two transactions of the writer.
    ///
    /// A failure costs nothing but length: the log keeps everything that is not in the file, and it is tried
    /// again when the log has grown some more.
    pub(crate) fn between_transactions(&mut self, writer: &Connection) {
        if let Err(failure) = self.step(writer) {
            self.begin_at = self.seen.saturating_add(self.length);
            let error = failure.during("checkpoint");
            tracing::warn!(
                error = %error.source,
                "the write-ahead log could not be copied into the store's file; it grows"
            );
        }
    }

    fn step(&mut self, writer: &Connection) -> Outcome<()> {
        let log = Log::look(writer)?;
        if log.pages < self.seen {
            self.begin_at = self.length;
        }
        self.seen = log.pages;
        let is_too_long = log.pages >= self.length * TOO_LONG;
        if self.begun && !self.copier.is_done(is_too_long) {
            return Ok(());
        }
        let was_begun = std::mem::take(&mut self.begun);
        if log.pages < self.begin_at {
            return Ok(());
        }
        if was_begun && (is_too_long || log.left() <= LEFT_MOST) {
            return self.end(writer);
        }
        self.copier.begin();
        self.begun = true;
        Ok(())
    }

    fn end(&mut self, writer: &Connection) -> Outcome<()> {
        let began = Instant::now();
        let log = Log::copy(writer)?;
        // With all of it copied the next transaction begins the log anew, unless somebody reads from it just then;
        // with some left, somebody has been reading for long.
        let wait = if log.left() == 0 {
            self.length / AGAIN
        } else {
            self.length
        };
        self.begin_at = log.pages.saturating_add(wait);
        tracing::debug!(
            pages = log.pages,
            left = log.left(),
            elapsed_us = began.elapsed().as_micros(),
            "copied the end of the write-ahead log"
        );
        Ok(())
    }
}

/// The thread that copies when it is told to.
struct Copier {
    orders: Option<SyncSender<()>>,
    /// Answers once to each order.
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Copier {
    fn start(connection: Connection) -> Outcome<Self> {
        let (orders, queue) = sync_channel(1);
        let (answers, done) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("store-copier".to_owned())
            .spawn(move || serve(&connection, &queue, &answers))?;
        Ok(Self {
            orders: Some(orders),
            done,
            thread: Some(thread),
        })
    }

    /// Has the log copied; must not be called again before that is done.
    fn begin(&self) {
        let sent = self.orders.as_ref().map(|orders| orders.try_send(()));
        debug_assert_eq!(sent, Some(Ok(())), "one order at a time");
    }

    /// Tells, once for each order, that it is done; waits for that when told to.
    fn is_done(&self, wait: bool) -> bool {
        if wait {
            self.done.recv().is_ok()
        } else {
            self.done.try_recv().is_ok()
        }
    }
}

impl Drop for Copier {
    /// Waits for the thread, so that its connection is closed when this returns.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that copies the write-ahead log panicked");
        }
    }
}

fn serve(connection: &Connection, orders: &Receiver<()>, answers: &SyncSender<()>) {
    while orders.recv().is_ok() {
        let began = Instant::now();
        match copy_on(connection) {
            Ok(log) => tracing::debug!(
                pages = log.pages,
                left = log.left(),
                elapsed_us = began.elapsed().as_micros(),
                "copied the write-ahead log"
            ),
            Err(failure) => {
                let error = failure.during("checkpoint");
                tracing::warn!(
                    error = %error.source,
                    "the write-ahead log could not be copied into the store's file"
                );
            }
        }
        if answers.send(()).is_err() {
            // The writer ended meanwhile.
            return;
        }
    }
}

/// Copies, and again what came meanwhile, until little is left or a reader holds it up.
fn copy_on(connection: &Connection) -> Outcome<Log> {
    let mut before = Log::look(connection)?;
    for _ in 0..PASSES {
        Log::copy(connection)?;
        let now = Log::look(connection)?;
        let is_held_up = now.copied <= before.copied;
        before = now;
        if is_held_up || now.left() <= LEFT_FEW {
            break;
        }
    }
    Ok(before)
}
