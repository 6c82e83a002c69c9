//! Crashes at every operation of both logs: each message is taken once, and arrives once.
//!
//! A life is a broker in miniature, publishers, a subscriber, the members of a group and a client that gets what is
//! retained around it, all with QoS 2, all on one simulated disk and driven by a seed. Then the machine crashes,
//! everything is opened again, the clients come back with what they remember, and in the end all that is open is brought
//! to its end and counted.

mod broker;
mod campaign;
mod clients;
mod life;
mod ways;

use campaign::{Campaign, Sabotage, points};

/// How many crashes the suite tries; `LASTMILE_CRASH_POINTS=1000000` makes it a campaign.
fn wanted_points() -> u64 {
    let text = std::env::var("LASTMILE_CRASH_POINTS");
    text.map_or(20_000, |text| {
        text.parse().expect("LASTMILE_CRASH_POINTS is a number")
    })
}

#[test]
fn no_crash_loses_or_doubles_a_message() {
    match points(&Campaign {
        points: wanted_points(),
        sabotage: Sabotage::None,
    }) {
        Ok(tried) => println!("{tried:?}"),
        Err(violation) => panic!("{violation}"),
    }
}

/// Runs the same test against something broken, which it must notice.
fn must_notice(sabotage: Sabotage) {
    let campaign = Campaign {
        points: 20_000,
        sabotage,
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
fn ids_that_are_not_digested_are_noticed() {
    must_notice(Sabotage::DigestNothing);
}

#[test]
fn a_pubcomp_before_the_release_is_durable_is_noticed() {
    must_notice(Sabotage::CompleteEarly);
}

#[test]
fn a_message_sent_before_its_id_is_durable_is_noticed() {
    must_notice(Sabotage::SendEarly);
}

#[test]
fn a_message_sent_to_a_member_before_it_is_bound_is_noticed() {
    must_notice(Sabotage::ShareEarly);
}

#[test]
fn a_pubrel_to_a_member_before_its_pubrec_is_durable_is_noticed() {
    must_notice(Sabotage::ReleaseSharedEarly);
}

#[test]
fn a_retained_message_sent_before_its_id_is_durable_is_noticed() {
    must_notice(Sabotage::KeepEarly);
}

#[test]
fn a_pubrel_before_its_pubrec_is_durable_is_noticed() {
    must_notice(Sabotage::ReleaseEarly);
}
