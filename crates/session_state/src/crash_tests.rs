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

/// Returns a number from the environment.
fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| {
        let number = text.parse();
        number.unwrap_or_else(|_| panic!("{name} is {text:?}; give a number"))
    })
}

/// `LASTMILE_CRASH_POINTS=1000000` makes it a campaign, and `LASTMILE_CRASH_SEED` lets it begin elsewhere.
#[test]
fn no_crash_loses_or_doubles_a_message() {
    match points(&Campaign {
        first_seed: number("LASTMILE_CRASH_SEED", 0),
        points: number("LASTMILE_CRASH_POINTS", 20_000),
        sabotage: Sabotage::None,
    }) {
        Ok(tried) => println!("{tried:?}"),
        Err(violation) => panic!("{violation}"),
    }
}

/// Runs the same test against something broken, which it must notice.
fn must_notice(sabotage: Sabotage) {
    let campaign = Campaign {
        first_seed: 0,
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
