use rustix::process::{Pid, Signal, kill_process};

use crate::mosquitto::Mosquitto;
use crate::{Finished, ledger, run, start, wait_for_first_acks};

fn url(mosquitto: &Mosquitto) -> String {
    format!("mqtt://127.0.0.1:{}", mosquitto.port)
}

#[test]
fn the_original_flags_simulate_every_order() {
    let Some(mosquitto) = Mosquitto::start("the_original_flags_simulate_every_order") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let path_text = path.to_str().unwrap();
    let arguments = [
        "-d",
        "0",
        "-l",
        "15",
        "-n",
        "50",
        "--mqtt",
        &url(&mosquitto),
        "--ledger",
        path_text,
    ];
    let finished = run(&arguments);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.count("acked"), 750);
    let lines = ledger(&path);
    assert_eq!(lines.len(), 750);
    for worker in 1..=50 {
        let order = format!(
            "\"deliverer_id\":\"{worker}\",\"order_id\":\"{}\",",
            worker * 43
        );
        assert_eq!(
            lines.iter().filter(|line| line.contains(&order)).count(),
            15,
            "{order}"
        );
    }
}

#[test]
fn a_burst_is_acknowledged_to_the_last_message() {
    let Some(mosquitto) = Mosquitto::start("a_burst_is_acknowledged_to_the_last_message") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let path_text = path.to_str().unwrap();
    let url = url(&mosquitto);
    let finished = run(&[
        "--burst",
        "20000",
        "--connections",
        "64",
        "--qos",
        "1",
        "--seed",
        "7",
        "--mqtt",
        &url,
        "--ledger",
        path_text,
    ]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        (finished.count("published"), finished.count("acked")),
        (20_000, 20_000)
    );
    assert_eq!(
        (finished.count("resent"), finished.count("unacknowledged")),
        (0, 0)
    );
    assert!(
        finished.summary["ack_latency_ms"]["p99"].is_number(),
        "{finished:?}"
    );
    assert_eq!(ledger(&path).len(), 20_000);
}

/// Sends a burst through a broker that is killed in the middle and started again.
fn burst_through_a_kill(test: &str, more: &[&str]) -> Option<(Finished, usize)> {
    let mut mosquitto = Mosquitto::start(test)?;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let path_text = path.to_str().unwrap();
    let url = url(&mosquitto);
    let mut arguments = vec!["--burst", "500000", "--connections", "8", "--mqtt", &url];
    arguments.extend(["--ledger", path_text]);
    arguments.extend(more);
    let publisher = start(&arguments);
    wait_for_first_acks(&path);
    mosquitto.kill();
    mosquitto.restart();
    let finished = Finished::of(publisher.wait_with_output().unwrap());
    // A connection that has nothing left to send does not come back, so one is all there must be.
    assert!(finished.count("reconnects") > 0, "{finished:?}");
    Some((finished, ledger(&path).len()))
}

#[test]
fn a_kill_of_the_broker_in_the_middle_of_a_burst_loses_nothing() {
    let test = "a_kill_of_the_broker_in_the_middle_of_a_burst_loses_nothing";
    let Some((finished, lines)) = burst_through_a_kill(test, &[]) else {
        return;
    };
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        (finished.count("published"), finished.count("acked")),
        (500_000, 500_000)
    );
    assert!(finished.count("resent") > 0, "{finished:?}");
    assert_eq!(lines, 500_000);
}

/// Negative control of the test above.
#[cfg(debug_assertions)]
#[test]
fn without_the_window_the_same_kill_loses_messages() {
    let test = "without_the_window_the_same_kill_loses_messages";
    let forget = ["--unsafe-forget-on-reconnect"];
    let Some((finished, lines)) = burst_through_a_kill(test, &forget) else {
        return;
    };
    assert_eq!(finished.count("published"), 500_000);
    assert!(
        finished.count("acked") < 500_000 && lines < 500_000,
        "{finished:?}"
    );
}

/// What is never acknowledged is reported.
#[test]
fn a_broker_that_stays_dead_is_a_failure() {
    let Some(mut mosquitto) = Mosquitto::start("a_broker_that_stays_dead_is_a_failure") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let path_text = path.to_str().unwrap();
    let url = url(&mosquitto);
    let publisher = start(&[
        "--burst",
        "2000000",
        "--connections",
        "2",
        "--give-up",
        "300ms",
        "--mqtt",
        &url,
        "--ledger",
        path_text,
    ]);
    wait_for_first_acks(&path);
    mosquitto.kill();
    let finished = Finished::of(publisher.wait_with_output().unwrap());
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.count("unacknowledged") > 0, "{finished:?}");
    let acked = finished.count("acked");
    assert_eq!(
        finished.count("published"),
        acked + finished.count("unacknowledged")
    );
    assert_eq!(ledger(&path).len() as u64, acked);
}

#[test]
fn an_interrupt_ends_the_sending_and_waits_for_the_acks() {
    let test = "an_interrupt_ends_the_sending_and_waits_for_the_acks";
    let Some(mosquitto) = Mosquitto::start(test) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let path_text = path.to_str().unwrap();
    let url = url(&mosquitto);
    let publisher = start(&["-d", "30", "--mqtt", &url, "--ledger", path_text]);
    wait_for_first_acks(&path);
    let id = Pid::from_child(&publisher);
    kill_process(id, Signal::INT).unwrap();
    let finished = Finished::of(publisher.wait_with_output().unwrap());
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let published = finished.count("published");
    assert!(published > 0 && published < 750, "{finished:?}");
    assert_eq!(finished.count("acked"), published);
    assert_eq!(ledger(&path).len() as u64, published);
}

#[test]
fn an_interrupt_without_a_broker_still_ends_with_a_summary() {
    let test = "an_interrupt_without_a_broker_still_ends_with_a_summary";
    let Some(mut mosquitto) = Mosquitto::start(test) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let path_text = path.to_str().unwrap();
    let url = url(&mosquitto);
    let mut arguments = vec!["--burst", "2000000", "--connections", "2", "--mqtt", &url];
    arguments.extend(["--ledger", path_text, "--stop-timeout", "400ms"]);
    let publisher = start(&arguments);
    wait_for_first_acks(&path);
    mosquitto.kill();
    kill_process(Pid::from_child(&publisher), Signal::INT).unwrap();
    let finished = Finished::of(publisher.wait_with_output().unwrap());
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.count("unacknowledged") > 0, "{finished:?}");
    assert_eq!(ledger(&path).len() as u64, finished.count("acked"));
}

#[test]
fn qos_0_publishes_without_acks() {
    let Some(mosquitto) = Mosquitto::start("qos_0_publishes_without_acks") else {
        return;
    };
    let url = url(&mosquitto);
    let finished = run(&["--burst", "5000", "--qos", "0", "--mqtt", &url]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        (finished.count("published"), finished.count("acked")),
        (5_000, 0)
    );
}

#[test]
fn wrong_settings_are_named_all_at_once() {
    let finished = run(&["--qos", "2", "-n", "0", "--mqtt", "http://x", "--rate=-1"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    for name in ["qos", "workers", "mqtt", "rate"] {
        assert!(
            finished.stderr.contains(&format!("  {name} ")),
            "{name}: {}",
            finished.stderr
        );
    }
}
