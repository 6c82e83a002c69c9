//! Crashes at every operation: what was acknowledged is there, and nothing else is.
//!
//! A life is a run of the log from open to crash, driven by a seed, with its events recorded in a
//! [`Model`]; then the machine crashes, the log is opened again, and the model judges what it finds.
//! [`points`] does this for each operation of each life. A violation is returned, not thrown, because
//! the negative controls want to see one.

mod campaign;
mod life;
mod model;

use campaign::{Campaign, Sabotage, points};
use model::Promise;

/// How many crashes the suite tries; `LASTMILE_CRASH_POINTS=1000000` makes it a campaign.
fn wanted_points() -> u64 {
    let text = std::env::var("LASTMILE_CRASH_POINTS");
    text.map_or(6_000, |text| {
        text.parse().expect("LASTMILE_CRASH_POINTS is a number")
    })
}

fn must_hold(campaign: &Campaign) {
    match points(campaign) {
        Ok(tried) => println!("{tried:?}"),
        Err(violation) => panic!("{violation}"),
    }
}

#[test]
fn no_crash_loses_or_invents_a_record() {
    must_hold(&Campaign::new(wanted_points()));
}

#[test]
fn without_sync_no_killed_process_loses_a_record() {
    must_hold(&Campaign {
        promise: Promise::AcknowledgedWithLeaps,
        ..Campaign::new(2_000)
    });
}

#[test]
fn without_sync_power_loss_invents_nothing_and_reuses_no_sequence() {
    must_hold(&Campaign {
        promise: Promise::NoInvention,
        ..Campaign::new(2_000)
    });
}

/// Runs the same test against something broken, which it must notice.
fn must_notice(sabotage: Sabotage) {
    let campaign = Campaign {
        sabotage,
        ..Campaign::new(2_000)
    };
    match points(&campaign) {
        Ok(tried) => panic!("{sabotage:?} went unnoticed in {tried:?}"),
        Err(violation) => println!("noticed: {violation}"),
    }
}

#[test]
fn skipped_syncs_are_noticed() {
    must_notice(Sabotage::IgnoreSyncs);
}

#[test]
fn a_skipped_crc_check_is_noticed() {
    must_notice(Sabotage::IgnoreCrc);
}

#[test]
fn an_acknowledgement_before_the_write_is_noticed() {
    must_notice(Sabotage::AckBeforeWrite);
}
