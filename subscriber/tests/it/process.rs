//! The program over a real mosquitto: killed, starved of its store, and without its broker.

use system_tests::poll;

use crate::world::{PATIENCE, World, publish};

#[test]
fn what_a_killed_subscriber_took_is_stored_by_the_next_and_once() {
    let test = "process::what_a_killed_subscriber_took_is_stored_by_the_next_and_once";
    let Some(world) = World::with_broker(test) else {
        return;
    };
    let mut subscriber = world.start_ready("first", &["--connections", "3"]);
    let port = world.port();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| publish(port, 0..20_000, 0));
        for round in 0..3 {
            // Each kill falls into the stream.
            subscriber.until_metric("subscriber_stored_total", 500);
            subscriber.process.kill().unwrap();
            subscriber = world.start_ready(&format!("next-{round}"), &["--connections", "3"]);
        }
        load.join().unwrap();
    });
    world.until_stored(20_000);
    assert_eq!(world.counts().positions, 20_000);
    subscriber.settles();
    assert_eq!(subscriber.process.terminate().unwrap().code(), Some(0));
}

/// Kills a subscriber that has taken messages and could store none of them; returns how many of 500 are in
/// the store in the end.
fn kill_with_nothing_stored(test: &str, arguments: &[&str], taken: u64) -> Option<u64> {
    let world = World::with_broker(test)?;
    let mut subscriber = world.start_ready("first", arguments);
    let lock = world.lock_store(test)?;
    world.publish(0..500, 0);
    subscriber.until_metric("subscriber_received_total", taken);
    subscriber.process.kill().unwrap();
    drop(lock);
    let next = world.start_ready("next", &[]);
    // One session keeps the order, so what is published last is stored last.
    world.publish(500..501, 0);
    let marked = || world.has(500);
    poll::until("the last message", PATIENCE, || Ok(marked().then_some(()))).unwrap();
    next.settles();
    Some(world.counts().positions - 1)
}

#[test]
fn nothing_is_acknowledged_before_it_is_stored() {
    let test = "process::nothing_is_acknowledged_before_it_is_stored";
    let Some(stored) = kill_with_nothing_stored(test, &[], 20) else {
        return;
    };
    assert_eq!(stored, 500);
}

#[cfg(debug_assertions)]
#[test]
fn control_acknowledging_first_loses_messages() {
    let test = "process::control_acknowledging_first_loses_messages";
    // All of them, where mosquitto's window is 20: they were acknowledged.
    let Some(stored) = kill_with_nothing_stored(test, &["--unsafe-ack-before-commit"], 500) else {
        return;
    };
    assert_eq!(stored, 0, "the kill test would not notice a loss");
}

#[test]
fn a_store_that_hangs_stops_the_reading_and_costs_nothing() {
    let test = "process::a_store_that_hangs_stops_the_reading_and_costs_nothing";
    let Some(mut world) = World::new(test) else {
        return;
    };
    // As many in flight as the protocol allows, so that only the receive buffer bounds.
    world.start_broker_with("max_inflight_messages 0\nmax_queued_bytes 0\n");
    let bounds = ["--receive-buffer", "1MiB", "--batch-bytes", "256KiB"];
    let subscriber = world.start_ready("subscriber", &bounds);
    let Some(lock) = world.lock_store(test) else {
        return;
    };
    // 20 MB. Two batches and the piece that fills each are 1 MiB; the buffer before them is not counted.
    world.publish(0..2_000, 10_000);
    subscriber.until_not_ready("store");
    let received = subscriber.metric("subscriber_received_total");
    assert!((1..120).contains(&received), "{received} messages are held");
    assert_eq!(subscriber.metric("subscriber_stored_total"), 0);
    drop(lock);
    world.until_stored(2_000);
    subscriber.until_ready();
    subscriber.settles();
    assert_eq!(world.counts().positions, 2_000);
    // The connection lasted: nothing came a second time.
    assert_eq!(subscriber.metric("subscriber_duplicate_total"), 0);
}

#[test]
fn it_waits_for_its_broker_and_comes_back_to_it() {
    let test = "process::it_waits_for_its_broker_and_comes_back_to_it";
    let Some(mut world) = World::new(test) else {
        return;
    };
    let mut subscriber = world.start("subscriber", &["--connections", "2"]);
    subscriber.until_not_ready("refused");
    world.start_broker();
    subscriber.until_ready();
    world.publish(0..300, 0);
    world.until_stored(300);
    world.kill_broker();
    subscriber.until_not_ready("broker");
    world.start_broker();
    subscriber.until_ready();
    // This mosquitto forgot the sessions; they were made again.
    world.publish(300..600, 0);
    world.until_stored(600);
    assert_eq!(subscriber.process.terminate().unwrap().code(), Some(0));
}

#[test]
fn replicas_lease_numbers_and_the_number_of_a_dead_one_is_taken() {
    let test = "process::replicas_lease_numbers_and_the_number_of_a_dead_one_is_taken";
    let Some(world) = World::with_broker(test) else {
        return;
    };
    let auto = ["--replica", "auto"];
    let mut zero = world.start("zero", &auto);
    zero.until_ready();
    let one = world.start("one", &auto);
    one.until_ready();
    world.publish(0..1_000, 0);
    world.until_stored(1_000);
    assert!(zero.metric("subscriber_stored_total") > 0);
    assert!(one.metric("subscriber_stored_total") > 0);
    zero.process.kill().unwrap();
    // What mosquitto gave to the dead one waits for its number.
    world.publish(1_000..2_000, 0);
    let heir = world.start("heir", &auto);
    heir.until_ready();
    world.until_stored(2_000);
    assert_eq!(world.counts().positions, 2_000);
    for (subscriber, number) in [(&zero, 0), (&one, 1), (&heir, 0)] {
        let said = subscriber.process.stderr();
        let leased = format!("\"replica\":{number}");
        assert!(said.contains(&leased), "{leased} is missing in {said}");
    }
}
