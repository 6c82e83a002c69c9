//! The cases of the suite, and how they are drawn.

use ingest_log::sim::Random;

use super::{Harness, samples};
use crate::simulation::executor::Executor;

/// Returns a case drawn from `random`: noise, or right packets with some bytes changed, moved, doubled or cut.
fn case(samples: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let byte = |random: &mut Random| random.bits().to_le_bytes()[0];
    let mut case = vec![byte(random)];
    if random.below(5) == 0 {
        let length = random.below(200);
        case.extend((0..length).map(|_| byte(random)));
        return case;
    }
    for _ in 0..=random.below(6) {
        case.extend_from_slice(&samples[random.below(samples.len())]);
    }
    for _ in 0..random.below(4) {
        let at = 1 + random.below(case.len() - 1);
        match random.below(5) {
            0 => case[at] = byte(random),
            1 => case[at] ^= 1 << random.below(8),
            2 => case[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 => case.insert(at, byte(random)),
            _ if case.len() > 2 => drop(case.remove(at)),
            _ => {}
        }
    }
    if random.below(5) == 0 {
        let length = 1 + random.below(case.len());
        case.truncate(length);
    }
    case
}

/// Cases of the suite.
const SUITE: u64 = 100_000;

#[test]
fn no_input_harms_the_broker() {
    let cases = crate::simulation::seeds::number_of("LASTMILE_FUZZ_CASES", SUITE);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for thread in (0..).take(threads) {
            scope.spawn(move || {
                let (samples, mut harness) = (samples(), Harness::new());
                for number in (thread..cases).step_by(threads) {
                    let case = case(&samples, &mut Random::new(number));
                    if let Err(violation) = harness.one(&case) {
                        panic!("case {number}: {violation}: {case:02x?}");
                    }
                }
            });
        }
    });
    println!("{cases} cases on {threads} threads");
}

#[test]
fn a_broker_that_spins_is_noticed() {
    let mut executor = Executor::default();
    executor.spawn(std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    }));
    assert!(executor.run(&mut Random::new(0)).is_err());
}
