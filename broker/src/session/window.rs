//! Messages with QoS 1 and 2 that are on their way to one subscriber, and whose they are.
//!
//! Packet ids are given out in a circle, so a message's place in the queue follows from its id. Invariants: no
//! id is given out twice while it is in the queue; no more messages are on their way than the limit; the first entry of
//! the queue is not completed. What an earlier connection of the session left open is not in the queue: when it goes
//! again is up to where its record lies, and others must not wait for that. Its ids are left out of the circle.
//!
//! A connection has one window for all it is sent. Which record an acknowledgement completes, and for whom, is
//! in the entry's [`Origin`]; what follows from it is up to that one.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;

/// Where a message came from, and so who is to know of its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Memory: the live copy, and retained messages of a session that ends with the connection. Nobody is.
    Memory,
    /// A retained message of a session that outlives the connection, by its record.
    Retained { seq: u64 },
    /// The session's own subscriptions.
    Session { seq: u64 },
    /// A shared subscription of this connection, by its number.
    Share { number: u32, seq: u64 },
}

/// What a message waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Puback,
    Pubrec,
    Pubcomp,
    /// To be sent again on this connection before it waits for its PUBREC.
    Again,
    /// To be sent again, or acknowledged, with QoS 1.
    Once,
    Completed,
}

/// The queue. Acknowledgements may come in any order.
#[derive(Debug)]
pub(crate) struct Window {
    limit: usize,
    queue: VecDeque<InFlight>,
    /// Id of the first entry, or of the next one when there is none.
    first_id: u16,
    /// Entries that count against the limit.
    open: usize,
    /// What an earlier connection left open.
    restored: BTreeMap<NonZeroU16, InFlight>,
}

#[derive(Debug)]
struct InFlight {
    origin: Origin,
    stage: Stage,
}

/// What a subscriber says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Puback,
    Pubrec,
    Pubcomp,
}

/// What a PUBREC found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// The first PUBREC for this id.
    New(Origin),
    /// It was there before.
    Repeated,
    /// Nothing waits for it.
    Unknown,
}

/// Number of packet ids.
const IDS: usize = 65_535;
/// Longest queue, so that ids never meet in the circle.
const MAX_QUEUE: usize = 60_000;

impl Window {
    /// Makes an empty window; `limit` is below the number of packet ids.
    pub(crate) fn new(limit: usize) -> Self {
        debug_assert!((1..IDS).contains(&limit), "ids must not meet in the circle");
        Self {
            limit,
            queue: VecDeque::new(),
            first_id: 1,
            open: 0,
            restored: BTreeMap::new(),
        }
    }

    /// Takes up what an earlier connection of the session left open with QoS 2: whose it is, and whether its PUBREC
    /// came. To be called on an empty window.
    pub(crate) fn restore(&mut self, left: &BTreeMap<NonZeroU16, (Origin, bool)>) {
        debug_assert!(self.queue.is_empty(), "restored first");
        let restored = left.iter().map(|(&id, (origin, received))| {
            let stage = if *received {
                Stage::Pubcomp
            } else {
                Stage::Again
            };
            let origin = *origin;
            (id, InFlight { origin, stage })
        });
        self.restored = restored.collect();
        self.open = left.values().filter(|(_, received)| *received).count();
        self.begin_in_gap();
    }

    /// Takes up what an earlier connection of the session left open with QoS 1. To be called before anything is added.
    pub(crate) fn restore_once(&mut self, left: impl Iterator<Item = (NonZeroU16, u64)>) {
        debug_assert!(self.queue.is_empty(), "restored first");
        for (id, seq) in left {
            self.restored.entry(id).or_insert(InFlight {
                origin: Origin::Session { seq },
                stage: Stage::Once,
            });
        }
        self.begin_in_gap();
    }

    /// Begins new ids where the widest gap in the circle does.
    fn begin_in_gap(&mut self) {
        let ids: Vec<u16> = self.restored.keys().map(|id| id.get()).collect();
        let gaps = (0..ids.len()).map(|at| {
            let before = ids[(at + ids.len() - 1) % ids.len()];
            (distance(before, ids[at]), before)
        });
        if let Some((_, before)) = gaps.max() {
            self.first_id = plus(before, 1);
        }
    }

    /// Returns what the session's own subscriptions were sent with QoS 1 and have no PUBACK for.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = (NonZeroU16, u64)> {
        let queue = self.queue.iter().enumerate();
        let queue = queue.filter_map(|(place, entry)| {
            let id = NonZeroU16::new(plus(self.first_id, place))?;
            Some((id, entry))
        });
        let restored = self.restored.iter().map(|(id, entry)| (*id, entry));
        queue.chain(restored).filter_map(|(id, entry)| {
            let waits = matches!(entry.stage, Stage::Puback | Stage::Once);
            match entry.origin {
                Origin::Session { seq } if waits => Some((id, seq)),
                _ => None,
            }
        })
    }

    /// Tells whether what has this id waits for another acknowledgement: PUBACK is for QoS 1 and the others are for
    /// QoS 2, where PUBCOMP comes last.
    pub(crate) fn waits_for_other(&mut self, id: NonZeroU16, kind: Kind) -> bool {
        self.entry(id).is_some_and(|entry| match entry.stage {
            Stage::Puback | Stage::Once => kind != Kind::Puback,
            Stage::Pubrec => kind != Kind::Pubrec,
            Stage::Again | Stage::Pubcomp => kind == Kind::Puback,
            Stage::Completed => false,
        })
    }

    /// Returns how many messages may lie behind one that is not acknowledged, itself included.
    pub(crate) fn span(&self) -> usize {
        self.limit.max(MAX_QUEUE.min(2 * self.limit))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open >= self.limit || self.queue.len() >= self.span()
    }

    /// Adds a message with QoS 1, or 2, and returns its packet id; `None` when the window is full.
    pub(crate) fn push(&mut self, origin: Origin, qos: u8) -> Option<NonZeroU16> {
        if self.is_full() {
            return None;
        }
        let id = self.next_id()?;
        let stage = if qos > 1 {
            Stage::Pubrec
        } else {
            Stage::Puback
        };
        self.queue.push_back(InFlight { origin, stage });
        self.open += 1;
        Some(id)
    }

    /// Returns the id behind the queue; those that an earlier connection left open are passed over.
    fn next_id(&mut self) -> Option<NonZeroU16> {
        loop {
            let id = NonZeroU16::new(plus(self.first_id, self.queue.len()))?;
            if !self.restored.contains_key(&id) {
                return Some(id);
            }
            if self.queue.is_empty() {
                self.first_id = plus(self.first_id, 1);
            } else if self.queue.len() < MAX_QUEUE {
                self.queue.push_back(InFlight {
                    origin: Origin::Memory,
                    stage: Stage::Completed,
                });
            } else {
                return None;
            }
        }
    }

    /// Counts a restored message as sent again; `false` when the window is full or it is not to be sent again.
    pub(crate) fn again(&mut self, id: NonZeroU16) -> bool {
        let has_room = self.open < self.limit;
        match self.entry(id) {
            Some(entry) if has_room => {
                entry.stage = match entry.stage {
                    Stage::Again => Stage::Pubrec,
                    Stage::Once => Stage::Puback,
                    _ => return false,
                };
                self.open += 1;
                true
            }
            _ => false,
        }
    }

    /// Takes a PUBACK and returns whose it is; `None` when nothing waits for it.
    pub(crate) fn acknowledge(&mut self, id: NonZeroU16) -> Option<Origin> {
        let waits = |entry: &&mut InFlight| matches!(entry.stage, Stage::Puback | Stage::Once);
        let entry = self.entry(id).filter(waits)?;
        let was_sent = entry.stage == Stage::Puback;
        entry.stage = Stage::Completed;
        let origin = entry.origin;
        self.open -= usize::from(was_sent);
        self.restored.remove(&id);
        self.drop_completed();
        Some(origin)
    }

    /// Takes a PUBREC.
    pub(crate) fn receive(&mut self, id: NonZeroU16) -> Receipt {
        let Some(entry) = self.entry(id) else {
            return Receipt::Unknown;
        };
        let (stage, origin) = (entry.stage, entry.origin);
        match stage {
            Stage::Pubrec | Stage::Again => {
                entry.stage = Stage::Pubcomp;
                self.open += usize::from(stage == Stage::Again);
                Receipt::New(origin)
            }
            Stage::Pubcomp => Receipt::Repeated,
            Stage::Puback | Stage::Once | Stage::Completed => Receipt::Unknown,
        }
    }

    /// Takes a PUBCOMP; `false` when nothing waits for it.
    pub(crate) fn complete(&mut self, id: NonZeroU16) -> bool {
        let Some(entry) = self.entry(id).filter(|e| e.stage == Stage::Pubcomp) else {
            return false;
        };
        entry.stage = Stage::Completed;
        self.open -= 1;
        self.restored.remove(&id);
        self.drop_completed();
        true
    }

    /// Tells whether something of a shared subscription is on its way.
    pub(crate) fn has_share(&self, number: u32) -> bool {
        let is_of = |entry: &InFlight| matches!(entry.origin, Origin::Share { number: of, .. } if of == number);
        self.queue.iter().any(is_of) || self.restored.values().any(is_of)
    }

    fn entry(&mut self, id: NonZeroU16) -> Option<&mut InFlight> {
        if let Some(entry) = self.restored.get_mut(&id) {
            return Some(entry);
        }
        let place = distance(self.first_id, id.get());
        self.queue.get_mut(place)
    }

    fn drop_completed(&mut self) {
        let is_completed = |entry: &InFlight| entry.stage == Stage::Completed;
        while self.queue.front().is_some_and(is_completed) {
            self.queue.pop_front();
            self.first_id = plus(self.first_id, 1);
        }
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
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Waits {
        Puback(Origin),
        Pubrec(Origin),
        Pubcomp,
        Again(u64),
    }

    proptest! {
        /// Against a map from id to what it waits for, over several rounds of the circle.
        #[test]
        fn the_window_agrees_with_a_map(
            limit in 1_usize..9,
            left in proptest::collection::btree_map(prop_oneof![1_u16..20, 65_520_u16..], (0_u64..50, any::<bool>()), 0..6),
            steps in proptest::collection::vec((0_u8..8, 0_usize..10, 0_u32..3), 1..200),
        ) {
            let mut window = Window::new(limit);
            let left: BTreeMap<_, _> = left.into_iter().map(|(id, l)| (NonZeroU16::new(id).unwrap(), l)).collect();
            let origins = left.iter().map(|(&id, &(seq, received))| (id, (Origin::Session { seq }, received)));
            window.restore(&origins.collect());
            let mut model: BTreeMap<NonZeroU16, Waits> = left
                .iter()
                .map(|(&id, &(seq, received))| (id, if received { Waits::Pubcomp } else { Waits::Again(seq) }))
                .collect();
            let mut seq = 100;
            for (step, which, number) in steps {
                let open = model.values().filter(|w| !matches!(w, Waits::Again(_))).count();
                if step < 3 {
                    let origin = match number {
                        0 => Origin::Session { seq },
                        number => Origin::Share { number, seq },
                    };
                    let qos = 1 + step % 2;
                    if let Some(id) = window.push(origin, qos) {
                        prop_assert!(open < limit);
                        let waits = if qos == 1 { Waits::Puback(origin) } else { Waits::Pubrec(origin) };
                        prop_assert_eq!(model.insert(id, waits), None);
                        seq += 1;
                    } else {
                        prop_assert!(window.is_full());
                    }
                } else if let Some((&id, &waits)) = model.iter().nth(which) {
                    match step {
                        3 => {
                            let again = window.again(id);
                            prop_assert_eq!(again, matches!(waits, Waits::Again(_)) && open < limit);
                            if let (true, Waits::Again(seq)) = (again, waits) {
                                model.insert(id, Waits::Pubrec(Origin::Session { seq }));
                            }
                        }
                        4 | 5 => {
                            let expected = match waits {
                                Waits::Pubrec(origin) => Receipt::New(origin),
                                Waits::Again(seq) => Receipt::New(Origin::Session { seq }),
                                Waits::Pubcomp => Receipt::Repeated,
                                Waits::Puback(_) => Receipt::Unknown,
                            };
                            prop_assert_eq!(window.receive(id), expected);
                            if expected != Receipt::Unknown {
                                model.insert(id, Waits::Pubcomp);
                            }
                        }
                        6 => {
                            let done = window.complete(id);
                            prop_assert_eq!(done, waits == Waits::Pubcomp);
                            if done {
                                model.remove(&id);
                                prop_assert_eq!(window.receive(id), Receipt::Unknown);
                            }
                        }
                        _ => {
                            let origin = window.acknowledge(id);
                            if let Waits::Puback(expected) = waits {
                                prop_assert_eq!(origin, Some(expected));
                                model.remove(&id);
                            } else {
                                prop_assert_eq!(origin, None);
                            }
                        }
                    }
                }
            }
            // What is left can be brought to its end, and then there is room again.
            for id in model.keys() {
                window.acknowledge(*id);
                window.receive(*id);
                window.complete(*id);
            }
            prop_assert!(window.queue.is_empty() && window.restored.is_empty() && window.open == 0);
        }

        /// What waits to go again, wherever its record lies, keeps nobody else from going.
        #[test]
        fn what_is_to_go_again_stops_nobody(limit in 1_usize..9, left in 1_u16..9, steps in 1_usize..300) {
            let mut window = Window::new(limit);
            let ids = (0..left).map(|n| NonZeroU16::new(1 + 3 * n).unwrap());
            window.restore(&ids.map(|id| (id, (Origin::Session { seq: 1 }, false))).collect());
            for _ in 0..steps {
                let id = window.push(Origin::Memory, 1);
                prop_assert!(id.is_some_and(|id| window.acknowledge(id).is_some()));
            }
        }

        /// Over several connections: what is open with QoS 1 keeps its id, and new ids are none of those.
        #[test]
        fn what_is_open_with_qos_1_keeps_its_id(
            limit in 1_usize..9,
            rounds in proptest::collection::vec((0_usize..9, proptest::collection::vec(0_usize..9, 0..9), 0_usize..9), 1..20),
        ) {
            let (mut open, mut seq) = (BTreeMap::<NonZeroU16, u64>::new(), 0);
            for (again, acknowledged, new) in rounds {
                let mut window = Window::new(limit);
                window.restore_once(open.iter().map(|(&id, &seq)| (id, seq)));
                for &id in open.keys().take(again.min(limit)) {
                    prop_assert!(window.again(id));
                    prop_assert!(!window.again(id));
                }
                for which in acknowledged {
                    if let Some((&id, &seq)) = open.iter().nth(which) {
                        prop_assert!(window.waits_for_other(id, Kind::Pubrec));
                        prop_assert_eq!(window.receive(id), Receipt::Unknown);
                        prop_assert_eq!(window.acknowledge(id), Some(Origin::Session { seq }));
                        prop_assert_eq!(window.acknowledge(id), None);
                        open.remove(&id);
                    }
                }
                for _ in 0..new {
                    if let Some(id) = window.push(Origin::Session { seq }, 1) {
                        prop_assert_eq!(open.insert(id, seq), None);
                        seq += 1;
                    }
                }
                prop_assert_eq!(window.unacknowledged().collect::<BTreeMap<_, _>>(), open.clone());
            }
        }

        #[test]
        fn unknown_ids_are_told_apart(id in 2_u16..) {
            let mut window = Window::new(10);
            window.push(Origin::Memory, 1);
            let id = NonZeroU16::new(id).unwrap();
            prop_assert_eq!(window.acknowledge(id), None);
            prop_assert_eq!(window.receive(id), Receipt::Unknown);
            prop_assert!(!window.complete(id));
        }
    }
}
