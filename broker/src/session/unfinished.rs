//! What clients had on its way with QoS 1 when their connections ended.
//!
//! It goes again with the packet ids it had [MQTT-4.4.0-1], and what was acknowledged out of order does not go again.
//! In memory only: for QoS 1 nothing is noted in the journal, so after a restart of the broker ids are new ones, and
//! what lies above the session's place goes again whether it was acknowledged or not.
//!
//! Bounded by the sessions, each with at most what a window spans.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What one client had on its way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Without PUBACK: packet ids and records.
    pub(crate) sent: Vec<(NonZeroU16, u64)>,
    /// Records above the session's place that are done with.
    pub(crate) done: Vec<u64>,
}

/// What clients that are away had on its way.
#[derive(Debug, Default)]
pub(crate) struct Unfinished(Mutex<HashMap<Arc<str>, Left>>);

impl Unfinished {
    /// Keeps what a client leaves.
    pub(crate) fn keep(&self, client_id: &Arc<str>, left: Left) {
        if left != Left::default() {
            self.lock().insert(Arc::clone(client_id), left);
        }
    }

    /// Returns what a client left, and forgets it.
    pub(crate) fn take(&self, client_id: &str) -> Left {
        self.lock().remove(client_id).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Left>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
