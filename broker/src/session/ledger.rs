//! What is on its way to one client from one place of reading: sequences in ascending order, each acknowledged
//! or not.
//!
//! Invariant: the first entry is not acknowledged, so it is the lowest that is not. Acknowledgements in order
//! cost O(1); others O(log n). Bounded by whoever adds, by [`Ledger::len`].

use std::collections::VecDeque;

/// The sequences.
#[derive(Debug, Default)]
pub(crate) struct Ledger(VecDeque<Entry>);

#[derive(Debug, Clone, Copy)]
struct Entry {
    seq: u64,
    acknowledged: bool,
}

impl Ledger {
    /// Adds a sequence above all others.
    pub(crate) fn push(&mut self, seq: u64) {
        debug_assert!(
            self.0.back().is_none_or(|last| last.seq < seq),
            "sequences ascend"
        );
        self.0.push_back(Entry {
            seq,
            acknowledged: false,
        });
    }

    /// Takes an acknowledgement; `false` when nothing waits for it.
    pub(crate) fn acknowledge(&mut self, seq: u64) -> bool {
        match self.0.front() {
            Some(first) if first.seq == seq => {
                self.0.pop_front();
                while self.0.front().is_some_and(|entry| entry.acknowledged) {
                    self.0.pop_front();
                }
                true
            }
            _ => match self.0.binary_search_by_key(&seq, |entry| entry.seq) {
                Ok(place) => !std::mem::replace(&mut self.0[place].acknowledged, true),
                Err(_) => false,
            },
        }
    }

    /// Returns how many there are from the lowest that is not acknowledged on.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the lowest sequence that is not acknowledged.
    pub(crate) fn lowest(&self) -> Option<u64> {
        self.0.front().map(|entry| entry.seq)
    }

    /// Iterates over what was acknowledged before something lower, in ascending order.
    pub(crate) fn done(&self) -> impl Iterator<Item = u64> + '_ {
        let done = self.0.iter().filter(|entry| entry.acknowledged);
        done.map(|entry| entry.seq)
    }

    /// Iterates over what is not acknowledged, in ascending order.
    pub(crate) fn open(&self) -> impl Iterator<Item = u64> + '_ {
        let open = self.0.iter().filter(|entry| !entry.acknowledged);
        open.map(|entry| entry.seq)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_ledger_agrees_with_a_set(
            steps in proptest::collection::vec((any::<bool>(), 0_usize..20, 1_u64..4), 1..200),
        ) {
            let (mut ledger, mut model, mut seq) = (Ledger::default(), BTreeSet::new(), 0);
            for (push, which, step) in steps {
                if push {
                    seq += step;
                    ledger.push(seq);
                    model.insert(seq);
                } else if let Some(open) = model.iter().copied().nth(which) {
                    model.remove(&open);
                    prop_assert!(ledger.acknowledge(open));
                    prop_assert!(!ledger.acknowledge(open));
                }
                prop_assert!(!ledger.acknowledge(seq + 1));
                prop_assert_eq!(ledger.lowest(), model.first().copied());
                prop_assert!(ledger.open().eq(model.iter().copied()));
            }
        }
    }
}
