//! Statistics below `$SYS/broker/`.

use std::collections::BTreeMap;
use std::fs;

use ::broker::{AccessSettings, Settings};

use crate::broker::Broker;
use crate::client::Client;

fn every(interval: &str) -> Settings {
    Settings {
        mqtt_sys_interval: Some(interval.parse().unwrap()),
        ..Settings::default()
    }
}

/// Takes statistics until one has a value that suits.
async fn take_until(client: &mut Client, topic: &str, suits: impl Fn(&str) -> bool) {
    loop {
        let message = client.message().await;
        let value = String::from_utf8(message.payload).unwrap();
        if message.topic == topic && suits(&value) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_are_there_at_once_and_follow_what_happens() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(dir.path(), every("50ms")).await;
    let mut publisher = broker.client("p", true).await;
    publisher.publish("t", "x").await;
    for clean in [true, false] {
        let mut client = broker.client("s", clean).await;
        assert_eq!(client.subscribe(&[("$SYS/#", 1)]).await, [1]);
        let mut first = BTreeMap::new();
        while first.len() < 21 {
            let message = client.message().await;
            assert_eq!(message.qos, 0);
            first.insert(message.topic, message.payload);
        }
        let version = &first["$SYS/broker/version"];
        assert!(version.starts_with(b"lastmile version "), "{version:?}");
        assert!(first["$SYS/broker/uptime"].ends_with(b" seconds"));
        for name in [
            "clients/total",
            "messages/received",
            "messages/sent",
            "messages/stored",
            "bytes/received",
            "bytes/sent",
            "subscriptions/count",
            "retained messages/count",
        ] {
            let value = str::from_utf8(&first[&format!("$SYS/broker/{name}")]).unwrap();
            assert!(value.parse::<u64>().is_ok(), "{name}: {value}");
        }
        // One more comes and goes.
        let more = broker.client("more", true).await;
        let topic = "$SYS/broker/clients/connected";
        take_until(&mut client, topic, |value| value == "3").await;
        drop(more);
        take_until(&mut client, topic, |value| value == "2").await;
        publisher.publish("t", "x").await;
        let received = if clean { "2" } else { "3" };
        take_until(&mut client, "$SYS/broker/messages/received", |v| {
            v == received
        })
        .await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_statistics_unasked_and_they_can_be_off() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(dir.path(), every("20ms")).await;
    let mut asks = broker.client("asks", true).await;
    asks.subscribe(&[("$SYS/broker/uptime", 0)]).await;
    let mut others = Vec::new();
    for (id, clean) in [("clean", true), ("lasting", false)] {
        let mut other = broker.client(id, clean).await;
        let filters = [("#", 0), ("+/broker/#", 0), ("+/+/uptime", 0)];
        other.subscribe(&filters).await;
        others.push(other);
    }
    // It runs: some are made, and told to who asks. Nobody reads them from the log, so they are not there.
    for _ in 0..2 {
        asks.message().await;
    }
    for other in &mut others {
        other.expect_quiet().await;
    }
    assert!(broker.records().is_empty());
    broker.stop().await;
    let broker = Broker::start_with(dir.path(), every("0s")).await;
    let mut client = broker.client("s", true).await;
    client.subscribe(&[("$SYS/#", 0)]).await;
    client.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_are_read_only_where_the_rules_allow_them() {
    let dir = tempfile::tempdir().unwrap();
    let acl = dir.path().join("acl");
    for (rule, granted) in [("allow read #", 0x80), ("allow read $SYS/#", 0)] {
        fs::write(&acl, format!("lastmile-acl 1\n[all]\n{rule}\n")).unwrap();
        let settings = Settings {
            access: AccessSettings {
                mqtt_acl_file: Some(acl.clone()),
                ..AccessSettings::default()
            },
            ..every("10s")
        };
        let broker = Broker::start_with(&dir.path().join("data"), settings).await;
        let mut client = broker.client("s", true).await;
        for filter in ["$SYS/#", "$SYS/broker/uptime", "$share/g/$SYS/#"] {
            assert_eq!(
                client.subscribe(&[(filter, 0)]).await,
                [granted],
                "{rule} {filter}"
            );
            if granted == 0 {
                break;
            }
        }
        broker.stop().await;
    }
}
