//! The worlds of seeds: publishers, consumers, what goes wrong, and what must hold all the same.

mod client;
mod consumer;
mod faults;
mod judge;
mod message;
mod mortal;
mod publisher;
mod world;

use std::num::NonZero;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use world::World;

use crate::sabotage::{Step, without};

/// What the simulation is run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    None,
    /// Syncs do nothing.
    IgnoreSyncs,
    /// PUBACK leaves before the log has the message.
    AckBeforeCommit,
    /// The broker leaves something out.
    Omit(Step),
}

/// What was tried.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    seeds: u64,
    messages: u64,
    lives: u64,
    crashes: u64,
    crashes_while_opening: u64,
    stops: u64,
    disk_failures: u64,
    visits: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.seeds += 1;
        self.messages += other.messages;
        self.lives += other.lives;
        self.crashes += other.crashes;
        self.crashes_while_opening += other.crashes_while_opening;
        self.stops += other.stops;
        self.disk_failures += other.disk_failures;
        self.visits += other.visits;
    }
}

/// Events of a seed before everything is to come to its end.
const STEPS: usize = 1_500;

/// Runs one seed; returns the hash of all that happened, or what is wrong.
fn one(seed: u64, against: Sabotage) -> Result<(u64, Tally), String> {
    let omitted = match against {
        Sabotage::Omit(step) => Some(step),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    let life = async {
        let mut world = World::new(seed, against);
        world.open()?;
        world.live(STEPS).await?;
        world.finish().await?;
        Ok((world.trace(), world.tally))
    };
    without(omitted, || {
        runtime.block_on(tokio::task::coop::unconstrained(life))
    })
}

/// Runs seeds on all processors; returns the first violation with the seed that repeats it.
fn seeds(first: u64, count: u64, against: Sabotage) -> Result<Tally, String> {
    let next = AtomicU64::new(first);
    let ended = AtomicBool::new(false);
    let outcome = Mutex::new(Ok(Tally::default()));
    let work = || {
        while !ended.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                break;
            }
            let run = catch_unwind(|| one(seed, against));
            let run = run.unwrap_or_else(|_| Err("the broker panicked".to_owned()));
            let mut outcome = outcome.lock().expect("nobody panics here");
            match (run, &mut *outcome) {
                (Ok((_, tally)), Ok(sum)) => sum.add(&tally),
                (Err(violation), Ok(_)) => {
                    *outcome = Err(format!("seed {seed}: {violation}"));
                    ended.store(true, Ordering::Relaxed);
                }
                (_, Err(_)) => {}
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    outcome.into_inner().expect("nobody panicked")
}

/// Seeds of the suite.
const SEEDS: u64 = 300;

pub(super) fn number_of(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable);
    text.map_or(default, |text| {
        text.parse().expect("the variable is a number")
    })
}

#[test]
fn no_seed_loses_or_doubles_a_message() {
    let first = number_of("LASTMILE_SIM_FIRST", 0);
    let count = number_of("LASTMILE_SIM_SEEDS", SEEDS);
    match seeds(first, count, Sabotage::None) {
        Ok(tally) => println!("{tally:?}"),
        Err(violation) => panic!("{violation}"),
    }
}

#[test]
fn a_seed_repeats_itself() {
    for seed in 0..10 {
        let [first, second] = [(); 2].map(|()| one(seed, Sabotage::None).map(|(trace, _)| trace));
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Runs the same seeds against something broken, which they must notice.
fn must_notice(against: Sabotage) {
    match seeds(0, SEEDS, against) {
        Ok(tally) => panic!("{against:?} went unnoticed in {tally:?}"),
        Err(violation) => println!("noticed: {violation}"),
    }
}

#[test]
fn skipped_syncs_are_noticed() {
    must_notice(Sabotage::IgnoreSyncs);
}

#[test]
fn an_acknowledgement_before_the_commit_is_noticed() {
    must_notice(Sabotage::AckBeforeCommit);
}

/// Leaves a step of the broker out, which is to be noticed.
macro_rules! noticed {
    ($($name:ident: $step:ident;)*) => {
        $(
            #[test]
            fn $name() {
                must_notice(Sabotage::Omit(Step::$step));
            }
        )*
    };
}

noticed! {
    a_receipt_that_is_not_journaled_is_noticed: Receipt;
    a_retained_message_on_its_way_that_is_not_journaled_is_noticed: Kept;
    an_end_of_a_subscription_that_is_not_durable_is_noticed: Unsubscribed;
    an_ended_subscription_that_stays_is_noticed: Completed;
    a_will_that_is_not_journaled_is_noticed: WillHeld;
    a_void_will_in_the_journal_is_noticed: WillDropped;
    a_will_of_who_came_back_is_noticed: WillVoid;
    an_expired_message_is_noticed: Expired;
    an_expiry_that_is_not_counted_down_is_noticed: ExpiryLeft;
    an_alias_that_keeps_its_first_topic_is_noticed: AliasSet;
    an_alias_that_the_client_does_not_know_is_noticed: AliasTold;
}
