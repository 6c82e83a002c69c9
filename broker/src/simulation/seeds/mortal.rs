//! Clients with wills: what must come of each, and what must not.
//!
//! A will is numbered by its connection. It must come when the connection was accepted and ended without a DISCONNECT,
//! unless the client was back before the will's delay was over. It must not come when the broker has closed the
//! connection on a DISCONNECT, nor when the client was back in time.

use std::collections::BTreeMap;

use super::message::Kind;
use crate::simulation::wire::Will;

/// Milliseconds of doubt about when the broker saw something.
const DOUBT_MS: u64 = 300;

#[derive(Debug, Default)]
pub(super) struct Mortal {
    pub(super) index: usize,
    /// Seconds its wills wait.
    pub(super) delay: u32,
    pub(super) lives: Vec<Life>,
}

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Life {
    accepted_ms: Option<u64>,
    ended_ms: Option<u64>,
    /// Whether DISCONNECT was said, if only to a wire that broke.
    pub(super) parting: bool,
    /// Whether the broker has closed the connection upon it.
    parted: bool,
}

impl Mortal {
    pub(super) fn new(index: usize, delay: u32) -> Self {
        Self {
            index,
            delay,
            lives: Vec::new(),
        }
    }

    /// Begins a connection, and returns its will.
    pub(super) fn begin(&mut self) -> Will {
        self.lives.push(Life::default());
        let number = self.lives.len() as u64;
        Will {
            topic: Kind::Will.topic(self.index),
            payload: Kind::Will.payload(self.index, number),
            delay: self.delay,
        }
    }

    pub(super) fn accepted(&mut self, now_ms: u64) {
        if let Some(life) = self.lives.last_mut() {
            life.accepted_ms = Some(now_ms);
        }
    }

    pub(super) fn ended(&mut self, now_ms: u64) {
        if let Some(life) = self.lives.last_mut() {
            life.ended_ms.get_or_insert(now_ms);
        }
    }

    /// The broker closed the connection, and all that was said had arrived.
    pub(super) fn closed(&mut self) {
        if let Some(life) = self.lives.last_mut() {
            life.parted = life.parting && life.accepted_ms.is_some();
        }
    }

    /// Returns what is wrong with the wills that came, or that did not.
    pub(super) fn judge(
        &self,
        came: &BTreeMap<(usize, u64), u32>,
        since_ms: u64,
    ) -> (Option<String>, Option<String>) {
        let (mut wrong, mut missing) = (None, None);
        for (at, life) in self.lives.iter().enumerate() {
            let number = at as u64 + 1;
            let has_come = came.contains_key(&(self.index, number));
            let Some(ended_ms) = life.ended_ms else {
                continue;
            };
            let name = || format!("will {number} of n{}, {life:?}", self.index);
            let is_last =
                at + 1 == self.lives.len() && (at == 0 || self.lives[at - 1].accepted_ms.is_some());
            let due_ms = ended_ms + u64::from(self.delay) * 1_000;
            // Only of who came back in the very next connection it is certain that nobody else did before.
            let next_ms = self.lives.get(at + 1).and_then(|next| next.accepted_ms);
            let is_back = self.delay > 0
                && life.accepted_ms.is_some()
                && next_ms.is_some_and(|ms| ms + DOUBT_MS < due_ms);
            if has_come && (life.parted || is_back) {
                wrong.get_or_insert_with(|| format!("{} came", name()));
            }
            let is_due = self.delay == 0 || is_last;
            let must = life.accepted_ms.is_some() && !life.parting && is_due;
            if must && ended_ms > since_ms && !has_come {
                missing.get_or_insert_with(|| format!("{} did not come", name()));
            }
        }
        (wrong, missing)
    }
}
