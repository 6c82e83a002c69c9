//! The five services as separate processes over a MongoDB-protocol server: what is published is
//! acknowledged, stored once, counted by every API and offloaded to the lake.

use std::path::Path;
use std::time::Duration;

use system_tests::kill_loop::Reconciliation;
use system_tests::pipeline::{self, Counts};
use system_tests::process::Finished;
use system_tests::publisher::{self, Burst, Identity, Summary};
use system_tests::services::{Options, Part, Programs, Replicas, Services};
use system_tests::{mosquitto, poll, python, services_loop};

use crate::door2door::{EVENTS, UPDATES, sample};
use crate::heavy;

const PATIENCE: Duration = Duration::from_mins(10);

/// Messages of the burst that two subscribers share.
const BURST: u64 = 200_000;

/// Orders whose last position is asked for by HTTP.
const SAMPLED_ORDERS: usize = 100;

fn positions(positions: u64) -> Counts {
    Counts {
        positions,
        ..Counts::default()
    }
}

fn exact(messages: u64) -> Reconciliation {
    Reconciliation {
        acked: messages,
        stored: messages,
        counted: messages,
        ..Reconciliation::default()
    }
}

/// Sends a burst as fast as it is taken; returns its ledger once everything is stored.
fn burst_until_stored(services: &Services, messages: u64) -> std::path::PathBuf {
    let ledger = services.folder().join("ledger.ndjson");
    let burst = Burst {
        mqtt: services.mqtt_address(),
        messages,
        connections: 8,
        ledger: Some(ledger.clone()),
        rate: None,
    };
    let program = Programs::dev().unwrap().publisher;
    let finished = burst
        .launch(&program, services.folder())
        .run(PATIENCE)
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(Summary::read(&finished).unwrap().acked, messages);
    services
        .until_counts(positions(messages), PATIENCE)
        .unwrap();
    ledger
}

/// Most messages of which the API is asked for every one: the test server reads all positions for each page of a
/// history, so the time grows with the square. The database itself is always compared line by line.
const ASKED_ONE_BY_ONE: u64 = 30_000;

/// Every reader agrees with the ledger.
fn check(services: &Services, ledger: &Path, messages: u64, lake: Option<&Path>) {
    let found = services_loop::compare(services, ledger, lake).unwrap();
    assert_eq!(found, exact(messages));
    if messages <= ASKED_ONE_BY_ONE {
        let program = Programs::dev().unwrap().publisher;
        services_loop::verify(services, &program, ledger).unwrap();
    }
}

#[test]
fn the_sample_arrives_whole_in_database_and_lake() {
    let test = "services::the_sample_arrives_whole_in_database_and_lake";
    let Some(sample) = sample(test) else { return };
    let _turn = heavy::turn();
    let options = Options::new(Programs::dev().unwrap());
    let Some(mut services) = Services::start(test, options).unwrap() else {
        return;
    };
    let program = Programs::dev().unwrap().publisher;
    let ledger = services.folder().join("ledger.ndjson");
    let finished = publisher::replay(
        &program,
        &sample,
        &services.mqtt_address(),
        services.folder(),
    )
    .arg("--ledger")
    .arg(&ledger)
    .run(PATIENCE)
    .unwrap()
    .success()
    .unwrap();
    assert_eq!(Summary::read(&finished).unwrap().acked, EVENTS);
    let whole = Counts {
        positions: UPDATES,
        fleet_events: EVENTS,
        rejected: 0,
    };
    services.until_counts(whole, PATIENCE).unwrap();
    println!(
        "{}",
        services_loop::verify(&services, &program, &ledger).unwrap()
    );
    run_check(&services, "check_mongo_events.py", &[&sample]);

    let python = python::with_modules(test, &["duckdb", "pyarrow", "deltalake"]);
    if python.is_some() {
        services.offload().unwrap();
        run_check(&services, "check_lake.py", &[&services.lake(), &sample]);
    }
    services.stop().unwrap();
}

fn run_check(services: &Services, script: &str, args: &[&Path]) -> Finished {
    let database = services.database();
    let launch = python::script(database.python(), script, services.folder()).args(args);
    let finished = database.reached_by(launch).run(PATIENCE).unwrap();
    assert!(
        finished.status.success(),
        "{} {}",
        finished.stdout,
        finished.stderr
    );
    finished
}

#[test]
fn a_burst_shared_by_two_subscribers_is_stored_once() {
    let test = "services::a_burst_shared_by_two_subscribers_is_stored_once";
    let _turn = heavy::turn();
    let options = Options {
        subscribers: 2,
        connections: 2,
        ..Options::new(Programs::dev().unwrap())
    };
    let Some(mut services) = Services::start(test, options).unwrap() else {
        return;
    };
    let ledger = burst_until_stored(&services, BURST);
    check(&services, &ledger, BURST, None);
    last_positions_are_right(&services, &ledger);
    let shares = [0, 1].map(|number| {
        let part = Part::Subscriber(number);
        services.metric(part, "subscriber_stored_total").unwrap()
    });
    println!("stored by each subscriber: {shares:?}");
    assert!(shares.iter().all(|share| *share > 0.0), "{shares:?}");
    services.stop().unwrap();
}

/// Asks every API for the last position of some orders.
fn last_positions_are_right(services: &Services, ledger: &Path) {
    for last in Identity::last_of_orders(ledger, SAMPLED_ORDERS).unwrap() {
        let path = format!("/api/v1/orders/{}/location", last.order_id);
        let mut number = 0;
        while let Some(http) = services.http(number) {
            let answer = http.json(&path).unwrap();
            assert_eq!(
                answer["seq"].as_u64(),
                Some(last.seq),
                "API {number}: {answer}"
            );
            number += 1;
        }
    }
}

/// Three subscribers and three APIs come up together: each subscriber has a number of its own, every API
/// counts the same, and when one subscriber dies the others take what it had not stored.
#[test]
fn replicas_share_the_work_and_agree() {
    let test = "services::replicas_share_the_work_and_agree";
    let _turn = heavy::turn();
    let options = Options {
        subscribers: 3,
        replicas: Replicas::Leased,
        connections: 1,
        apis: 3,
        ..Options::new(Programs::dev().unwrap())
    };
    let Some(mut services) = Services::start(test, options).unwrap() else {
        return;
    };
    let messages = 30_000;
    let ledger = services.folder().join("ledger.ndjson");
    let burst = Burst {
        mqtt: services.mqtt_address(),
        messages,
        connections: 8,
        ledger: Some(ledger.clone()),
        rate: Some(6_000),
    };
    let program = Programs::dev().unwrap().publisher;
    let load = burst.launch(&program, services.folder()).start().unwrap();
    poll::until("something to be stored", PATIENCE, || {
        Ok(services.counts().ok().filter(|counts| counts.positions > 0))
    })
    .unwrap();
    // It does not come back: what it took and did not acknowledge is the others' now.
    services.kill(&[Part::Subscriber(1)]).unwrap();
    let finished = load.finish(PATIENCE).unwrap().success().unwrap();
    assert_eq!(Summary::read(&finished).unwrap().acked, messages);
    services
        .until_counts(positions(messages), PATIENCE)
        .unwrap();
    check(&services, &ledger, messages, None);
    last_positions_are_right(&services, &ledger);
    for number in 0..3 {
        let counts = pipeline::counts(services.http(number).unwrap()).unwrap();
        assert_eq!(counts, positions(messages), "API {number}");
    }
}

/// The same subscriber on another broker.
#[test]
fn a_burst_through_mosquitto_is_stored_once() {
    let test = "services::a_burst_through_mosquitto_is_stored_once";
    if !mosquitto::is_installed(test) {
        return;
    }
    let _turn = heavy::turn();
    let options = Options {
        mosquitto: true,
        subscribers: 2,
        ..Options::new(Programs::dev().unwrap())
    };
    let Some(mut services) = Services::start(test, options).unwrap() else {
        return;
    };
    let messages = 20_000;
    let ledger = burst_until_stored(&services, messages);
    check(&services, &ledger, messages, None);
    services.stop().unwrap();
}
