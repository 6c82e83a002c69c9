//! The command-line clients people have: `mosquitto_pub` and `mosquitto_sub`.

use std::process::{Command, Output, Stdio};

use crate::broker::{Broker, until};

fn installed() -> bool {
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
