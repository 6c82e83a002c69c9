//! MQTT 5 on the wire: what client and broker agree on, what is passed on, and how a connection ends.

use ::broker::{SessionSettings, Settings};
use service::ByteSize;

use crate::broker::Broker;
use crate::client::{Client, QOS_1, RETAIN, connect as connect3, packet, text};
use crate::v5::{CLEAN, connect, four, publish, two, user};

/// Finds a property of two bytes in what the tests know to be no other's value.
fn has(properties: &[u8], wanted: &[u8]) -> bool {
    properties
        .windows(wanted.len())
        .any(|there| there == wanted)
}

#[tokio::test(flavor = "multi_thread")]
async fn connack_says_what_holds() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_max_packet_size: Some(ByteSize::kib(2)),
        sessions: SessionSettings {
            mqtt_receive_maximum: Some(9),
            mqtt_topic_aliases: Some(5),
            mqtt_max_keep_alive: Some(30),
            mqtt_max_session_expiry: Some("100s".parse().unwrap()),
            ..SessionSettings::default()
        },
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    let wanted = [four(0x11, 1000), vec![0x19, 1]].concat();
    let (_client, present, said) = Client::connect5(broker.addr(), "", CLEAN, &wanted).await;
    assert!(!present);
    for property in [
        &two(0x21, 9)[..],
        &four(0x27, 2048),
        &two(0x22, 5),
        &two(0x13, 30),
        &four(0x11, 100),
        &[&[0x12][..], &text("auto-")[2..]].concat()[..1],
        b"responses/auto-",
    ] {
        assert!(has(&said, property), "{property:?} in {said:?}");
    }
    // Nothing is said where the client gets what it asked for, and no response information unasked.
    let (_client, _, said) = Client::connect5(broker.addr(), "x", CLEAN, &four(0x11, 7)).await;
    assert!(
        !has(&said, &[0x11, 0, 0]) && !has(&said, b"responses"),
        "{said:?}"
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_connect_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let method = [&[0x15][..], &text("SCRAM-SHA-1")].concat();
    let long = "x".repeat(2000);
    let cases = [
        (connect("a", CLEAN, &method, &[]), 0x8c),
        (connect("a", CLEAN, &two(0x21, 0), &[]), 0x82),
        (connect("a", CLEAN | 1, &[], &[]), 0x81),
        (connect("a", CLEAN, &[0x23, 0, 1], &[]), 0x81),
        (connect("a", CLEAN, &[], &[0]), 0x81),
        (connect("a\0", CLEAN, &[], &[]), 0x81),
        (connect(&long, CLEAN, &[], &[]), 0x85),
        // A will with a wildcard in its topic.
        (
            connect(
                "a",
                CLEAN | 4,
                &[],
                &[&[0][..], &text("w/#"), &text("")].concat(),
            ),
            0x90,
        ),
    ];
    for (bytes, reason) in cases {
        let mut client = Client::open(broker.addr()).await;
        client.send(&bytes).await;
        let answer = client.receive().await.unwrap();
        assert_eq!(
            (answer.first, &answer.body[..2]),
            (0x20, &[0, reason][..]),
            "{bytes:?}"
        );
        client.expect_closed().await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_are_passed_on_unchanged_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let (mut live, ..) = Client::connect5(broker.addr(), "live", CLEAN, &[]).await;
    let (mut durable, ..) = Client::connect5(broker.addr(), "d", 0, &four(0x11, 1000)).await;
    let (mut member, ..) = Client::connect5(broker.addr(), "m", CLEAN, &[]).await;
    let mut old = broker.client("old", true).await;
    assert_eq!(live.subscribe5(&[("p/#", 1)], &[]).await, [1]);
    assert_eq!(durable.subscribe5(&[("p/#", 1)], &[]).await, [1]);
    assert_eq!(
        member.subscribe5(&[("$share/g/p/#", 1)], &[0x0b, 3]).await,
        [1]
    );
    old.subscribe(&[("p/#", 1)]).await;
    let others = [
        vec![0x01, 1],
        user("b", "1"),
        user("a", "2"),
        user("b", "0"),
        [&[0x03][..], &text("text/plain")].concat(),
        [&[0x08][..], &text("re/ply")].concat(),
        [&[0x09][..], &[0, 3, 0, 1, 0xff]].concat(),
    ]
    .concat();
    let (mut publisher, ..) = Client::connect5(broker.addr(), "p", CLEAN, &[]).await;
    let sent = [two(0x23, 1), others.clone(), four(0x02, 1000)].concat();
    publisher.publish5(0, "p/x", &sent, "one").await;
    // The alias alone now names the topic.
    publisher.publish5(0, "", &two(0x23, 1), "two").await;
    let with_expiry = [four(0x02, 1000), others].concat();
    for (client, ids) in [
        (&mut live, &[][..]),
        (&mut durable, &[]),
        (&mut member, &[0x0b, 3]),
    ] {
        let message = client.message5().await;
        assert_eq!(
            (&*message.topic, &*message.payload, message.qos),
            ("p/x", "one", 1)
        );
        assert_eq!(message.properties, [&with_expiry, ids].concat());
        let message = client.message5().await;
        assert_eq!((&*message.topic, &*message.payload), ("p/x", "two"));
        assert_eq!(message.properties, ids);
    }
    assert_eq!(old.messages(2).await, ["one", "two"]);
    // A retained message keeps them too.
    publisher
        .publish5(RETAIN, "p/r", &user("k", "v"), "kept")
        .await;
    let message = live.message5().await;
    assert_eq!(
        (message.retain, message.properties),
        (false, user("k", "v"))
    );
    assert_eq!(live.subscribe5(&[("p/r", 0)], &[0x0b, 7]).await, [0]);
    let message = live.message5().await;
    let with_id = [user("k", "v"), vec![0x0b, 7]].concat();
    assert_eq!((message.retain, message.properties), (true, with_id));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_are_used_towards_clients_that_take_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let (mut client, ..) = Client::connect5(broker.addr(), "a", CLEAN, &two(0x22, 2)).await;
    client.subscribe5(&[("long/#", 0)], &[]).await;
    let mut publisher = broker.client("p", true).await;
    let topics = ["long/1", "long/2", "long/3", "long/1", "long/3", "long/2"];
    let expected = [
        ("long/1", two(0x23, 1)),
        ("long/2", two(0x23, 2)),
        ("long/3", vec![]),
        ("", two(0x23, 1)),
        ("long/3", vec![]),
        ("", two(0x23, 2)),
    ];
    for (topic, (received, properties)) in topics.into_iter().zip(expected) {
        publisher.publish(topic, "x").await;
        let message = client.message5().await;
        assert_eq!(
            (&*message.topic, message.properties),
            (received, properties)
        );
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_end_with_their_connection() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for _ in 0..2 {
        let (mut client, ..) = Client::connect5(broker.addr(), "a", 0, &four(0x11, 100)).await;
        client.publish5(0, "t", &two(0x23, 1), "x").await;
        client.publish5(0, "", &two(0x23, 1), "x").await;
        // Another topic for the same alias.
        client.publish5(0, "u", &two(0x23, 1), "x").await;
        client.publish5(0, "", &two(0x23, 1), "x").await;
        client.disconnect5(0, &[]).await;
        let (mut client, ..) = Client::connect5(broker.addr(), "a", 0, &four(0x11, 100)).await;
        client
            .send(&publish(QOS_1, "", 1, &two(0x23, 1), b"x"))
            .await;
        client.expect_disconnect(0x82).await;
    }
    let topics: Vec<_> = broker
        .records()
        .into_iter()
        .map(|record| record.0)
        .collect();
    assert_eq!(topics, ["t", "t", "u", "u", "t", "t", "u", "u"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reasons_are_in_words_only_where_they_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let refused = [&[0, 9, 0][..], &text("$share/g"), &[1]].concat();
    for (props, words) in [
        (vec![], true),
        (vec![0x17, 0], false),
        (four(0x27, 20), false),
    ] {
        let (mut client, ..) = Client::connect5(broker.addr(), "a", CLEAN, &props).await;
        client.send(&packet(0x82, &refused)).await;
        let answer = client.receive().await.unwrap();
        assert_eq!((answer.first, answer.body.last()), (0x90, Some(&0x8f)));
        assert_eq!(answer.body[2] > 0, words, "{answer:?}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_rules_end_with_their_reason() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_max_packet_size: Some(ByteSize::kib(2)),
        sessions: SessionSettings {
            mqtt_receive_maximum: Some(2),
            mqtt_topic_aliases: Some(2),
            ..SessionSettings::default()
        },
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    let three: Vec<u8> = (1..=3)
        .flat_map(|id| publish(QOS_1, "a", id, &[], b"x"))
        .collect();
    let response = [&[0x08][..], &text("a/+")].concat();
    let cases = [
        (publish(0, "a", 0, &two(0x23, 3), b""), 0x94),
        (publish(0, "a", 0, &two(0x23, 0), b""), 0x94),
        (publish(0, "", 0, &two(0x23, 1), b""), 0x82),
        (publish(0, "", 0, &[], b""), 0x82),
        (publish(0, "a", 0, &[0x0b, 1], b""), 0x81),
        (publish(0, "a/#", 0, &[], b""), 0x90),
        (publish(0, "a", 0, &response, b""), 0x82),
        (publish(0, "a", 0, &[0x01, 1, 0x01, 1], b""), 0x82),
        (publish(QOS_1, "a", 1, &[], &[b'x'; 3000]), 0x95),
        (connect("again", CLEAN, &[], &[]), 0x82),
        (packet(0xf0, &[0x18, 0]), 0x82),
        (packet(0x82, &[0, 1, 0]), 0x82),
        (
            packet(0x82, &[&[0, 1, 0][..], &text("$share/g/a"), &[4]].concat()),
            0x82,
        ),
        (
            packet(0x82, &[&[0, 1, 0][..], &text("a/#/b"), &[0]].concat()),
            0x8f,
        ),
        (packet(0xe0, &[0, 5, 0x11, 0, 0, 0, 9]), 0x82),
    ];
    for (bytes, reason) in cases {
        let (mut client, ..) = Client::connect5(broker.addr(), "a", CLEAN, &[]).await;
        client.send(&bytes).await;
        client.expect_disconnect(reason).await;
    }
    // Three at once where two may be on their way: the first two are answered.
    let (mut client, ..) = Client::connect5(broker.addr(), "a", CLEAN, &[]).await;
    client.send(&three).await;
    client.expect(0x40, &[0, 1]).await;
    client.expect(0x40, &[0, 2]).await;
    client.expect_disconnect(0x93).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_ends_have_reasons_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let (mut first, ..) = Client::connect5(broker.addr(), "same", CLEAN, &[]).await;
    let (mut second, ..) = Client::connect5(broker.addr(), "same", CLEAN, &[]).await;
    first.expect_disconnect(0x8e).await;
    // One of the older version takes over as well.
    let third = broker.client("same", true).await;
    second.expect_disconnect(0x8e).await;
    third.disconnect().await;
    // Keep-alive of one second.
    let mut silent = Client::open(broker.addr()).await;
    let mut bytes = connect("silent", CLEAN, &[], &[]);
    bytes[11] = 1;
    silent.send(&bytes).await;
    assert_eq!(silent.receive().await.unwrap().first, 0x20);
    silent.expect_disconnect(0x8d).await;
    let (mut last, ..) = Client::connect5(broker.addr(), "last", CLEAN, &[]).await;
    broker.stop().await;
    last.expect_disconnect(0x8b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_takes_is_honoured() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut publisher = broker.client("p", true).await;
    for persistent in [false, true] {
        let mut props = [two(0x21, 2), four(0x27, 64)].concat();
        if persistent {
            props.extend(four(0x11, 100));
        }
        let (mut client, ..) = Client::connect5(broker.addr(), "c", CLEAN, &props).await;
        client.subscribe5(&[("t", 1)], &[]).await;
        publisher.publish("t", "1").await;
        // Too large for this client: it counts as delivered.
        publisher.publish("t", &"x".repeat(100)).await;
        publisher.publish("t", "2").await;
        publisher.publish("t", "3").await;
        let ids: Vec<_> = [client.message().await, client.message().await]
            .iter()
            .map(|message| message.id)
            .collect();
        // Two are on their way, so the third waits for an acknowledgement.
        client.expect_quiet().await;
        client.acknowledge(ids[1]).await;
        assert_eq!(client.message5().await.payload, "3");
        client.acknowledge(ids[0]).await;
        client.expect_quiet().await;
        client.disconnect5(0, &[]).await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_versions_meet() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    // The same session over both versions.
    let (mut client, present) = Client::connect(broker.addr(), "both", false).await;
    assert!(!present);
    client.subscribe(&[("t", 1)]).await;
    client.disconnect().await;
    let (mut publisher, ..) = Client::connect5(broker.addr(), "p", CLEAN, &[]).await;
    publisher.publish5(0, "t", &user("k", "v"), "x").await;
    let (mut client, present, _) =
        Client::connect5(broker.addr(), "both", 0, &four(0x11, 100)).await;
    assert!(present);
    let message = client.message5().await;
    assert_eq!(
        (&*message.payload, message.properties),
        ("x", user("k", "v"))
    );
    client.disconnect5(0, &[]).await;
    // A version that is none.
    let mut client = Client::open(broker.addr()).await;
    let mut bytes = connect3("x", 2, 0, &[]);
    bytes[8] = 6;
    client.send(&bytes).await;
    client.expect(0x20, &[0, 1]).await;
    client.expect_closed().await;
    broker.stop().await;
}
