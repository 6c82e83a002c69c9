use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use mqtt_client::{ConnectOptions, Consumer, ConsumerOptions};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::mosquitto::Mosquitto;
use crate::{PATIENCE, ledger, run};

const EVENTS: usize = 200;

/// Events of seven vehicles in turn, and a line that is none in the middle.
fn file() -> String {
    let mut text = String::new();
    for number in 0..EVENTS {
        if number == 100 {
            text.push_str("{\"event\":\"explode\"}\n");
        }
        writeln!(
            text,
            r#"{{"event":"update","on":"vehicle","at":"2019-06-01T18:17:10.{number:03}Z","data":{{"id":"v{}","location":{{"lat":52.4,"lng":13.4,"at":null}}}},"organization_id":"org/1"}}"#,
            number % 7
        )
        .unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_in_order_for_each_vehicle_and_bad_lines_are_named() {
    let test = "events_arrive_in_order_for_each_vehicle_and_bad_lines_are_named";
    let Some(mosquitto) = Mosquitto::start(test) else {
        return;
    };
    let connect = ConnectOptions::new("127.0.0.1", mosquitto.port, "test");
    let (mut consumer, task) = Consumer::new(ConsumerOptions::new(connect, ["fleet/+/events"]));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(task.run(CancellationToken::new()));
    consumer
        .connected()
        .wait_for(|&connected| connected)
        .await
        .unwrap();

    let directory = tempfile::tempdir().unwrap();
    let ledger_path = directory.path().join("ledger");
    let file_path = directory.path().join("events.jsonl.gz");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(file().as_bytes()).unwrap();
    std::fs::write(&file_path, gzip.finish().unwrap()).unwrap();
    let url = format!("mqtt://127.0.0.1:{}", mosquitto.port);
    let finished = {
        let (file, ledger) = (file_path.clone(), ledger_path.clone());
        let run = move || {
            let (file, ledger) = (file.to_str().unwrap(), ledger.to_str().unwrap());
            run(&[
                "replay",
                file,
                "--connections",
                "3",
                "--mqtt",
                &url,
                "--ledger",
                ledger,
            ])
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    };
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        (finished.count("acked"), finished.count("invalid_lines")),
        (EVENTS as u64, 1)
    );
    assert!(
        finished.stderr.contains("\"line\":101"),
        "{}",
        finished.stderr
    );
    assert_eq!(ledger(&ledger_path).len(), EVENTS);

    let mut last: HashMap<String, String> = HashMap::new();
    for _ in 0..EVENTS {
        let message = tokio::time::timeout(PATIENCE, consumer.next())
            .await
            .unwrap()
            .unwrap();
        consumer.ack_through(message.token);
        assert_eq!(message.topic, "fleet/org_1/events");
        let event: Value = serde_json::from_slice(&message.payload).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let at = text(&event["at"]);
        let earlier = last.insert(text(&event["data"]["id"]), at.clone());
        assert!(earlier.is_none_or(|earlier| earlier < at), "out of order");
    }
    assert_eq!(last.len(), 7);
}

#[test]
fn a_file_that_is_not_there_is_a_failure() {
    let finished = run(&["replay", "/nowhere/events.jsonl"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("/nowhere/events.jsonl cannot be read"),
        "{finished:?}"
    );
}
