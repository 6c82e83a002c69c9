//! The promise of the project: no acknowledged position is lost or counted twice through kill -9.
//!
//! `LASTMILE_KILL_CYCLES` raises the number of kills; `cargo xtask soak` is the campaign.

use system_tests::kill_loop::{KillLoop, Plan, Reconciliation};
use system_tests::{binaries, python};

/// Kills of the gate.
const CYCLES: u32 = 25;

/// Kills within which the deliberately broken program must have lost something.
const CONTROL_CYCLES: u32 = 25;

fn plan(test: &str, server_args: &[&str]) -> Option<Plan> {
    let python = python::plain(test)?;
    let seed = rand::random();
    Some(Plan {
        seed,
        lastmile: binaries::path("lastmile").unwrap(),
        publisher: binaries::path("publisher").unwrap(),
        server_args: server_args.iter().map(|&arg| arg.to_owned()).collect(),
        messages: 2_000,
        connections: 8,
        rate: 4_000,
        python,
    })
}

#[test]
fn acknowledged_positions_survive_kill_9_and_count_once() {
    let test = "kill_9::acknowledged_positions_survive_kill_9_and_count_once";
    let Some(plan) = plan(test, &[]) else { return };
    println!("seed {}", plan.seed);
    let messages = plan.messages;
    let cycles = std::env::var("LASTMILE_KILL_CYCLES").map_or(CYCLES, |text| text.parse().unwrap());
    let mut campaign = KillLoop::start(plan).unwrap();
    for _ in 0..cycles {
        campaign.cycle().unwrap();
    }
    let sent = messages * u64::from(cycles);
    let tally = campaign.tally();
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
    assert_eq!(campaign.reconcile().unwrap(), exact, "{tally:?}");
    assert_eq!(campaign.counted_positions().unwrap(), sent, "{tally:?}");
    let verdict = campaign.verify().unwrap();
    println!("{verdict}");
}

/// Negative control: the same loop over a program that acknowledges before it writes must find a loss.
#[test]
fn acknowledging_before_the_write_is_found_out() {
    let test = "kill_9::acknowledging_before_the_write_is_found_out";
    let Some(plan) = plan(test, &["--unsafe-ack-before-commit"]) else {
        return;
    };
    println!("seed {}", plan.seed);
    let mut campaign = KillLoop::start(plan).unwrap();
    let mut found = Reconciliation::default();
    for cycle in 1..=CONTROL_CYCLES {
        campaign.cycle().unwrap();
        if cycle % 5 == 0 || cycle == CONTROL_CYCLES {
            found = campaign.reconcile().unwrap();
            if found.lost > 0 {
                break;
            }
        }
    }
    let tally = campaign.tally();
    println!("{found:?} {tally:?}");
    assert!(
        found.lost > 0,
        "the loop cannot see a loss: {found:?} {tally:?}"
    );
    let verdict = campaign.verify();
    println!("{verdict:?}");
    assert!(
        verdict.is_err(),
        "publisher verify cannot see a loss: {verdict:?} {found:?}"
    );
}
