//! The command-line clients people have: `mosquitto_pub` and `mosquitto_sub`.

use std::process::{Command, Output, Stdio};

use crate::broker::{Broker, until};

pub(crate) fn installed() -> bool {
    let there = |name| {
        let mut command = Command::new(name);
        command
            .arg("--help")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok()
    };
    let there = there("mosquitto_pub") && there("mosquitto_sub");
    if !there {
        println!("skipped: mosquitto_pub and mosquitto_sub are not installed");
    }
    there
}

/// Runs a client with nothing but these arguments.
pub(crate) async fn run_as(command: &str, arguments: Vec<String>) -> Output {
    let mut command = Command::new(command);
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

async fn run(command: &str, broker: &Broker, arguments: &[&str]) -> Output {
    let port = broker.addr().port().to_string();
    let mut command = Command::new(command);
    command
        .args(["-h", "127.0.0.1", "-p", &port])
        .args(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

async fn publish(broker: &Broker, arguments: &[&str]) {
    let output = run("mosquitto_pub", broker, arguments).await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_clients_publish_and_subscribe() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path()).await;
    let persistent = ["-t", "m/#", "-q", "1", "-i", "me", "-c", "-v", "-W", "20"];
    let none = run(
        "mosquitto_sub",
        &broker,
        &[&persistent[..], &["-E"]].concat(),
    )
    .await;
    assert!(none.status.success(), "{none:?}");
    for (qos, text) in [("0", "zero"), ("1", "one")] {
        publish(&broker, &["-t", "m/a", "-q", qos, "-m", text]).await;
    }
    broker.stop().await;
    broker = Broker::start(dir.path()).await;
    publish(&broker, &["-t", "m/b", "-q", "1", "-m", "two"]).await;
    let got = run(
        "mosquitto_sub",
        &broker,
        &[&persistent[..], &["-C", "3"]].concat(),
    )
    .await;
    assert_eq!(
        String::from_utf8(got.stdout).unwrap(),
        "m/a zero\nm/a one\nm/b two\n"
    );

    for qos in ["0", "1"] {
        let arguments = ["-t", "live", "-q", qos, "-C", "2", "-W", "20"];
        let live = run("mosquitto_sub", &broker, &arguments);
        let publishing = async {
            until("it has subscribed", || {
                broker.metric("broker_live_subscriptions") > 0.5
            })
            .await;
            publish(&broker, &["-t", "live", "-q", qos, "-r", "-m", "retained"]).await;
            publish(&broker, &["-t", "live", "-q", qos, "-m", "last"]).await;
        };
        let (got, ()) = tokio::join!(live, publishing);
        assert_eq!(String::from_utf8(got.stdout).unwrap(), "retained\nlast\n");
        publish(&broker, &["-t", "live", "-q", "1", "-r", "-n"]).await;
        until("nothing is left of it", || {
            broker.metric("broker_live_subscriptions") + broker.metric("broker_retained_messages")
                < 0.5
        })
        .await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_clients_share_a_subscription() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let member = |id| ["-t", "$share/g/m/#", "-q", "1", "-i", id, "-c", "-W", "20"];
    for id in ["one", "two"] {
        let joined = run(
            "mosquitto_sub",
            &broker,
            &[&member(id)[..], &["-E"]].concat(),
        )
        .await;
        assert!(joined.status.success(), "{joined:?}");
    }
    let texts = ["a", "b", "c", "d", "e", "f"];
    for text in texts {
        publish(&broker, &["-t", "m/x", "-q", "1", "-m", text]).await;
    }
    // Each takes three of what waited for them, one after the other.
    let mut got = String::new();
    for id in ["one", "two"] {
        let taken = run(
            "mosquitto_sub",
            &broker,
            &[&member(id)[..], &["-C", "3"]].concat(),
        )
        .await;
        got += str::from_utf8(&taken.stdout).unwrap();
    }
    let mut lines: Vec<_> = got.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert!(
        lines.len() >= 3 && lines.iter().all(|line| texts.contains(line)),
        "{lines:?}"
    );
    // Who connects clean with its id is out of its groups.
    let meta = || {
        broker
            .log()
            .cursors()
            .get("share/g/m/#")
            .map(|cursor| cursor.meta)
    };
    let has = |id: &str| meta().is_some_and(|meta| str::from_utf8(&meta).unwrap().contains(id));
    assert!(has("one") && has("two"));
    for id in ["one", "two"] {
        let ended = run("mosquitto_sub", &broker, &["-i", id, "-t", "x", "-E"]).await;
        assert!(ended.status.success(), "{ended:?}");
        assert!(!has(id));
    }
    assert!(meta().is_none(), "the group has ended");
    // Two at once: what is published now arrives once at one of them.
    let live = ["-t", "$share/live/n", "-q", "1", "-C", "20", "-W", "3"];
    let both = async {
        tokio::join!(
            run("mosquitto_sub", &broker, &live),
            run("mosquitto_sub", &broker, &live)
        )
    };
    let publishing = async {
        until("both are members", || {
            broker.metric("broker_share_members") > 1.5
        })
        .await;
        for number in 0..20 {
            publish(&broker, &["-t", "n", "-q", "1", "-m", &number.to_string()]).await;
        }
    };
    let ((one, two), ()) = tokio::join!(both, publishing);
    let parts = [one.stdout, two.stdout].map(|part| String::from_utf8(part).unwrap());
    assert!(parts.iter().all(|part| !part.is_empty()), "{parts:?}");
    let mut numbers: Vec<u32> = parts
        .iter()
        .flat_map(|part| part.lines())
        .map(|n| n.parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    broker.stop().await;
}
