//! Rules of the standards, one by one, that the other tests do not hold in passing.

use crate::broker::Broker;
use crate::client::{Client, QOS_1, RETAIN, connect, packet, publish, text};
use crate::exactly_once::{PUBCOMP, PUBREC, PUBREL, QOS_2, say};
use crate::kill::Process;
use crate::v5::{self, CLEAN, four};

/// Flags of CONNECT.
const WILL: u8 = 0b100;
const WILL_QOS_1: u8 = 0b1000;
const WILL_RETAIN: u8 = 0b10_0000;
const USER_NAME: u8 = 0b1000_0000;

async fn accepted(addr: std::net::SocketAddr, bytes: &[u8]) -> Client {
    let mut client = Client::open(addr).await;
    client.send(bytes).await;
    let answer = client.receive().await.unwrap();
    assert_eq!((answer.first, answer.body[1]), (0x20, 0), "{answer:?}");
    client
}

fn will(topic: &str, payload: &str) -> Vec<u8> {
    [text(topic), text(payload)].concat()
}

#[tokio::test]
async fn wills_are_retained_if_they_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut watcher = broker.client("w", true).await;
    watcher.subscribe(&[("will/#", 1)]).await;
    for (topic, retain) in [("will/kept", WILL_RETAIN), ("will/not", 0)] {
        let flags = CLEAN | WILL | WILL_QOS_1 | retain;
        let bytes = connect("c", flags, 0, &will(topic, "gone"));
        drop(accepted(broker.addr(), &bytes).await);
        assert_eq!(watcher.messages(1).await, ["gone"]);
    }
    let mut late = broker.client("late", true).await;
    late.subscribe(&[("will/#", 1)]).await;
    let message = late.message().await;
    assert_eq!((&*message.topic, message.retain), ("will/kept", true));
    late.acknowledge(message.id).await;
    late.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test]
async fn user_names_are_texts() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for name in [&b"\xff\xfe"[..], b"a\0b", b"\xed\xa0\x80"] {
        let length = u16::try_from(name.len()).unwrap().to_be_bytes();
        let name = [&length[..], name].concat();
        let mut client = Client::open(broker.addr()).await;
        client
            .send(&connect("c", CLEAN | USER_NAME, 0, &name))
            .await;
        client.expect_closed().await;
        let mut client = Client::open(broker.addr()).await;
        let bytes = v5::connect("c", CLEAN | USER_NAME, &[], &name);
        client.send(&bytes).await;
        let answer = client.receive().await.unwrap();
        assert_eq!((answer.first, answer.body[1]), (0x20, 0x81), "{answer:?}");
        client.expect_closed().await;
    }
    let bytes = connect("c", CLEAN | USER_NAME, 0, &text("Zoë \u{feff}"));
    accepted(broker.addr(), &bytes).await.disconnect().await;
    broker.stop().await;
}

/// No packet is larger than what the client takes [MQTT-3.1.2-24], not even one that says why.
#[tokio::test]
async fn no_answer_is_larger_than_what_the_client_takes() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let takes = |bytes| v5::connect("c", CLEAN, &four(0x27, bytes), &[]);
    let mut client = Client::open(broker.addr()).await;
    client.send(&takes(4)).await;
    client.expect_closed().await;
    let mut client = Client::open(broker.addr()).await;
    client.send(&takes(6)).await;
    client.expect(0x20, &[0, 0x95, 0]).await;
    client.expect_closed().await;
    // Who is refused for what its CONNECT says is not told more than it takes either [MQTT-3.2.2-19].
    let method = [&four(0x27, 30)[..], &[0x15], &text("SCRAM-SHA-1")].concat();
    let long = "i".repeat(1025);
    for (refused, reason) in [
        (v5::connect("c", CLEAN, &method, &[]), 0x8c),
        (v5::connect(&long, CLEAN, &four(0x27, 30), &[]), 0x85),
        (v5::connect("c", CLEAN | 1, &four(0x27, 30), &[]), 0x81),
    ] {
        let mut client = Client::open(broker.addr()).await;
        client.send(&refused).await;
        client.expect(0x20, &[0, reason, 0]).await;
        client.expect_closed().await;
    }
    let mut client = accepted(broker.addr(), &takes(20)).await;
    assert_eq!(client.subscribe5(&[("a", 1); 13], &[]).await, [1; 13]);
    let filters: Vec<u8> = (0..16).flat_map(|_| [0, 1, b'a', 1]).collect();
    let bytes = packet(0x82, &[&[0, 9, 0][..], &filters].concat());
    client.send(&bytes).await;
    client.expect_disconnect(0x95).await;
    broker.stop().await;
}

/// PUBACK is for QoS 1, PUBREC and PUBCOMP are for QoS 2, in their order.
#[tokio::test]
async fn acknowledgements_of_another_qos_break_a_rule() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut publisher = broker.client("p", true).await;
    for (qos, wrong) in [(1, PUBREC), (1, PUBCOMP), (2, 0x40), (2, PUBCOMP)] {
        for durable in [0, 60] {
            let props = four(0x11, durable);
            let (mut client, ..) = Client::connect5(broker.addr(), "c", CLEAN, &props).await;
            client.subscribe5(&[("t", qos)], &[]).await;
            publisher.send(&publish(QOS_2, "t", 3, b"x")).await;
            publisher.expect(PUBREC, &[0, 3]).await;
            say(&mut publisher, PUBREL, 3).await;
            publisher.expect(PUBCOMP, &[0, 3]).await;
            let message = client.receive().await.unwrap();
            assert_eq!(message.first & 0b110, qos << 1);
            say(&mut client, wrong, 1).await;
            client.expect_disconnect(0x82).await;
        }
    }
    broker.stop().await;
}

/// What begins with `$` is the broker's: who publishes there is refused as by a rule, and stays connected.
#[tokio::test]
async fn nobody_publishes_below_the_dollar() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut watcher = broker.client("w", true).await;
    watcher.subscribe(&[("$x/#", 1), ("#", 1)]).await;
    let mut old = broker.client("old", true).await;
    let (mut new, ..) = Client::connect5(broker.addr(), "new", CLEAN, &[]).await;
    for topic in ["$SYS/broker/x", "$x/y", "$"] {
        for flags in [0, RETAIN] {
            old.send(&publish(flags, topic, 0, b"x")).await;
            new.send(&v5::publish(flags, topic, 0, &[], b"x")).await;
        }
        old.publish(topic, "x").await;
        new.send(&v5::publish(QOS_1, topic, 7, &[], b"x")).await;
        new.expect(0x40, &[0, 7, 0x87]).await;
        // With MQTT 3.1.1 there is no other answer [MQTT-3.3.5-2].
        old.send(&publish(QOS_2, topic, 8, b"x")).await;
        old.expect(PUBREC, &[0, 8]).await;
        say(&mut old, PUBREL, 8).await;
        old.expect(PUBCOMP, &[0, 8]).await;
        new.send(&v5::publish(QOS_2, topic, 8, &[], b"x")).await;
        new.expect(PUBREC, &[0, 8, 0x87]).await;
    }
    old.publish("x", "last").await;
    assert_eq!(watcher.messages(1).await, ["last"]);
    broker.stop().await;
}

#[tokio::test]
async fn acknowledgements_of_qos_2_have_their_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let (mut client, ..) = Client::connect5(broker.addr(), "c", CLEAN, &[]).await;
    client.subscribe5(&[("t", 2)], &[]).await;
    // Ids that nobody gave: 0x92, and the connection goes on.
    say(&mut client, PUBREC, 5).await;
    client.expect(PUBREL, &[0, 5, 0x92]).await;
    say(&mut client, PUBREL, 5).await;
    client.expect(PUBCOMP, &[0, 5, 0x92]).await;
    say(&mut client, PUBCOMP, 5).await;
    client.expect_quiet().await;
    // Both directions, with reasons, reason strings and user properties in every form.
    let props = v5::properties(&[&[0x1f][..], &text("why"), &v5::user("k", "v")].concat());
    client.send(&v5::publish(QOS_2, "t", 7, &[], b"x")).await;
    let mut received = 0;
    for _ in 0..2 {
        let packet = client.receive().await.unwrap();
        if packet.first == PUBREC {
            assert_eq!(packet.body, [0, 7], "success is not said, and nothing else");
        } else {
            received = u16::from_be_bytes([packet.body[3], packet.body[4]]);
        }
    }
    let with = |id: u16, reason: u8| [&id.to_be_bytes()[..], &[reason], &props].concat();
    client.send(&packet(PUBREL, &with(7, 0x92))).await;
    client.expect(PUBCOMP, &[0, 7]).await;
    client.send(&packet(PUBREC, &with(received, 0x10))).await;
    client.expect(PUBREL, &received.to_be_bytes()).await;
    client.send(&packet(PUBCOMP, &with(received, 0x92))).await;
    client.expect_quiet().await;
    // A reason of 0x80 or above: it is not wanted, and there is no PUBREL.
    client.send(&v5::publish(QOS_2, "t", 8, &[], b"x")).await;
    for _ in 0..2 {
        let packet = client.receive().await.unwrap();
        if packet.first != PUBREC {
            received = u16::from_be_bytes([packet.body[3], packet.body[4]]);
        }
    }
    client.send(&packet(PUBREC, &with(received, 0x83))).await;
    client.expect_quiet().await;
    // Reasons that these packets do not have, and flags that are reserved.
    for (first, body) in [
        (PUBREC, [0, 1, 0x92]),
        (PUBREC, [0, 1, 0x05]),
        (PUBREL, [0, 1, 0x10]),
        (PUBCOMP, [0, 1, 0x80]),
        (0x40, [0, 1, 0x92]),
        (0x60, [0, 1, 0]),
        (0x51, [0, 1, 0]),
        (0x72, [0, 1, 0]),
        (PUBREL, [0, 0, 0]),
    ] {
        let (mut client, ..) = Client::connect5(broker.addr(), "d", CLEAN, &[]).await;
        client.send(&packet(first, &body)).await;
        let answer = client.receive().await.unwrap();
        assert_eq!(answer.first, 0xe0, "{first:x} {body:?}: {answer:?}");
        assert!(matches!(answer.body[0], 0x81 | 0x82), "{answer:?}");
        client.expect_closed().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn subscribing_again_brings_retained_messages_again() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut publisher = broker.client("p", true).await;
    publisher
        .send(&publish(QOS_1 | RETAIN, "r", 1, b"kept"))
        .await;
    publisher.expect(0x40, &[0, 1]).await;
    for clean in [true, false] {
        let mut client = broker.client("s", clean).await;
        for qos in [1, 1, 0] {
            client.subscribe(&[("r", qos)]).await;
            let message = client.message().await;
            assert_eq!((message.qos, message.retain), (qos, true));
            if qos > 0 {
                client.acknowledge(message.id).await;
            }
        }
        client.expect_quiet().await;
        client.disconnect().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn no_local_holds_for_retained_messages() {
    const NO_LOCAL: u8 = 0b100;
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path()).await;
    let props = four(0x11, 1000);
    for round in 0..2 {
        if round == 0 {
            let (mut me, ..) = Client::connect5(broker.addr(), "me", CLEAN, &props).await;
            me.publish5(RETAIN, "r/mine", &[], "mine").await;
            let (mut other, ..) = Client::connect5(broker.addr(), "other", CLEAN, &[]).await;
            other.publish5(RETAIN, "r/other", &[], "other").await;
        } else {
            // Whose it is is known after a restart, too.
            broker.stop().await;
            broker = Broker::start(dir.path()).await;
        }
        let (mut me, ..) = Client::connect5(broker.addr(), "me", CLEAN, &props).await;
        me.subscribe5(&[("r/#", 1 | NO_LOCAL)], &[]).await;
        assert_eq!(me.message5().await.payload, "other");
        me.expect_quiet().await;
        me.subscribe5(&[("r/+", 1)], &[]).await;
        let both = [me.message5().await.payload, me.message5().await.payload];
        assert_eq!(both, ["mine", "other"]);
        me.expect_quiet().await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_disconnect_says_counts_though_the_next_connection_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut watcher = broker.client("w", true).await;
    watcher.subscribe(&[("will", 1)]).await;
    let will = [v5::properties(&[]), will("will", "gone")].concat();
    for round in 0..200 {
        let bytes = v5::connect("c", WILL, &four(0x11, 1000), &will);
        let mut first = Client::open(broker.addr()).await;
        first.send(&bytes).await;
        let answer = first.receive().await.unwrap();
        assert_eq!(
            answer.body[..2],
            [0, 0],
            "round {round}: the session goes on"
        );
        // It ends session and will, and the client connects again before that was read.
        let last = packet(0xe0, &[&[0][..], &v5::properties(&four(0x11, 0))].concat());
        let publish = v5::publish(0, "x", 0, &[], b"before it");
        first.send(&[publish, last].concat()).await;
        let second = Client::connect5(broker.addr(), "c", 0, &[]).await;
        assert!(!second.1, "round {round}");
        second.0.disconnect5(0, &[]).await;
    }
    watcher.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_will_goes_out_when_the_broker_was_killed_or_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Process::start(dir.path(), &[]);
    let (mut watcher, _) = Client::connect(broker.addr, "w", false).await;
    watcher.subscribe(&[("will/#", 1)]).await;
    let with = async |addr, id: &str, delay: u32, clean: u8| {
        let props = [
            v5::properties(&four(0x18, delay)),
            will(&format!("will/{id}"), id),
        ]
        .concat();
        let flags = clean | WILL | WILL_QOS_1;
        accepted(addr, &v5::connect(id, flags, &four(0x11, 1000), &props)).await
    };
    let clean = connect(
        "clean",
        CLEAN | WILL | WILL_QOS_1,
        0,
        &will("will/clean", "clean"),
    );
    let one = accepted(broker.addr, &clean).await;
    let two = with(broker.addr, "lasts", 0, 0).await;
    let three = with(broker.addr, "waits", 1000, 0).await;
    // This one says goodbye: nothing is left of its will.
    with(broker.addr, "parts", 0, 0)
        .await
        .disconnect5(0, &[])
        .await;
    broker.kill();
    drop((one, two, three));
    let broker = Broker::start(dir.path()).await;
    let mut watcher = broker.client("w", false).await;
    let mut got = watcher.messages(2).await;
    got.sort();
    assert_eq!(got, ["clean", "lasts"]);
    watcher.expect_quiet().await;
    // Back before its delay is over, and then the broker is stopped in good order.
    let waits = with(broker.addr(), "waits", 1, 0).await;
    let again = accepted(broker.addr(), &clean).await;
    broker.stop().await;
    drop((waits, again));
    let broker = Broker::start(dir.path()).await;
    let mut watcher = broker.client("w", false).await;
    assert_eq!(watcher.messages(2).await, ["clean", "waits"]);
    watcher.expect_quiet().await;
    drop(watcher);
    broker.stop().await;
    let broker = Broker::start(dir.path()).await;
    let mut watcher = broker.client("w", false).await;
    watcher.expect_quiet().await;
    broker.stop().await;
}

/// What goes again is what went but for DUP: RETAIN and the subscription's identifier are there, too [MQTT-3.3.4-3].
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_again_is_what_went() {
    const AS_PUBLISHED: u8 = 0b1000;
    const DUP: u8 = 0b1000;
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path()).await;
    let props = four(0x11, 1000);
    for (filter, topic, is_retained) in [
        ("own/+", "own/1", false),
        ("$share/g/of/group", "of/group", false),
        ("kept/#", "kept", true),
    ] {
        let mut publisher = broker.client("p", true).await;
        let (mut client, ..) = Client::connect5(broker.addr(), "c", CLEAN, &props).await;
        for subscribes in [!is_retained, is_retained] {
            if subscribes {
                let id = [0x0b, 0x80, 0x01];
                let granted = client.subscribe5(&[(filter, 2 | AS_PUBLISHED)], &id).await;
                assert_eq!(granted, [2]);
            } else {
                let bytes = publish(QOS_2 | RETAIN, topic, 3, b"x");
                publisher.send(&bytes).await;
                publisher.expect(PUBREC, &[0, 3]).await;
                say(&mut publisher, PUBREL, 3).await;
                publisher.expect(PUBCOMP, &[0, 3]).await;
            }
        }
        let went = client.receive().await.unwrap();
        assert_eq!(went.first, 0x35, "{went:?}");
        let rest = &went.body[2 + topic.len() + 2..];
        assert_eq!(rest, [&[3, 0x0b, 0x80, 0x01][..], b"x"].concat());
        for restarts in [false, true] {
            drop(client);
            if restarts {
                broker.stop().await;
                broker = Broker::start(dir.path()).await;
            }
            (client, ..) = Client::connect5(broker.addr(), "c", 0, &props).await;
            let again = client.receive().await.unwrap();
            assert_eq!(
                (again.first, &again.body),
                (went.first | DUP, &went.body),
                "{filter}"
            );
        }
    }
    broker.stop().await;
}
