//! The ledger: one line of JSON for each acknowledged message, written after its PUBACK.
//!
//! `verify` later asks the API for every line. A line that is missing because the process was killed
//! weakens the check, it never makes it wrong: what is in the ledger was acknowledged.
//!
//! Each thread collects lines and appends them in one write, so lines never mix.

mod entry;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use entry::{Entry, EventEntry, PositionEntry};

use crate::message::Message;

/// Lines are written when they reach this, or at the next regular flush.
const CHUNK_BYTES: usize = 64 * 1024;

/// The file all threads append to.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    failure: Option<io::Error>,
}

/// The ledger could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the ledger {} cannot be written", path.display())]
pub(crate) struct LedgerError {
    path: PathBuf,
    source: io::Error,
}

impl Ledger {
    /// Begins a ledger; an older file of that name is emptied.
    pub(crate) fn create(path: &Path) -> Result<Self, LedgerError> {
        let file = File::create(path).map_err(|source| LedgerError {
            path: path.to_owned(),
            source,
        })?;
        let state = Mutex::new(State {
            file,
            failure: None,
        });
        Ok(Self {
            path: path.to_owned(),
            state,
        })
    }

    fn append(&self, lines: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.failure.is_some() {
            return;
        }
        if let Err(error) = state.file.write_all(lines) {
            tracing::error!(path = %self.path.display(), %error, "the ledger cannot be written");
            state.failure = Some(error);
        }
    }

    /// Ends the ledger: all of it is on disk, or the error that kept it from there.
    pub(crate) fn finish(&self) -> Result<(), LedgerError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = state
            .failure
            .take()
            .map_or_else(|| state.file.sync_data(), Err);
        outcome.map_err(|source| LedgerError {
            path: self.path.clone(),
            source,
        })
    }
}

/// One thread's lines on their way to the ledger; does nothing when there is none.
#[derive(Debug)]
pub(crate) struct LedgerBuffer {
    ledger: Option<Arc<Ledger>>,
    lines: Vec<u8>,
}

impl LedgerBuffer {
    pub(crate) fn new(ledger: Option<Arc<Ledger>>) -> Self {
        Self {
            ledger,
            lines: Vec::new(),
        }
    }

    /// Notes that `message` was acknowledged.
    pub(crate) fn acked(&mut self, message: &Message) {
        if self.ledger.is_some() {
            message.write_ledger_line(&mut self.lines);
            if self.lines.len() >= CHUNK_BYTES {
                self.flush();
            }
        }
    }

    /// Hands the lines to the file.
    pub(crate) fn flush(&mut self) {
        if let Some(ledger) = &self.ledger
            && !self.lines.is_empty()
        {
            ledger.append(&self.lines);
            self.lines.clear();
        }
    }
}
