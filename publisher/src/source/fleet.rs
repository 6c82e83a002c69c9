//! The simulated deliverers of one connection: whose turn it is, and what they report.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::Next;
use crate::message::{Message, Sample, State};
use crate::route::Route;

/// How far apart in time the points of a route lie when they are sent faster than they are ridden.
const NOMINAL_STEP_S: f64 = 10.0;
/// Jitter around the time between points, as in the original simulator, in seconds each way.
const JITTER_S: f64 = 3.0;
/// The first points of all deliverers are spread over this, in seconds.
const FIRST_POINTS_S: f64 = 1.0;

/// When points are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Each deliverer every so many seconds, give or take [`JITTER_S`].
    Every(f64),
    /// The whole fleet so many a second, evenly.
    Rate(f64),
    /// As fast as they are acknowledged.
    Burst,
}

/// What the whole fleet is to do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) workers: u64,
    /// Points of an order, 1 or more.
    pub(crate) locations: u64,
    /// Orders of each deliverer; `None` means no end but [`Plan::messages`] or [`Plan::until`].
    pub(crate) orders: Option<u64>,
    /// Messages of the whole fleet; `None` means no limit.
    pub(crate) messages: Option<u64>,
    pub(crate) pace: Pace,
    pub(crate) seed: u64,
    pub(crate) start: Instant,
    pub(crate) until: Option<Instant>,
}

/// One connection's deliverers.
#[derive(Debug)]
pub(crate) struct Fleet {
    plan: Plan,
    rng: SmallRng,
    workers: Vec<Worker>,
    /// By time ([`Pace::Every`]): who reports next.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// In turn (the other paces): who reports next.
    turns: VecDeque<usize>,
    /// This connection's place among all, and how many there are.
    share: (u64, u64),
    sent: u64,
}

#[derive(Debug)]
struct Worker {
    number: u64,
    route: Route,
    order: u64,
    /// Points of this order reported so far.
    points: u64,
    seq: u64,
    /// Seconds on the route from the last point to the next.
    step_s: f64,
}

impl Fleet {
    /// Makes the deliverers of connection `index` of `connections`.
    pub(crate) fn new(plan: Plan, index: u64, connections: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(plan.seed ^ index.rotate_left(32));
        let numbers = (1..=plan.workers).filter(|number| (number - 1) % connections == index);
        let workers: Vec<_> = numbers
            .map(|number| Worker {
                number,
                route: Route::new(plan.seed, number),
                order: 1,
                points: 0,
                seq: 0,
                step_s: NOMINAL_STEP_S,
            })
            .collect();
        let mut timers = BinaryHeap::new();
        let mut turns = VecDeque::new();
        for at in 0..workers.len() {
            if matches!(plan.pace, Pace::Every(_)) {
                let offset = Duration::from_secs_f64(rng.random_range(0.0..FIRST_POINTS_S));
                timers.push(Reverse((plan.start + offset, at)));
            } else {
                turns.push_back(at);
            }
        }
        Self {
            plan,
            rng,
            workers,
            timers,
            turns,
            share: (index, connections),
            sent: 0,
        }
    }

    pub(super) fn next(&mut self, now: Instant, wall_ms: i64) -> Next {
        let (index, connections) = self.share;
        // This connection sends the fleet's messages number index, index + connections, and so on.
        let number = index + self.sent * connections;
        if self.plan.messages.is_some_and(|limit| number >= limit) {
            return Next::Done;
        }
        let (due, who) = match self.plan.pace {
            Pace::Every(_) => match self.timers.peek() {
                Some(&Reverse(next)) => next,
                None => return Next::Done,
            },
            pace => match self.turns.front() {
                Some(&who) => (self.due(pace, number, now), who),
                None => return Next::Done,
            },
        };
        if self.plan.until.is_some_and(|until| due >= until) {
            return Next::Done;
        }
        if due > now {
            return Next::At(due);
        }
        self.sent += 1;
        // The point's own time is when it was due: a device dates its points even while it is offline.
        let event_time_ms = match self.plan.pace {
            Pace::Every(_) => wall_ms - i64::try_from((now - due).as_millis()).unwrap_or_default(),
            Pace::Rate(_) | Pace::Burst => wall_ms,
        };
        let sample = self.workers[who].report(event_time_ms, self.plan.locations);
        self.put_back(who, due);
        Next::Message(Message::Position(sample), due)
    }

    fn due(&self, pace: Pace, number: u64, now: Instant) -> Instant {
        let Pace::Rate(per_second) = pace else {
            return now;
        };
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 messages")]
        let after_s = number as f64 / per_second;
        self.plan.start + Duration::from_secs_f64(after_s)
    }

    /// Gives the deliverer their next turn, unless all their orders have arrived.
    fn put_back(&mut self, who: usize, due: Instant) {
        let worker = &mut self.workers[who];
        let order_over = worker.points == self.plan.locations;
        let all_over = order_over
            && self
                .plan
                .orders
                .is_some_and(|orders| worker.order >= orders);
        if let Pace::Every(seconds) = self.plan.pace {
            self.timers.pop();
            let shortest = (seconds - JITTER_S).max(0.0);
            worker.step_s = self.rng.random_range(shortest..=seconds + JITTER_S);
            if !all_over {
                let next = due + Duration::from_secs_f64(worker.step_s);
                self.timers.push(Reverse((next, who)));
            }
        } else {
            self.turns.pop_front();
            if !all_over {
                self.turns.push_back(who);
            }
        }
        if order_over {
            worker.order += 1;
            worker.points = 0;
            worker.route.begin_order();
        }
    }
}

impl Worker {
    fn report(&mut self, event_time_ms: i64, locations: u64) -> Sample {
        let first = self.points == 0;
        let step = if first {
            self.route.here()
        } else {
            self.route.advance(self.step_s)
        };
        self.points += 1;
        let state = if first {
            State::Start
        } else if self.points == locations {
            State::Arrived
        } else {
            State::OnTheWay
        };
        let sample = Sample {
            worker: self.number,
            order: self.order,
            state,
            event_time_ms,
            step,
            seq: self.seq,
        };
        self.seq += 1;
        sample
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn plan(workers: u64, locations: u64, pace: Pace) -> Plan {
        Plan {
            workers,
            locations,
            orders: Some(1),
            messages: None,
            pace,
            seed: 1,
            start: Instant::now(),
            until: None,
        }
    }

    /// Runs all connections to the end, jumping from due time to due time.
    fn run(plan: &Plan, connections: u64) -> Vec<(Sample, Duration)> {
        let mut all = Vec::new();
        for index in 0..connections {
            let mut fleet = Fleet::new(plan.clone(), index, connections);
            let mut now = plan.start;
            loop {
                let elapsed_ms = i64::try_from((now - plan.start).as_millis()).unwrap();
                match fleet.next(now, elapsed_ms) {
                    Next::Message(Message::Position(sample), due) => {
                        all.push((sample, due - plan.start));
                    }
                    Next::At(due) => now = due,
                    Next::Done => break,
                    other => panic!("{other:?}"),
                }
            }
        }
        all
    }

    proptest! {
        #[test]
        fn each_order_starts_rides_and_arrives(
            workers in 1_u64..40, locations in 1_u64..20, connections in 1_u64..8,
            orders in 1_u64..4, seconds in prop::sample::select(vec![0.0, 1.0, 10.0]),
        ) {
            let mut plan = plan(workers, locations, Pace::Every(seconds));
            plan.orders = Some(orders);
            let samples = run(&plan, connections);
            prop_assert_eq!(samples.len() as u64, workers * locations * orders);
            let mut by_order: HashMap<_, Vec<Sample>> = HashMap::new();
            let mut identities = HashSet::new();
            for (sample, _) in samples {
                prop_assert!(identities.insert((sample.worker, sample.seq)));
                by_order.entry((sample.worker, sample.order)).or_default().push(sample);
            }
            for points in by_order.values() {
                prop_assert_eq!(points[0].state, State::Start);
                let last = points[points.len() - 1].state;
                prop_assert!(locations == 1 || last == State::Arrived);
                for point in points.iter().skip(1).rev().skip(1) {
                    prop_assert_eq!(point.state, State::OnTheWay);
                }
                prop_assert!(points.windows(2).all(|p| p[0].event_time_ms <= p[1].event_time_ms));
            }
        }
    }

    #[test]
    fn a_rate_is_kept_by_all_connections_together() {
        let mut plan = plan(50, 15, Pace::Rate(1_000.0));
        (plan.orders, plan.messages) = (None, Some(5_000));
        let mut due: Vec<_> = run(&plan, 7).into_iter().map(|(_, due)| due).collect();
        due.sort();
        assert_eq!(due.len(), 5_000);
        for (number, due) in due.iter().enumerate() {
            let expected = Duration::from_millis(number as u64);
            assert!(
                due.abs_diff(expected) < Duration::from_micros(1),
                "{number}: {due:?}"
            );
        }
    }

    #[test]
    fn a_duration_ends_an_endless_fleet() {
        let mut plan = plan(5, 15, Pace::Rate(100.0));
        plan.orders = None;
        plan.until = Some(plan.start + Duration::from_secs(2));
        assert_eq!(run(&plan, 2).len(), 200);
    }
}
