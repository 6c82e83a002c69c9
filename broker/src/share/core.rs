//! Who has which record of a group: the group's bookkeeping, without log, sockets or time.
//!
//! Every record is in one of four states: not looked at (at or above the position), held by exactly one
//! connected member, returned by a member that left, or done with. Invariants: the place is never above a
//! record that is not done with, and only rises; a returned record comes before any that was not looked at.
//!
//! Memory: records are looked at only while none is returned, so those held and returned are together never
//! more than the windows of the connected members could hold at once.

use std::collections::{BTreeSet, HashMap};

use crate::session::ledger::Ledger;

/// The bookkeeping of one group.
#[derive(Debug)]
pub(super) struct Core {
    /// First record not looked at.
    position: u64,
    /// What lies below may have been sent before this process began.
    unsent: u64,
    /// Records that members left without having acknowledged them.
    returned: BTreeSet<u64>,
    members: HashMap<u64, Holding>,
    next_member: u64,
    /// The lowest record that was not done with when this was last asked.
    place: u64,
    /// Whether the place may have risen since.
    place_is_old: bool,
}

/// What one connected member was sent and has not acknowledged.
#[derive(Debug, Default)]
struct Holding {
    fresh: Ledger,
    /// What it took over from members that left. Few, and lower than what it got before.
    taken_over: BTreeSet<u64>,
}

impl Holding {
    fn lowest(&self) -> Option<u64> {
        let taken_over = self.taken_over.first().copied();
        let fresh = self.fresh.lowest();
        taken_over.into_iter().chain(fresh).min()
    }
}

impl Core {
    /// Begins at `place`; what lies below `unsent` may have been sent before.
    pub(super) fn new(place: u64, unsent: u64) -> Self {
        Self {
            position: place,
            unsent,
            returned: BTreeSet::new(),
            members: HashMap::new(),
            next_member: 0,
            place,
            place_is_old: false,
        }
    }

    /// Returns the first record not looked at.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the first record that certainly was never sent.
    pub(super) fn unsent(&self) -> u64 {
        self.unsent.max(self.position)
    }

    /// Tells whether a record that is looked at now may have been sent before.
    pub(super) fn may_be_repeated(&self, seq: u64) -> bool {
        seq < self.unsent
    }

    /// Adds a connected member and returns its number.
    pub(super) fn join(&mut self) -> u64 {
        self.next_member += 1;
        self.members.insert(self.next_member, Holding::default());
        self.next_member
    }

    /// Removes a connected member; tells whether it leaves records for the others.
    pub(super) fn leave(&mut self, member: u64) -> bool {
        let Some(left) = self.members.remove(&member) else {
            return false;
        };
        if sabotage::leaves_nothing() {
            self.place_is_old = true;
            return false;
        }
        self.returned.extend(left.fresh.open());
        self.returned.extend(left.taken_over);
        !self.returned.is_empty()
    }

    /// Returns the lowest record that a member left: it is to be sent next.
    pub(super) fn first_returned(&self) -> Option<u64> {
        self.returned.first().copied()
    }

    /// Notes that a returned record was sent to a member, which holds it if it is to acknowledge it.
    pub(super) fn take_returned(&mut self, member: u64, seq: u64, holds: bool) {
        let was_there = self.returned.remove(&seq);
        debug_assert!(was_there, "only what was returned is taken over");
        match self.members.get_mut(&member) {
            Some(holding) if holds => {
                holding.taken_over.insert(seq);
            }
            _ => self.place_is_old = true,
        }
    }

    /// Notes that a record was looked at and is done with: nobody is to acknowledge it.
    pub(super) fn pass(&mut self, seq: u64) {
        debug_assert!(seq >= self.position, "records are looked at once");
        self.position = seq + 1;
        self.place_is_old = true;
    }

    /// Notes that a record was looked at and sent to a member, which is to acknowledge it.
    pub(super) fn hold(&mut self, member: u64, seq: u64) {
        self.pass(seq);
        if let Some(holding) = self.members.get_mut(&member) {
            holding.fresh.push(seq);
        }
    }

    /// Takes acknowledgements; returns how many records are done with by them.
    pub(super) fn acknowledge(
        &mut self,
        member: u64,
        seqs: impl IntoIterator<Item = u64>,
    ) -> usize {
        let Some(holding) = self.members.get_mut(&member) else {
            return 0;
        };
        let mut done = 0;
        for seq in seqs {
            if holding.fresh.acknowledge(seq) || holding.taken_over.remove(&seq) {
                done += 1;
                self.place_is_old |= seq == self.place;
            }
        }
        done
    }

    /// Returns the lowest record that is not done with.
    pub(super) fn place(&mut self) -> u64 {
        if self.place_is_old {
            let held = self.members.values().filter_map(Holding::lowest).min();
            let returned = self.first_returned();
            let open = held.into_iter().chain(returned).min();
            let place = open.unwrap_or(self.position);
            debug_assert!(place >= self.place, "the place only rises");
            self.place = place;
            self.place_is_old = false;
        }
        self.place
    }
}

/// Lets the negative control of the tests lose what a member leaves; nothing outside tests can.
mod sabotage {
    #[cfg(test)]
    thread_local! {
        pub(super) static LEAVES_NOTHING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    #[cfg(test)]
    pub(super) fn leaves_nothing() -> bool {
        LEAVES_NOTHING.get()
    }

    #[cfg(not(test))]
    pub(super) const fn leaves_nothing() -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
