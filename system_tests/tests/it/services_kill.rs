//! The promise of the project, over separate processes and a MongoDB-protocol server: no acknowledged
//! position is lost or counted twice through kill -9 of any of them, or of two at once.
//!
//! `LASTMILE_KILL_CYCLES` raises the number of kills; `cargo xtask soak services` is the campaign.

use system_tests::kill_loop::Reconciliation;
use system_tests::services::{Options, Part, Programs};
use system_tests::services_loop::{Plan, ServicesLoop};

use crate::heavy;

/// Cycles of the gate.
const CYCLES: u32 = 25;

/// Kills within which a deliberately broken program must have lost something.
const CONTROL_CYCLES: u32 = 25;

fn plan() -> Plan {
    Plan {
        seed: rand::random(),
        options: Options {
            subscribers: 2,
            connections: 2,
            apis: 2,
            ..Options::new(Programs::dev().unwrap())
        },
        victims: Vec::new(),
        messages: 2_000,
        connections: 8,
        rate: 2_500,
    }
}

#[test]
fn acknowledged_positions_survive_kills_of_any_part_and_of_pairs() {
    let test = "services_kill::acknowledged_positions_survive_kills_of_any_part_and_of_pairs";
    let _turn = heavy::turn();
    let plan = plan();
    println!("seed {}", plan.seed);
    let messages = plan.messages;
    let cycles = std::env::var("LASTMILE_KILL_CYCLES").map_or(CYCLES, |text| text.parse().unwrap());
    let Some(mut campaign) = ServicesLoop::start(test, plan).unwrap() else {
        return;
    };
    for _ in 0..cycles {
        campaign.cycle().unwrap();
    }
    let sent = messages * u64::from(cycles);
    let tally = campaign.tally().clone();
    println!("{tally:?}");
    assert!(
        tally.killed_under_load > 0,
        "no kill met a running load: {tally:?}"
    );
    assert_eq!(tally.acked, sent, "{tally:?}");
    let exact = Reconciliation {
        acked: sent,
        stored: sent,
        counted: sent,
        ..Reconciliation::default()
    };
    assert_eq!(campaign.reconcile_with_lake().unwrap(), exact, "{tally:?}");
    let counts = campaign.services().counts().unwrap();
    assert_eq!((counts.positions, counts.rejected), (sent, 0), "{tally:?}");
    println!("{}", campaign.verify().unwrap());
    campaign.services().stop().unwrap();
}

/// Negative control: the same loop over a program that breaks the ack law must find a loss.
fn must_be_found_out(test: &str, plan: Plan) {
    let _turn = heavy::turn();
    let Some(mut campaign) = ServicesLoop::start(test, plan).unwrap() else {
        return;
    };
    let mut found = Reconciliation::default();
    for cycle in 1..=CONTROL_CYCLES {
        campaign.cycle().unwrap();
        // Looking takes long when something is missing, because it might still come.
        if cycle % 5 == 0 {
            found = campaign.reconcile().unwrap();
            if found.lost > 0 {
                break;
            }
        }
    }
    let tally = campaign.tally();
    assert!(
        found.lost > 0,
        "the loop cannot see a loss: {found:?} {tally:?}"
    );
}

#[test]
fn a_broker_that_acknowledges_before_the_write_is_found_out() {
    let test = "services_kill::a_broker_that_acknowledges_before_the_write_is_found_out";
    let mut plan = plan();
    plan.options.broker_args = vec!["--unsafe-ack-before-commit".to_owned()];
    plan.options.subscribers = 1;
    plan.options.apis = 1;
    plan.victims = vec![Part::Broker];
    must_be_found_out(test, plan);
}

#[test]
fn a_subscriber_that_acknowledges_before_the_commit_is_found_out() {
    let test = "services_kill::a_subscriber_that_acknowledges_before_the_commit_is_found_out";
    let mut plan = plan();
    plan.options.subscriber_args = vec!["--unsafe-ack-before-commit".to_owned()];
    plan.options.subscribers = 1;
    plan.options.apis = 1;
    plan.victims = vec![Part::Subscriber(0)];
    must_be_found_out(test, plan);
}
