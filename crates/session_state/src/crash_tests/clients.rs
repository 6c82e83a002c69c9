//! What the clients remember, through all crashes, and what is counted at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

/// A publisher with QoS 2: its messages are numbers.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    /// Without PUBREC, in the order of publishing.
    pub(super) unreceived: BTreeMap<u64, NonZeroU16>,
    /// With PUBREC and without PUBCOMP.
    pub(super) unreleased: BTreeSet<NonZeroU16>,
}

impl Publisher {
    /// Returns a free packet id of the few there are.
    pub(super) fn free_id(&self) -> Option<NonZeroU16> {
        let mut ids = (1..=4).filter_map(NonZeroU16::new);
        ids.find(|id| {
            !self.unreleased.contains(id) && !self.unreceived.values().any(|used| used == id)
        })
    }

    pub(super) fn on_pubrec(&mut self, id: NonZeroU16) -> Option<u64> {
        let number = *self.unreceived.iter().find(|(_, used)| **used == id)?.0;
        self.unreceived.remove(&number);
        self.unreleased.insert(id);
        Some(number)
    }

    pub(super) fn on_pubcomp(&mut self, id: NonZeroU16) {
        self.unreleased.remove(&id);
    }

    pub(super) fn is_done(&self) -> bool {
        self.unreceived.is_empty() && self.unreleased.is_empty()
    }
}

/// A subscriber with QoS 2, and what was counted.
#[derive(Debug, Default)]
pub(super) struct Subscriber {
    /// Ids of messages it has and whose PUBREL has not come.
    pub(super) held: BTreeSet<NonZeroU16>,
    /// How often each message was given to the application.
    pub(super) delivered: BTreeMap<u64, u32>,
    /// Messages it did not want.
    pub(super) refused: BTreeSet<u64>,
    /// What the held ids stand for.
    numbers: BTreeMap<NonZeroU16, u64>,
}

impl Subscriber {
    pub(super) fn on_publish(&mut self, id: NonZeroU16, number: u64) {
        if self.held.insert(id) {
            *self.delivered.entry(number).or_default() += 1;
            self.numbers.insert(id, number);
        }
    }

    /// Says with the PUBREC that it does not want a message: it did not have it then.
    pub(super) fn refuse(&mut self, id: NonZeroU16) {
        self.held.remove(&id);
        if let Some(number) = self.numbers.remove(&id) {
            self.refused.insert(number);
            *self.delivered.entry(number).or_default() -= 1;
        }
    }

    pub(super) fn on_pubrel(&mut self, id: NonZeroU16) {
        self.held.remove(&id);
    }
}

/// Everything that outlives the broker.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) publishers: [Publisher; 2],
    pub(super) subscriber: Subscriber,
    /// The members of a group, and the client that gets what is retained.
    pub(super) others: [Subscriber; 3],
    /// What was retained when all had come to its end.
    pub(super) last_retained: Vec<u64>,
    pub(super) next_number: u64,
    /// How many PUBREC were made.
    pub(super) answers: u64,
    /// Messages whose PUBREC came.
    pub(super) acknowledged: BTreeSet<u64>,
    /// Retained messages by topic: what was acknowledged last, and what was published since.
    pub(super) retained: BTreeMap<u64, (Option<u64>, Vec<u64>)>,
}
