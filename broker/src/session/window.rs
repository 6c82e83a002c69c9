//! QoS 1 messages that are on their way to one subscriber.
//!
//! Packet ids are given out in a circle, so a message's place in the queue follows from its id. Invariants: no
//! id is given out twice while it is in the queue; the queue is never longer than its limit; its first entry is
//! not acknowledged.

use std::collections::VecDeque;
use std::num::NonZeroU16;

/// The queue. Acknowledgements may come in any order.
#[derive(Debug)]
pub(crate) struct Window {
    limit: usize,
    queue: VecDeque<InFlight>,
    /// Id of the first entry, or of the next one when there is none.
    first_id: u16,
}

#[derive(Debug)]
struct InFlight {
    /// Its place in the log; `None` for what did not come from there.
    seq: Option<u64>,
    acknowledged: bool,
}

/// Number of packet ids.
const IDS: usize = 65_535;

impl Window {
    /// Makes an empty window; `limit` is below the number of packet ids.
    pub(crate) fn new(limit: usize) -> Self {
        debug_assert!((1..IDS).contains(&limit), "ids must not meet in the circle");
        Self {
            limit,
            queue: VecDeque::new(),
            first_id: 1,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() >= self.limit
    }

    /// Adds a message and returns its packet id; `None` when the window is full.
    pub(crate) fn push(&mut self, seq: Option<u64>) -> Option<u16> {
        if self.is_full() {
            return None;
        }
        let id = plus(self.first_id, self.queue.len());
        self.queue.push_back(InFlight {
            seq,
            acknowledged: false,
        });
        Some(id)
    }

    /// Takes an acknowledgement; `false` when nothing waits for it.
    pub(crate) fn acknowledge(&mut self, id: NonZeroU16) -> bool {
        let place = distance(self.first_id, id.get());
        match self.queue.get_mut(place) {
            Some(entry) if !entry.acknowledged => entry.acknowledged = true,
            _ => return false,
        }
        while self.queue.front().is_some_and(|entry| entry.acknowledged) {
            self.queue.pop_front();
            self.first_id = plus(self.first_id, 1);
        }
        true
    }

    /// Returns the lowest place in the log that is not acknowledged.
    pub(crate) fn lowest(&self) -> Option<u64> {
        let mut open = self.queue.iter().filter(|entry| !entry.acknowledged);
        open.find_map(|entry| entry.seq)
    }
}

/// Returns the id `steps` after `id`; zero is left out.
fn plus(id: u16, steps: usize) -> u16 {
    let place = (usize::from(id) - 1 + steps) % IDS;
    u16::try_from(place + 1).expect("a place in the circle is below 65,535")
}

/// Returns how many steps lead from one id to the other.
fn distance(from: u16, to: u16) -> usize {
    (usize::from(to) + IDS - usize::from(from)) % IDS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map from id to place, over several rounds of the circle.
        #[test]
        fn the_window_agrees_with_a_map(
            limit in 1_usize..9,
            start in prop_oneof![Just(1_u16), 65_530_u16..],
            steps in proptest::collection::vec((any::<bool>(), 0_usize..10), 1..200),
        ) {
            let mut window = Window::new(limit);
            window.first_id = start;
            let (mut model, mut seq) = (BTreeMap::<u16, u64>::new(), 100);
            for (send, which) in steps {
                if send {
                    if let Some(id) = window.push(Some(seq)) {
                        prop_assert!(id > 0);
                        prop_assert_eq!(model.insert(id, seq), None);
                        seq += 1;
                    } else {
                        prop_assert!(window.is_full());
                    }
                } else if let Some(id) = model.keys().copied().nth(which) {
                    model.remove(&id);
                    let id = NonZeroU16::new(id).unwrap();
                    prop_assert!(window.acknowledge(id));
                    prop_assert!(!window.acknowledge(id));
                }
                prop_assert!(window.queue.len() <= limit);
                prop_assert_eq!(window.lowest(), model.values().copied().min());
            }
        }

        #[test]
        fn unknown_ids_are_told_apart(id in 2_u16..) {
            let mut window = Window::new(10);
            window.push(None);
            prop_assert!(!window.acknowledge(NonZeroU16::new(id).unwrap()));
        }
    }
}
