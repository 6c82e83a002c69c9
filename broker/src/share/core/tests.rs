//! Random groups against a model: every record is done with in the end, each by exactly one acknowledgement
//! unless the process died in between, and the place is never above one that is not.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::sabotage;

#[derive(Debug, Clone, Copy)]
enum Step {
    Publish(u8),
    Join,
    Leave(u8),
    /// A member takes so many records.
    Take(u8, u8),
    /// A member acknowledges one of those it holds.
    Acknowledge(u8, u8),
    /// The process dies; the place on disk is the one of some moments ago.
    Crash,
    Persist,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Publish),
        2 => Just(Step::Join),
        1 => any::<u8>().prop_map(Step::Leave),
        6 => any::<(u8, u8)>().prop_map(|(member, count)| Step::Take(member, count % 16)),
        12 => any::<(u8, u8)>().prop_map(|(member, which)| Step::Acknowledge(member, which)),
        1 => Just(Step::Persist),
    ]
}

fn step_with_crashes() -> impl Strategy<Value = Step> {
    prop_oneof![30 => step(), 1 => Just(Step::Crash)]
}

/// What was published, and what members would know.
struct World {
    core: Core,
    /// End of the log.
    end: u64,
    /// Records that nobody is to acknowledge: they do not match, or went out with QoS 0.
    passed: BTreeSet<u64>,
    /// What each member was sent and has not acknowledged.
    members: BTreeMap<u64, BTreeSet<u64>>,
    acknowledged: BTreeMap<u64, u32>,
    sent: BTreeSet<u64>,
    persisted: u64,
}

impl World {
    fn new() -> Self {
        Self {
            core: Core::new(0, 0),
            end: 0,
            passed: BTreeSet::new(),
            members: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            sent: BTreeSet::new(),
            persisted: 0,
        }
    }

    fn nth_member(&self, which: u8) -> Option<u64> {
        let count = self.members.len();
        let place = usize::from(which).checked_rem(count)?;
        self.members.keys().copied().nth(place)
    }

    /// As the group does it: first what was returned, then what is new.
    fn take(&mut self, member: u64, count: u8) {
        let mut before = None;
        for _ in 0..count {
            if let Some(seq) = self.core.first_returned() {
                assert!(before.is_none_or(|before| before < seq), "in order");
                assert!(self.sent.contains(&seq), "what comes again was sent before");
                self.core.take_returned(member, seq, true);
                before = Some(seq);
                self.give(member, seq);
                continue;
            }
            let seq = self.core.position();
            if seq == self.end {
                return;
            }
            assert!(
                !self.sent.contains(&seq) || self.core.may_be_repeated(seq),
                "a repeated record is not known as one"
            );
            if seq % 7 == 3 {
                self.core.pass(seq);
                self.passed.insert(seq);
            } else {
                self.core.hold(member, seq);
                self.give(member, seq);
            }
        }
    }

    fn give(&mut self, member: u64, seq: u64) {
        let held = self.members.values().any(|held| held.contains(&seq));
        assert!(!held, "a record has one member");
        self.members.entry(member).or_default().insert(seq);
        self.sent.insert(seq);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Publish(count) => self.end += u64::from(count % 32),
            Step::Join => {
                let member = self.core.join();
                self.members.insert(member, BTreeSet::new());
            }
            Step::Leave(which) => {
                if let Some(member) = self.nth_member(which) {
                    let held = self.members.remove(&member).unwrap_or_default();
                    let leaves = self.core.leave(member);
                    assert!(leaves || held.is_empty() || leaves_out(sabotage::Step::Legacy));
                }
            }
            Step::Take(which, count) => {
                if let Some(member) = self.nth_member(which) {
                    self.take(member, count);
                }
            }
            Step::Acknowledge(which, nth) => {
                let Some(member) = self.nth_member(which) else {
                    return;
                };
                let held = &self.members[&member];
                let Some(place) = usize::from(nth).checked_rem(held.len()) else {
                    return;
                };
                let seq = held.iter().copied().nth(place).unwrap();
                self.members.get_mut(&member).unwrap().remove(&seq);
                assert_eq!(self.core.acknowledge(member, [seq]), 1);
                assert_eq!(self.core.acknowledge(member, [seq]), 0, "only once");
                *self.acknowledged.entry(seq).or_default() += 1;
            }
            Step::Persist => self.persisted = self.core.place(),
            Step::Crash => {
                self.core = Core::new(self.persisted, self.end);
                self.members.clear();
            }
        }
    }

    fn is_done(&self, seq: u64) -> bool {
        self.passed.contains(&seq) || self.acknowledged.contains_key(&seq)
    }

    fn check(&mut self) {
        let place = self.core.place();
        let not_done = (0..self.end).find(|seq| !self.is_done(*seq));
        let lowest = not_done.unwrap_or(self.end);
        assert!(place <= lowest, "place {place} above {lowest}");
        let held: usize = self.members.values().map(BTreeSet::len).sum();
        let core_holds = self.core.members.values();
        let core_holds: usize = core_holds
            .map(|holding| holding.fresh.open().count() + holding.taken_over.len())
            .sum();
        assert_eq!(held, core_holds);
    }

    /// Everybody leaves but one, which takes and acknowledges all.
    fn drain(&mut self) {
        while let Some(member) = self.nth_member(0) {
            self.members.remove(&member);
            self.core.leave(member);
        }
        self.apply(Step::Join);
        while self.core.first_returned().is_some() || self.core.position() < self.end {
            self.apply(Step::Take(0, 100));
            while self.members.values().any(|held| !held.is_empty()) {
                self.apply(Step::Acknowledge(0, 0));
            }
            self.check();
        }
        assert_eq!(self.core.place(), self.end);
        for seq in 0..self.end {
            assert!(self.is_done(seq), "record {seq} is lost");
        }
    }
}

fn run(steps: &[Step]) -> World {
    let mut world = World::new();
    for step in steps {
        world.apply(*step);
        world.check();
    }
    world.drain();
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn each_record_is_acknowledged_exactly_once(
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let world = run(&steps);
        prop_assert!(world.acknowledged.values().all(|times| *times == 1));
    }

    #[test]
    fn after_crashes_each_record_is_acknowledged(
        steps in proptest::collection::vec(step_with_crashes(), 1..300),
    ) {
        run(&steps);
    }
}

#[test]
fn losing_what_a_member_leaves_is_noticed() {
    let steps = [
        Step::Publish(20),
        Step::Join,
        Step::Take(0, 10),
        Step::Leave(0),
    ];
    let lost = sabotage::without(Some(sabotage::Step::Legacy), || {
        std::panic::catch_unwind(|| run(&steps))
    });
    assert!(lost.is_err());
    run(&steps);
}

#[test]
fn a_slow_member_holds_the_place_and_nobody() {
    let mut core = Core::new(10, 10);
    let (slow, quick) = (core.join(), core.join());
    core.hold(slow, 10);
    for seq in 11..100_000 {
        core.hold(quick, seq);
        core.acknowledge(quick, [seq]);
        assert_eq!(core.place(), 10);
    }
    assert!(core.leave(slow));
    assert_eq!((core.first_returned(), core.place()), (Some(10), 10));
    core.take_returned(quick, 10, true);
    core.acknowledge(quick, [10]);
    assert_eq!(core.place(), 100_000);
}

/// What can happen to records that are sent with QoS 2.
#[derive(Debug, Clone, Copy)]
enum Exact {
    Publish(u8),
    /// A client is given so many records.
    Give(u8, u8),
    /// A client has one of those it was given.
    Receive(u8, u8),
    /// A client's session ends.
    End(u8),
    Persist,
    /// The process dies: the place is the persisted one, the journal is as it was.
    Crash,
}

fn exact() -> impl Strategy<Value = Exact> {
    let client = || 0_u8..3;
    prop_oneof![
        3 => any::<u8>().prop_map(Exact::Publish),
        6 => (client(), 0_u8..16).prop_map(|(client, count)| Exact::Give(client, count)),
        9 => (client(), any::<u8>()).prop_map(|(client, which)| Exact::Receive(client, which)),
        1 => client().prop_map(Exact::End),
        1 => Just(Exact::Persist),
        1 => Just(Exact::Crash),
    ]
}

/// Gives records to clients as the steps say, and fails when one is given twice or the place passes one that is open.
fn run_exact(steps: &[Exact]) {
    let name = |client: u8| Arc::<str>::from(client.to_string());
    let (mut core, mut end, mut persisted) = (Core::new(0, 0), 0, 0);
    let mut given: BTreeSet<u64> = BTreeSet::new();
    // What the journal knows.
    let (mut bound, mut done) = (BTreeMap::<u64, Arc<str>>::new(), BTreeSet::new());
    for step in steps {
        match *step {
            Exact::Publish(count) => end += u64::from(count % 32),
            Exact::Give(client, count) => {
                for _ in 0..count {
                    let seq = core.position();
                    if seq == end || core.pass_settled(seq) {
                        continue;
                    }
                    assert!(given.insert(seq), "record {seq} was given before");
                    bound.insert(seq, name(client));
                    core.pass(seq);
                    core.bind(seq, &name(client));
                }
            }
            Exact::Receive(client, which) => {
                let own = core.bound_to(&name(client));
                if let Some(at) = usize::from(which).checked_rem(own.len()) {
                    assert!(core.unbind(own[at], &name(client)));
                    assert!(!core.unbind(own[at], &name(client)));
                    bound.remove(&own[at]);
                    done.insert(own[at]);
                }
            }
            Exact::End(client) => {
                done.extend(core.bound_to(&name(client)));
                bound.retain(|_, of| *of != name(client));
                core.let_go(&name(client));
            }
            Exact::Persist => persisted = core.place(),
            Exact::Crash => {
                core = Core::new(persisted, end);
                core.restore(bound.clone(), done.clone());
            }
        }
        let open = bound.keys().next().copied().unwrap_or(end);
        assert!(core.place() <= open, "the place passed {open}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn with_qos_2_each_record_is_given_once_through_crashes(
        steps in proptest::collection::vec(exact(), 1..300),
    ) {
        run_exact(&steps);
    }
}

#[test]
fn forgetting_what_was_sent_is_noticed() {
    let steps = [
        Exact::Publish(20),
        Exact::Give(0, 10),
        Exact::Crash,
        Exact::Give(1, 10),
    ];
    let twice = sabotage::without(Some(sabotage::Step::Bound), || {
        std::panic::catch_unwind(|| run_exact(&steps))
    });
    assert!(twice.is_err());
    run_exact(&steps);
}
