//! QoS 2 on a connection: what the client publishes, and what it answers.
//!
//! Invariants: a packet id is unreleased from the PUBLISH that was taken to the PUBREL, and a PUBLISH with it is
//! answered and not taken again; with a persistent session both ends of that are durable before PUBREC and PUBCOMP
//! leave, see [`session_state`]. Changes of one turn of the connection go to the journal together, and all that is
//! written behind the first answer that depends on them waits for them.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::ops::Range;

use ingest_log::Commit;
use session_state::{Change, Client, Store};

use crate::session::window::Origin;

/// The packet ids of a client that it has not released.
#[derive(Debug, Default)]
pub(super) struct Unreleased {
    /// With the record each was taken in; `None` until the log has accepted it, and in sessions that end with the
    /// connection.
    ids: HashMap<NonZeroU16, Option<u64>>,
    /// Whether they outlive the connection.
    durable: bool,
}

impl Unreleased {
    /// Begins with what is known of a client, or with nothing when its session ends with the connection.
    pub(super) fn new(durable: bool, client: Option<&Client>) -> Self {
        let incoming = client.into_iter().flat_map(|client| &client.incoming);
        let open = incoming.filter(|(_, incoming)| durable && !incoming.released);
        Self {
            ids: open.map(|(&id, open)| (id, Some(open.seq))).collect(),
            durable,
        }
    }

    /// Tells whether they outlive the connection.
    pub(super) fn is_durable(&self) -> bool {
        self.durable
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Takes the id of a PUBLISH; `false` when it was taken before.
    pub(super) fn take(&mut self, id: NonZeroU16) -> bool {
        let is_new = !self.ids.contains_key(&id);
        self.ids.entry(id).or_default();
        is_new
    }

    /// Notes in which records messages were accepted; they are named by their places in the batch.
    pub(super) fn accepted(
        &mut self,
        taken: &[(u64, NonZeroU16)],
        seqs: &Range<u64>,
    ) -> Vec<(NonZeroU16, u64)> {
        let accepted: Vec<_> = taken
            .iter()
            .map(|(place, id)| (*id, seqs.start + place))
            .collect();
        for (id, seq) in &accepted {
            self.ids.insert(*id, Some(*seq));
        }
        accepted
    }

    /// Takes a PUBREL: the id is free. Tells whether it was known, and the change to be made durable before the
    /// PUBCOMP if the session outlives the connection.
    pub(super) fn release(&mut self, id: NonZeroU16) -> (bool, Option<Change>) {
        let Some(seq) = self.ids.remove(&id) else {
            return (false, None);
        };
        let seq = seq.filter(|_| self.durable);
        (true, seq.map(|seq| Change::Released { id, seq }))
    }
}

/// Bytes that may not leave before a commit.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Where they begin, counted from the connection's first byte.
    pub(crate) at: usize,
    pub(crate) commit: Commit,
    /// What counts as acknowledged once it is durable.
    pub(crate) received: Vec<Origin>,
}

/// The changes of one turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) changes: Vec<Change>,
    /// Where the bytes begin that depend on them, as in [`Gate::at`].
    pub(crate) gate: Option<usize>,
    pub(crate) received: Vec<Origin>,
}

impl Turn {
    /// Hands the changes to the journal; returns the gate for what depends on them.
    ///
    /// # Errors
    /// As [`Store::change`].
    pub(super) fn end(
        self,
        store: &Store,
        client_id: &str,
    ) -> Result<Option<Gate>, session_state::Error> {
        if self.changes.is_empty() && self.gate.is_none() {
            return Ok(None);
        }
        let commit = store.change(client_id, &self.changes)?;
        Ok(self.gate.map(|at| Gate {
            at,
            commit,
            received: self.received,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u16) -> NonZeroU16 {
        NonZeroU16::new(id).unwrap()
    }

    #[test]
    fn an_id_is_taken_once_until_it_is_released() {
        let mut unreleased = Unreleased::new(true, None);
        assert!(unreleased.take(id(5)) && !unreleased.take(id(5)));
        assert_eq!(unreleased.release(id(6)), (false, None));
        let accepted = unreleased.accepted(&[(2, id(5))], &(10..14));
        assert_eq!(accepted, [(id(5), 12)]);
        assert!(!unreleased.take(id(5)), "sent again, not taken again");
        let released = Change::Released { id: id(5), seq: 12 };
        assert_eq!(unreleased.release(id(5)), (true, Some(released)));
        assert!(unreleased.take(id(5)));
    }

    #[test]
    fn a_session_that_ends_with_its_connection_writes_nothing() {
        let mut unreleased = Unreleased::new(false, None);
        assert!(unreleased.take(id(5)));
        unreleased.accepted(&[(0, id(5))], &(10..11));
        assert_eq!(unreleased.release(id(5)), (true, None));
        assert_eq!(unreleased.release(id(5)), (false, None));
    }
}
