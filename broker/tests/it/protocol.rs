//! The protocol's rules, one by one.

use ::broker::Settings;
use service::{ByteSize, HumanDuration};

use crate::broker::{Broker, until};
use crate::client::{Client, QOS_1, connect, packet, publish, text};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_packet_is_connect_and_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for first in [
        vec![0xc0, 0],
        publish(0, "a", 0, b""),
        vec![0x00, 0],
        vec![0x20, 0],
    ] {
        let mut client = Client::open(broker.addr()).await;
        client.send(&first).await;
        client.expect_closed().await;
    }
    let mut client = broker.client("a", true).await;
    client.send(&connect("a", 2, 0, &[])).await;
    client.expect_closed().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_versions_are_refused_in_their_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let version = |name: &str, level: u8, rest: &[u8]| {
        let mut body = text(name);
        body.extend_from_slice(&[level, 2, 0, 60]);
        body.extend_from_slice(rest);
        packet(0x10, &body)
    };
    let cases: [(Vec<u8>, &[u8]); 2] = [
        (version("MQIsdp", 3, &[0, 1, b'a']), &[0, 1]),
        (version("MQTT", 9, &[0, 1, b'a']), &[0, 1]),
    ];
    for (connect, refusal) in cases {
        let mut client = Client::open(broker.addr()).await;
        client.send(&connect).await;
        client.expect(0x20, refusal).await;
        client.expect_closed().await;
    }
    assert!(broker.metric("broker_connections_rejected_total") >= 2.0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_client_id_needs_a_clean_session() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut one = broker.client("", true).await;
    let mut other = broker.client("", true).await;
    one.expect_quiet().await;
    other.expect_quiet().await;
    let mut refused = Client::open(broker.addr()).await;
    refused.send(&connect("", 0, 0, &[])).await;
    refused.expect(0x20, &[0, 2]).await;
    refused.expect_closed().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_rules_close_their_connection_only() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut well = broker.client("well", true).await;
    let broken = [
        publish(QOS_1, "a/+", 1, b""),
        publish(QOS_1, "", 1, b""),
        publish(QOS_1, "a\0b", 1, b""),
        publish(QOS_1, "a", 0, b""),
        publish(0b110, "a", 1, b"QoS 3"),
        packet(0x30, &[0, 2, 0xff, 0xfe]),
        vec![0x30, 0xff, 0xff, 0xff, 0xff, 1],
        // A megabyte is announced and never sent.
        vec![0x30, 0x80, 0x80, 0x40],
        packet(0x82, &[0, 1]),
        packet(0x82, &[0, 1, 0, 2, b'a', b'#', 1]),
        packet(0xc0, &[0]),
        packet(0x40, &[0]),
    ];
    for bytes in broken {
        let mut client = broker.client("ill", true).await;
        client.send(&publish(QOS_1, "kept", 5, b"before")).await;
        client.send(&bytes).await;
        // What was right before is taken and acknowledged all the same.
        client.expect(0x40, &[0, 5]).await;
        client.expect_closed().await;
        well.expect_quiet().await;
    }
    assert_eq!(broker.records().len(), 12);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_limited_as_the_client_said() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_connect_timeout: Some(HumanDuration::from_millis(50)),
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    let mut mute = Client::open(broker.addr()).await;
    let mut half = Client::open(broker.addr()).await;
    half.send(&[0x10, 20, 0]).await;
    mute.expect_closed().await;
    half.expect_closed().await;

    let mut endless = broker.client("endless", true).await;
    let mut silent = Client::open(broker.addr()).await;
    silent.send(&connect("silent", 2, 1, &[])).await;
    silent.expect(0x20, &[0, 0]).await;
    silent.expect_closed().await;
    endless.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_and_limited() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_max_connections: Some(2),
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    let one = broker.client("one", true).await;
    let mut two = broker.client("two", true).await;
    let mut three = Client::open(broker.addr()).await;
    three.expect_closed().await;
    one.disconnect().await;
    until("the place is free", || {
        broker.metric("broker_connections") < 2.0
    })
    .await;
    let mut four = broker.client("four", true).await;
    four.expect_quiet().await;
    two.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connect_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for clean in [true, false] {
        let mut first = broker.client("same", clean).await;
        first.subscribe(&[("a", 1)]).await;
        let (mut second, present) = Client::connect(broker.addr(), "same", clean).await;
        assert_eq!(present, !clean);
        first.expect_closed().await;
        second.subscribe(&[("a", 1)]).await;
        let mut publisher = broker.client("publisher", true).await;
        publisher.publish("a", "x").await;
        assert_eq!(second.messages(1).await, ["x"]);
        second.expect_quiet().await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_granted_as_far_as_they_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for clean in [true, false] {
        let mut client = broker.client("a", clean).await;
        let deep = "/".repeat(500);
        let filters = [
            ("a", 0),
            ("b", 1),
            ("c", 2),
            ("$share/g", 1),
            (&*deep, 1),
            ("$SYS/none/#", 0),
        ];
        assert_eq!(client.subscribe(&filters).await, [0, 1, 2, 0x80, 0x80, 0]);
        client.unsubscribe("never/there").await;
        let many: Vec<_> = (0..1000).map(|n| format!("many/{n}")).collect();
        let many: Vec<_> = many.iter().map(|filter| (&**filter, 0)).collect();
        let granted = client.subscribe(&many).await;
        assert_eq!(granted.iter().position(|qos| *qos == 0x80), Some(1000 - 4));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_may_be_as_large_as_the_limit_and_come_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_max_packet_size: Some(ByteSize::kib(100)),
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    let mut client = broker.client("a", true).await;
    let payload = vec![b'x'; 100 * 1024 - 4 - 5];
    let large = publish(QOS_1, "a", 3, &payload);
    assert_eq!(large.len(), 100 * 1024);
    for piece in large.chunks(7001) {
        client.send(piece).await;
    }
    client.expect(0x40, &[0, 3]).await;
    let larger = publish(QOS_1, "a", 4, &[&payload[..], b"y"].concat());
    client.send(&larger[..10]).await;
    client.expect_closed().await;
    broker.stop().await;
}
