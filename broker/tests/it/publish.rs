//! Publishing: what an acknowledgement means, and in which order they come.

use crate::broker::{Broker, until};
use crate::client::Client;
use crate::client::{QOS_1, connect, publish, text};

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_come_in_order_and_after_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut client = broker.client("a", true).await;
    let mut bytes = Vec::new();
    for id in 1..=5000_u16 {
        let payload = id.to_string();
        bytes.extend(publish(QOS_1, "a/b", id, payload.as_bytes()));
        if id % 10 == 0 {
            bytes.extend(publish(0, "not/acknowledged", 0, payload.as_bytes()));
        }
    }
    client.send(&bytes).await;
    for id in 1..=5000_u16 {
        client.expect(0x40, &id.to_be_bytes()).await;
        if id % 1000 == 0 {
            assert!(broker.log().next_durable() >= u64::from(id));
        }
    }
    client.send(&[0xe0, 0]).await;
    client.expect_closed().await;
    let kept: Vec<_> = broker.records();
    let on = |topic: &str| {
        let on_topic = kept.iter().filter(|record| record.0 == topic);
        let numbers = on_topic.map(|r| String::from_utf8(r.1.clone()).unwrap().parse::<u16>());
        numbers.map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(on("a/b"), (1..=5000).collect::<Vec<_>>());
    assert_eq!(
        on("not/acknowledged"),
        (1..=500).map(|n| n * 10).collect::<Vec<_>>()
    );
    assert!((broker.metric("broker_messages_received_total") - 5500.0).abs() < 0.5);
    assert!((broker.metric("broker_messages_acknowledged_total") - 5000.0).abs() < 0.5);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_leaving_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for (id, leave) in [("polite", &[0xe0, 0][..]), ("rude", &[])] {
        let mut client = broker.client(id, true).await;
        let mut bytes = publish(0, "a", 0, b"0");
        bytes.extend(publish(QOS_1, "a", 1, b"1"));
        bytes.extend_from_slice(leave);
        client.send(&bytes).await;
        drop(client);
    }
    until("all is kept", || broker.records().len() == 4).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_was_taken() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut client = broker.client("a", true).await;
    let mut sent = 0_u64;
    for id in 1..=2000_u16 {
        client.send(&publish(QOS_1, "a", id, b"x")).await;
        sent += 1;
    }
    let log = broker.log().clone();
    broker.stop().await;
    let mut acknowledged = 0;
    while client.receive().await.is_some() {
        acknowledged += 1;
    }
    assert!(acknowledged <= log.next_durable() && log.next_durable() <= sent);
    // What the log took was answered before the connection was closed.
    assert_eq!(acknowledged, log.next_durable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_is_published_unless_the_client_says_goodbye() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let will = [text("wills/a"), text("gone")].concat();
    // Clean session, will, QoS 1 for it.
    let flags = 0b0000_1110;
    for says_goodbye in [true, false] {
        let mut client = Client::open(broker.addr()).await;
        client.send(&connect("a", flags, 0, &will)).await;
        client.expect(0x20, &[0, 0]).await;
        if says_goodbye {
            client.disconnect().await;
        }
    }
    until("the will is there", || !broker.records().is_empty()).await;
    assert_eq!(broker.records(), [("wills/a".to_owned(), b"gone".to_vec())]);
    broker.stop().await;
}
