//! QoS 1 messages that are on their way to one subscriber, and whose they are.
//!
//! Packet ids are given out in a circle, so a message's place in the queue follows from its id. Invariants: no
//! id is given out twice while it is in the queue; the queue is never longer than its limit; its first entry is
//! not acknowledged.
//!
//! A connection has one window for all it is sent. Which record an acknowledgement completes, and for whom, is
//! in the entry's [`Origin`]; what follows from it is up to that one.

use std::collections::VecDeque;
use std::num::NonZeroU16;

/// Where a message came from, and so who is to know of its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Memory: retained messages and the live copy. Nobody is.
    Memory,
    /// The session's own subscriptions.
    Session { seq: u64 },
    /// A shared subscription of this connection, by its number.
    Share { number: u32, seq: u64 },
}

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
    origin: Origin,
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
    pub(crate) fn push(&mut self, origin: Origin) -> Option<u16> {
        if self.is_full() {
            return None;
        }
        let id = plus(self.first_id, self.queue.len());
        self.queue.push_back(InFlight {
            origin,
            acknowledged: false,
        });
        Some(id)
    }

    /// Takes an acknowledgement and returns whose it is; `None` when nothing waits for it.
    pub(crate) fn acknowledge(&mut self, id: NonZeroU16) -> Option<Origin> {
        let place = distance(self.first_id, id.get());
        let entry = self.queue.get_mut(place).filter(|e| !e.acknowledged)?;
        entry.acknowledged = true;
        let origin = entry.origin;
        while self.queue.front().is_some_and(|entry| entry.acknowledged) {
            self.queue.pop_front();
            self.first_id = plus(self.first_id, 1);
        }
        Some(origin)
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
        /// Against a map from id to origin, over several rounds of the circle.
        #[test]
        fn the_window_agrees_with_a_map(
            limit in 1_usize..9,
            start in prop_oneof![Just(1_u16), 65_530_u16..],
            steps in proptest::collection::vec((any::<bool>(), 0_usize..10, 0_u32..3), 1..200),
        ) {
            let mut window = Window::new(limit);
            window.first_id = start;
            let (mut model, mut seq) = (BTreeMap::<u16, Origin>::new(), 100);
            for (send, which, number) in steps {
                if send {
                    let origin = match number {
                        0 => Origin::Session { seq },
                        number => Origin::Share { number, seq },
                    };
                    if let Some(id) = window.push(origin) {
                        prop_assert!(id > 0);
                        prop_assert_eq!(model.insert(id, origin), None);
                        seq += 1;
                    } else {
                        prop_assert!(window.is_full());
                    }
                } else if let Some(id) = model.keys().copied().nth(which) {
                    let origin = model.remove(&id);
                    let id = NonZeroU16::new(id).unwrap();
                    prop_assert_eq!(window.acknowledge(id), origin);
                    prop_assert_eq!(window.acknowledge(id), None);
                }
                prop_assert!(window.queue.len() <= limit);
            }
        }

        #[test]
        fn unknown_ids_are_told_apart(id in 2_u16..) {
            let mut window = Window::new(10);
            window.push(Origin::Memory);
            prop_assert_eq!(window.acknowledge(NonZeroU16::new(id).unwrap()), None);
        }
    }
}
