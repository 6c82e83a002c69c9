//! Who has which record of a group: the group's bookkeeping, without log, sockets or time.
//!
//! Every record is in one of five states: not looked at (at or above the position), held by exactly one
//! connected member, returned by a member that left, bound to one client, or done with. What was sent with QoS 2
//! to a client whose session outlives its connection is bound to it, connected or not, until it has it or its session
//! ends [MQTT-4.8.2-4, MQTT-4.8.2-5]. Invariants: the place is never above a record that is not done with, and only
//! rises; a returned record comes before any that was not looked at; what was bound or done with when the process
//! before ended is looked at and given to nobody.
//!
//! Memory: records are looked at only while none is returned, so those held and returned are together never
//! more than the windows of the connected members could hold at once; bound ones are bounded by the windows of their
//! clients.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::sabotage::{Step, leaves_out};
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
    /// Whose it is what was sent with QoS 2 and is not received.
    bound: BTreeMap<u64, Arc<str>>,
    /// Records not looked at that are bound, or done with.
    settled: BTreeSet<u64>,
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
            bound: BTreeMap::new(),
            settled: BTreeSet::new(),
            place,
            place_is_old: false,
        }
    }

    /// Takes up what was bound and what was done with above the place when the process before ended.
    pub(super) fn restore(
        &mut self,
        bound: BTreeMap<u64, Arc<str>>,
        done: impl IntoIterator<Item = u64>,
    ) {
        debug_assert!(self.bound.is_empty(), "restored first");
        if leaves_out(Step::Bound) {
            return;
        }
        self.settled = bound.keys().copied().chain(done).collect();
        self.settled = self.settled.split_off(&self.position);
        self.bound = bound;
        self.bound = self.bound.split_off(&self.position);
        self.place_is_old = true;
    }

    /// Tells whether anything is bound to a client.
    pub(super) fn has_bound(&self) -> bool {
        !self.bound.is_empty()
    }

    /// Binds a record that was looked at last, or returned, to a client.
    pub(super) fn bind(&mut self, seq: u64, client_id: &Arc<str>) {
        debug_assert!(seq < self.position, "it was looked at");
        self.bound.insert(seq, Arc::clone(client_id));
        self.place_is_old = true;
    }

    /// Notes that a client has a record that was bound to it; tells whether it was.
    pub(super) fn unbind(&mut self, seq: u64, client_id: &str) -> bool {
        let is_its = self.is_bound(seq, client_id);
        if is_its {
            self.bound.remove(&seq);
            self.place_is_old = true;
        }
        is_its
    }

    /// Tells whether a record is bound to a client.
    pub(super) fn is_bound(&self, seq: u64, client_id: &str) -> bool {
        self.bound.get(&seq).is_some_and(|of| **of == *client_id)
    }

    /// Returns what is bound to a client.
    pub(super) fn bound_to(&self, client_id: &str) -> Vec<u64> {
        let bound = self.bound.iter().filter(|(_, of)| ***of == *client_id);
        bound.map(|(seq, _)| *seq).collect()
    }

    /// Returns a record that was bound to a client and never left for it.
    pub(super) fn give_back(&mut self, seq: u64) {
        if self.bound.remove(&seq).is_some() {
            self.returned.insert(seq);
        }
    }

    /// Notes that a client's session has ended: what was bound to it is for nobody.
    pub(super) fn let_go(&mut self, client_id: &str) {
        self.bound.retain(|_, of| **of != *client_id);
        self.place_is_old = true;
    }

    /// Tells whether a record that is not looked at is bound or done with; it is looked at then.
    pub(super) fn pass_settled(&mut self, seq: u64) -> bool {
        let is_settled = self.settled.remove(&seq);
        if is_settled {
            self.pass(seq);
        }
        is_settled
    }

    /// Leaves out everything below `seq` that is not bound: nobody is a member who could have it.
    pub(super) fn leap(&mut self, seq: u64) {
        debug_assert!(self.members.is_empty(), "nobody is there");
        self.returned.clear();
        self.position = self.position.max(seq);
        self.settled = self.settled.split_off(&self.position);
        self.place_is_old = true;
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

    /// Returns the number of connected members.
    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// Removes a connected member; tells whether it leaves records for the others.
    pub(super) fn leave(&mut self, member: u64) -> bool {
        let Some(left) = self.members.remove(&member) else {
            return false;
        };
        if leaves_out(Step::Legacy) {
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
            let bound = self.bound.keys().next().copied();
            let open = held.into_iter().chain(returned).chain(bound).min();
            // What was bound before a restart may not have been looked at again.
            let place = open.map_or(self.position, |open| open.min(self.position));
            debug_assert!(place >= self.place, "the place only rises");
            self.place = place;
            self.place_is_old = false;
        }
        self.place
    }
}

#[cfg(test)]
mod tests;
