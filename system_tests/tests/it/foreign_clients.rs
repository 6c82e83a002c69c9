//! Third-party MQTT clients against our front: publishing, live subscriptions, and sessions that keep
//! messages for a client that is away, also while our process is killed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use system_tests::pipeline::{Counts, Pipeline};
use system_tests::process::{Launch, Process};
use system_tests::{poll, python, skip};

/// How long one client's task may take.
const CLIENT_PATIENCE: Duration = Duration::from_mins(2);

/// The versions of MQTT the broker speaks.
const PROTOCOLS: [&str; 2] = ["3.1.1", "5"];

fn payload(number: usize) -> String {
    let second = number % 60;
    let minute = number / 60 % 60;
    format!(
        "{{\"order_id\":\"foreign-1\",\"deliverer_id\":\"7\",\"delivery_state\":\"on_the_way\",\
         \"timestamp\":\"2026-01-02T03:{minute:02}:{second:02}Z\",\"lat\":52.1,\"lon\":4.9,\"seq\":{number}}}"
    )
}

/// Runs one action of the paho script and returns its result.
fn paho(python: &Path, pipeline: &Pipeline, action: &str, args: &[&str]) -> Value {
    paho_launch(python, pipeline, action, args)
        .run(CLIENT_PATIENCE)
        .unwrap()
        .success()
        .unwrap()
        .json()
        .unwrap()
}

fn paho_launch(python: &Path, pipeline: &Pipeline, action: &str, args: &[&str]) -> Launch {
    python::script(python, "paho_client.py", pipeline.folder())
        .args([action, "--port", &pipeline.mqtt_port().unwrap()])
        .args(args)
}

/// Waits until the client says that it is subscribed.
fn until_subscribed(client: &Process, sign: &str) {
    poll::until("the subscription", poll::PATIENCE, || {
        let line = client.line(poll::PATIENCE);
        Ok(line.filter(|line| line.contains(sign)))
    })
    .unwrap();
}

fn payloads(result: &Value) -> Vec<&str> {
    let messages = result["messages"].as_array().unwrap();
    let payload = |message: &'_ Value| message["payload"].as_str().map(str::len);
    assert!(messages.iter().all(|message| payload(message).is_some()));
    messages
        .iter()
        .filter_map(|message| message["payload"].as_str())
        .collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Drops repeats of messages: QoS 1 promises at least once, in order.
fn without_repeats(received: &[&str]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    received
        .iter()
        .filter(|payload| seen.insert(**payload))
        .map(|&payload| payload.to_owned())
        .collect()
}

fn mosquitto(test: &str, program: &str, pipeline: &Pipeline) -> Option<Launch> {
    let found = Command::new(program).arg("--help").output().is_ok();
    if !found {
        skip::report(
            test,
            &format!("needs {program}; run tools/install.sh as root"),
        );
        return None;
    }
    let port = pipeline.mqtt_port().unwrap();
    // Into a pipe it would print what it receives only at its end.
    let launch = Launch::of(program, "stdbuf", pipeline.folder());
    Some(launch.args(["-oL", program, "-p", &port]))
}

#[test]
fn paho_publishes_and_receives_live_in_order() {
    let test = "foreign_clients::paho_publishes_and_receives_live_in_order";
    let Some(python) = python::with_modules(test, &["paho.mqtt"]) else {
        return;
    };
    let pipeline = Pipeline::start(&[]).unwrap();
    for protocol in PROTOCOLS {
        for qos in ["0", "1"] {
            let name = format!("live-{protocol}-{qos}");
            let topic = format!("apps/{name}");
            let common = [
                "--protocol",
                protocol,
                "--clean",
                "--qos",
                qos,
                "--topic",
                &topic,
            ];
            let listener = paho_launch(&python, &pipeline, "collect", &common)
                .args(["--client-id", &name, "--count", "300"])
                .start()
                .unwrap();
            until_subscribed(&listener, "subscribed");
            let sender = format!("{name}-sender");
            let sent = paho(
                &python,
                &pipeline,
                "publish",
                &[&common[..], &["--client-id", &sender, "--count", "300"]].concat(),
            );
            assert_eq!(sent["acknowledged"], 300, "{name}");
            let result = listener.finish(CLIENT_PATIENCE).unwrap().success().unwrap();
            let result = result.json().unwrap();
            assert_eq!(payloads(&result), numbers(0..300), "{name}");
        }
    }
}

#[test]
fn paho_offline_messages_survive_kill_9_in_order() {
    let test = "foreign_clients::paho_offline_messages_survive_kill_9_in_order";
    let Some(python) = python::with_modules(test, &["paho.mqtt"]) else {
        return;
    };
    let mut pipeline = Pipeline::start(&[]).unwrap();
    for protocol in PROTOCOLS {
        let name = format!("away-{protocol}");
        let topic = format!("apps/{name}");
        let session = [
            "--protocol",
            protocol,
            "--client-id",
            &name,
            "--topic",
            &topic,
        ];
        let first = paho(&python, &pipeline, "subscribe", &session);
        assert_eq!(first["session_present"], false, "{name}");
        pipeline.kill_and_restart().unwrap();
        let sender = format!("{name}-sender");
        let send = |pipeline: &Pipeline, from: &str| {
            let sent = paho(
                &python,
                pipeline,
                "publish",
                &[
                    "--protocol",
                    protocol,
                    "--client-id",
                    &sender,
                    "--clean",
                    "--topic",
                    &topic,
                    "--first",
                    from,
                    "--count",
                    "200",
                ],
            );
            assert_eq!(sent["acknowledged"], 200, "{name}");
        };
        send(&pipeline, "0");
        pipeline.kill_and_restart().unwrap();
        send(&pipeline, "200");
        let resume = [&session[..], &["--resume", "--count", "400"]].concat();
        let result = paho(&python, &pipeline, "collect", &resume);
        assert_eq!(result["session_present"], true, "{name}");
        assert_eq!(
            without_repeats(&payloads(&result)),
            numbers(0..400),
            "{name}"
        );
    }
}

/// The topic and the session of the `mosquitto_sub` that goes away and comes back.
const AWAY: [&str; 7] = [
    "-i",
    "ms-away",
    "-c",
    "-q",
    "1",
    "-t",
    "deliveries/7/location",
];

/// Publishes half of the lines at QoS 0 and half at QoS 1, each over one connection.
fn publish_lines(test: &str, pipeline: &Pipeline, lines: &[String]) {
    let (first, second) = lines.split_at(lines.len() / 2);
    for (qos, half) in [("0", first), ("1", second)] {
        let sender = mosquitto(test, "mosquitto_pub", pipeline).unwrap();
        sender
            .args([
                "-i",
                "ms-sender",
                "-q",
                qos,
                "-t",
                "deliveries/7/location",
                "-l",
            ])
            .stdin(half.join("\n") + "\n")
            .run(CLIENT_PATIENCE)
            .unwrap()
            .success()
            .unwrap();
    }
}

#[test]
fn mosquitto_clients_publish_and_subscribe_in_order() {
    let test = "foreign_clients::mosquitto_clients_publish_and_subscribe_in_order";
    let mut pipeline = Pipeline::start(&[]).unwrap();
    let Some(away) = mosquitto(test, "mosquitto_sub", &pipeline) else {
        return;
    };
    let left = away.args(AWAY).arg("-E").run(CLIENT_PATIENCE).unwrap();
    left.success().unwrap();
    let live = mosquitto(test, "mosquitto_sub", &pipeline)
        .unwrap()
        .args(["-i", "ms-live", "-q", "1", "-t", "deliveries/#"])
        .args(["-C", "200", "-W", "100", "-d", "-F", "MSG %p"])
        .start()
        .unwrap();
    until_subscribed(&live, "Subscribed");

    let lines: Vec<String> = (0..200).map(payload).collect();
    publish_lines(test, &pipeline, &lines);
    let heard = live.finish(CLIENT_PATIENCE).unwrap().success().unwrap();
    let heard = heard.stdout.lines();
    let heard: Vec<&str> = heard.filter_map(|line| line.strip_prefix("MSG ")).collect();
    assert_eq!(heard, lines);

    pipeline.kill_and_restart().unwrap();
    let back = mosquitto(test, "mosquitto_sub", &pipeline).unwrap();
    let back = back.args(AWAY).args(["-C", "200", "-W", "100"]);
    let back = back.run(CLIENT_PATIENCE).unwrap().success().unwrap();
    let received: Vec<&str> = back.stdout.lines().collect();
    assert_eq!(without_repeats(&received), lines);

    let stored = Counts {
        positions: 200,
        ..Counts::default()
    };
    pipeline.until_counts(stored, poll::PATIENCE).unwrap();
    let path = "/api/v1/orders/foreign-1/location";
    let last = pipeline.http().json(path).unwrap();
    assert_eq!(last["seq"], 199, "{last}");
}
