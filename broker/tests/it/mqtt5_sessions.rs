//! MQTT 5: sessions that end by time, subscription options, and messages that expire.

use ::broker::{SessionSettings, Settings};
use bytes::Bytes;
use ingest_log::{LogConfig, RealDisk, RecordBatch, RecordHead};
use service::{Clock, SystemClock};

use crate::broker::{Broker, until};
use crate::client::{Client, QOS_1, RETAIN, packet, text};
use crate::v5::{CLEAN, connect, four, user};

const NO_LOCAL: u8 = 0b100;
const AS_PUBLISHED: u8 = 0b1000;
const RETAIN_IF_NEW: u8 = 0x10;
const RETAIN_NEVER: u8 = 0x20;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lasts_as_long_as_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let connect = async |flags, expiry: u32| {
        let props = if expiry > 0 {
            four(0x11, expiry)
        } else {
            vec![]
        };
        let (client, present, _) = Client::connect5(broker.addr(), "s", flags, &props).await;
        (client, present)
    };
    // With an interval it is there again, whether the start was clean or not.
    let (mut client, present) = connect(CLEAN, 1000).await;
    assert!(!present);
    client.subscribe5(&[("t", 1), ("$share/g/t", 1)], &[]).await;
    client.disconnect5(0, &[]).await;
    let (client, present) = connect(0, 1000).await;
    assert!(present);
    client.disconnect5(0, &[]).await;
    // Without one it goes on, and ends with this connection.
    let (client, present) = connect(0, 0).await;
    assert!(present);
    client.disconnect5(0, &[]).await;
    until("the cursors are gone", || {
        broker.log().cursors().list().is_empty()
    })
    .await;
    let (client, present) = connect(0, 1000).await;
    assert!(!present);
    // DISCONNECT may end it as well.
    client.disconnect5(0, &four(0x11, 0)).await;
    let (client, present) = connect(0, 1000).await;
    assert!(!present);
    // A clean start forgets it.
    client.disconnect5(0, &[]).await;
    let (client, present) = connect(CLEAN, 1000).await;
    assert!(!present);
    client.disconnect5(0, &[]).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_expire_and_free_the_log_unless_they_are_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let settings = || Settings {
        sessions: SessionSettings {
            mqtt_max_session_expiry: Some("1s".parse().unwrap()),
            mqtt_pinned: Some(vec!["pinned".to_owned()]),
            ..SessionSettings::default()
        },
        ..Settings::default()
    };
    let mut broker = Broker::start_with(dir.path(), settings()).await;
    // MQTT 3.1.1 asks for ever and gets what there is.
    for id in ["old", "pinned"] {
        let mut client = broker.client(id, false).await;
        client.subscribe(&[("t", 1), ("$share/g/t", 1)]).await;
        client.disconnect().await;
    }
    let (mut client, ..) = Client::connect5(broker.addr(), "stays", CLEAN, &four(0x11, 9)).await;
    client.subscribe5(&[("t", 1)], &[]).await;
    let names = |broker: &Broker| -> Vec<_> {
        let cursors = broker.log().cursors().list().into_iter();
        cursors.map(|(name, _)| name).collect()
    };
    let left = ["session/pinned", "session/stays", "share/g/t"];
    until("one has expired", || names(&broker) == left).await;
    assert!(broker.metric("broker_sessions_expired_total") > 0.5);
    // The end of one that is away comes over a restart, too.
    client.disconnect5(0, &[]).await;
    broker.stop().await;
    broker = Broker::start_with(dir.path(), settings()).await;
    let left = ["session/pinned", "share/g/t"];
    until("the other has expired", || names(&broker) == left).await;
    let (_client, present) = Client::connect(broker.addr(), "pinned", false).await;
    assert!(present);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_expired_while_the_broker_was_down_is_gone_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = ingest_log::Log::open(
        std::sync::Arc::new(RealDisk),
        LogConfig::new(dir.path().join("log")),
    )
    .unwrap();
    let meta = br#"{"sent_to":0,"subscriptions":[{"filter":"t","qos":1,"since":0}],"expiry":5,"left_us":5}"#;
    let cursor = ingest_log::Cursor {
        next: 0,
        meta: Bytes::from_static(meta),
        pins: true,
    };
    log.cursors().put("session/gone", cursor);
    log.close().await.unwrap();
    let broker = Broker::start(dir.path()).await;
    let (_client, present) = Client::connect(broker.addr(), "gone", false).await;
    assert!(!present);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_options_hold_for_live_and_durable_alike() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let (mut other, ..) = Client::connect5(broker.addr(), "other", CLEAN, &[]).await;
    for expiry in [0, 1000] {
        let props = four(0x11, expiry);
        let (mut client, ..) = Client::connect5(broker.addr(), "me", CLEAN, &props).await;
        assert_eq!(
            client
                .subscribe5(&[("n/#", 1 | NO_LOCAL)], &[0x0b, 1])
                .await,
            [1]
        );
        assert_eq!(
            client
                .subscribe5(&[("n/+", 1 | AS_PUBLISHED)], &[0x0b, 0x80, 0x01])
                .await,
            [1]
        );
        assert_eq!(client.subscribe5(&[("+/a", 0)], &[]).await, [0]);
        // Overlapping: one copy, the highest QoS, all identifiers, RETAIN if one wants it.
        other.publish5(RETAIN, "n/a", &user("k", "v"), "x").await;
        let message = client.message5().await;
        assert_eq!((message.qos, message.retain), (1, true));
        let ids: Vec<_> = message.properties[user("k", "v").len()..].to_vec();
        assert!(
            ids == [0x0b, 1, 0x0b, 0x80, 0x01] || ids == [0x0b, 0x80, 0x01, 0x0b, 1],
            "{ids:?}"
        );
        // Its own message, without the subscription that does not want it.
        client
            .send(&crate::v5::publish(QOS_1, "n/a", 5, &[], b"mine"))
            .await;
        let mut got = Vec::new();
        for _ in 0..2 {
            let packet = client.receive().await.unwrap();
            if packet.first & 0xf0 == 0x30 {
                let body = String::from_utf8_lossy(&packet.body).into_owned();
                assert!(body.ends_with("mine"), "{body}");
                let mut ids = packet.body[7..].to_vec();
                ids.truncate(4);
                assert_eq!(ids, [3, 0x0b, 0x80, 0x01]);
                client
                    .acknowledge(u16::from_be_bytes([packet.body[5], packet.body[6]]))
                    .await;
            }
            got.push(packet.first & 0xf0);
        }
        got.sort_unstable();
        assert_eq!(got, [0x30, 0x40]);
        client
            .send(&crate::v5::publish(QOS_1, "n/b/c", 6, &[], b"mine"))
            .await;
        client.expect(0x40, &[0, 6]).await;
        client.expect_quiet().await;
        // A changed subscription has its new options and identifier.
        assert_eq!(client.subscribe5(&[("n/+", 0)], &[0x0b, 9]).await, [0]);
        let retained = client.message5().await;
        assert_eq!((retained.retain, retained.qos), (true, 0));
        other.publish5(0, "n/z", &[], "x").await;
        let message = client.message5().await;
        let mut ids = message.properties.clone();
        ids.sort_unstable();
        assert_eq!((message.qos, ids), (1, vec![1, 9, 0x0b, 0x0b]));
        // What is there and what is not.
        let filters = [&[0, 8, 0][..], &text("n/+"), &text("none")].concat();
        client.send(&packet(0xa2, &filters)).await;
        client.expect(0xb0, &[0, 8, 0, 0, 0x11]).await;
        client.disconnect5(0, &[]).await;
        other.publish5(RETAIN, "n/a", &[], "").await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_messages_come_as_the_subscription_says() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let (mut other, ..) = Client::connect5(broker.addr(), "other", CLEAN, &[]).await;
    other.publish5(RETAIN, "r", &[], "kept").await;
    for expiry in [0, 1000] {
        let props = four(0x11, expiry);
        let (mut client, ..) = Client::connect5(broker.addr(), "me", CLEAN, &props).await;
        client.subscribe5(&[("r", RETAIN_NEVER)], &[]).await;
        client.expect_quiet().await;
        client.subscribe5(&[("r", RETAIN_IF_NEW)], &[]).await;
        client.expect_quiet().await;
        client.subscribe5(&[("+", RETAIN_IF_NEW)], &[]).await;
        assert_eq!(client.message5().await.payload, "kept");
        client.subscribe5(&[("r", 0)], &[]).await;
        assert_eq!(client.message5().await.payload, "kept");
        client.subscribe5(&[("$share/g/r", 0)], &[]).await;
        client.expect_quiet().await;
        client.disconnect5(0, &[]).await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_expire_before_they_are_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let props = four(0x11, 1000);
    let (mut client, ..) = Client::connect5(broker.addr(), "away", CLEAN, &props).await;
    client.subscribe5(&[("t", 1)], &[]).await;
    client.disconnect5(0, &[]).await;
    let mut old = broker.client("old", false).await;
    old.subscribe(&[("t", 1)]).await;
    old.disconnect().await;
    let (mut publisher, ..) = Client::connect5(broker.addr(), "p", CLEAN, &[]).await;
    publisher.publish5(0, "t", &four(0x02, 0), "never").await;
    publisher
        .publish5(RETAIN, "t", &four(0x02, 0), "nor to new ones")
        .await;
    // As if it had been published two seconds ago.
    let mut batch = RecordBatch::new();
    let head = RecordHead {
        qos: 1,
        retain: false,
        received_us: SystemClock.now().as_micros() - 2_000_000,
        topic: "t",
        client_id: "p",
        properties: &four(0x02, 2),
    };
    batch.push(&head, b"too late").unwrap();
    broker.log().append(batch).await.unwrap().await.unwrap();
    publisher.publish5(0, "t", &four(0x02, 1000), "stays").await;
    publisher.publish5(0, "t", &[], "for ever").await;
    let (mut client, ..) = Client::connect5(broker.addr(), "away", 0, &props).await;
    let message = client.message5().await;
    assert_eq!(message.payload, "stays");
    let left = u32::from_be_bytes(message.properties[1..].try_into().unwrap());
    assert!((900..=1000).contains(&left), "{left}");
    assert_eq!(client.message5().await.payload, "for ever");
    client.expect_quiet().await;
    // A client of the older version is spared what has expired as well.
    let (mut old, _) = Client::connect(broker.addr(), "old", false).await;
    assert_eq!(old.messages(2).await, ["stays", "for ever"]);
    // So is a new subscriber the retained message.
    let (mut new, ..) = Client::connect5(broker.addr(), "new", CLEAN, &[]).await;
    new.subscribe5(&[("t", 1)], &[]).await;
    new.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_will_goes_out_when_disconnect_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let (mut watcher, ..) = Client::connect5(broker.addr(), "w", CLEAN, &[]).await;
    watcher.subscribe5(&[("will", 1)], &[]).await;
    let will = [&user("k", "v")[..], &four(0x02, 1000)].concat();
    let will = [
        &crate::v5::properties(&will)[..],
        &text("will"),
        &text("gone"),
    ]
    .concat();
    for (reason, comes) in [(0, false), (4, true), (0x80, true)] {
        let mut client = Client::open(broker.addr()).await;
        client.send(&connect("c", CLEAN | 0b1100, &[], &will)).await;
        assert_eq!(client.receive().await.unwrap().body[1], 0);
        client.disconnect5(reason, &[]).await;
        if comes {
            let message = watcher.message5().await;
            assert_eq!(message.payload, "gone");
            assert_eq!(
                message.properties,
                [four(0x02, 1000), user("k", "v")].concat()
            );
        }
    }
    watcher.expect_quiet().await;
    broker.stop().await;
}

/// What has expired is not sent, but what was sent and is not acknowledged goes again [MQTT-4.4.0-1, MQTT-4.3.3-7].
#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_is_completed_though_it_has_expired() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let props = four(0x11, 1000);
    let (mut client, ..) = Client::connect5(broker.addr(), "c", CLEAN, &props).await;
    client.subscribe5(&[("t", 2)], &[]).await;
    let received_us = SystemClock.now().as_micros();
    let mut batch = RecordBatch::new();
    for (qos, payload) in [(1, b"one"), (2, b"two")] {
        let head = RecordHead {
            qos,
            retain: false,
            received_us,
            topic: "t",
            client_id: "p",
            properties: &four(0x02, 1),
        };
        batch.push(&head, payload).unwrap();
    }
    broker.log().append(batch).await.unwrap().await.unwrap();
    let went = [client.receive().await, client.receive().await].map(Option::unwrap);
    drop(client);
    until("they have expired", || {
        SystemClock.now().as_micros() > received_us + 1_000_000
    })
    .await;
    let (mut client, ..) = Client::connect5(broker.addr(), "c", 0, &props).await;
    for went in went {
        let again = client.receive().await.unwrap();
        assert_eq!((again.first, again.body), (went.first | 0b1000, went.body));
    }
    broker.stop().await;
}
