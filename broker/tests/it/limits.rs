//! What one client may take, and that nobody else pays for it.

use std::time::{Duration, Instant};

use ::broker::{LimitSettings, ListenerSettings, Settings};
use service::HumanDuration;
use tokio::net::TcpStream;

use crate::broker::{Broker, until};
use crate::client::{self, Client, QOS_1};

fn limited(limits: LimitSettings) -> Settings {
    Settings {
        limits,
        ..Settings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_in_all_and_by_address() {
    for by_address in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            mqtt_max_connections: (!by_address).then_some(3),
            ..limited(LimitSettings {
                mqtt_max_connections_per_address: by_address.then_some(3),
                ..LimitSettings::default()
            })
        };
        let broker = Broker::start_with(dir.path(), settings).await;
        let mut clients = Vec::new();
        for number in 0..3 {
            clients.push(broker.client(&format!("c{number}"), true).await);
        }
        let mut refused = Client::open(broker.addr()).await;
        refused
            .send_or_fail(&client::connect("late", 2, 0, &[]))
            .await;
        refused.expect_closed().await;
        let reason = if by_address {
            "AddressLimit"
        } else {
            "ConnectionLimit"
        };
        assert_eq!(broker.labelled(reason), 1);
        clients.pop().unwrap().disconnect().await;
        until("there is room again", || {
            broker.metric("broker_connections") < 2.5
        })
        .await;
        broker.client("late", true).await.expect_quiet().await;
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_subscriptions_ends_at_the_bound_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(
        dir.path(),
        limited(LimitSettings {
            mqtt_max_subscriptions: Some(50),
            ..LimitSettings::default()
        }),
    )
    .await;
    let mut other = broker.client("other", true).await;
    for (id, clean) in [("live", true), ("kept", false)] {
        let mut storm = broker.client(id, clean).await;
        for round in 0..30 {
            let filters: Vec<_> = (0..10).map(|n| format!("{id}/{round}/{n}/+/#")).collect();
            let wanted: Vec<_> = filters.iter().map(|filter| (&**filter, 1)).collect();
            let expected = if round < 5 { 1 } else { 128 };
            assert_eq!(storm.subscribe(&wanted).await, [expected; 10]);
        }
        // One that is there may be changed.
        assert_eq!(storm.subscribe(&[(&format!("{id}/0/0/+/#"), 0)]).await, [0]);
        other.publish("x", "y").await;
        storm.expect_quiet().await;
    }
    assert_eq!(broker.labelled("what=\"SubscribeLimit\""), 500);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_bounded_in_length_and_depth() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(
        dir.path(),
        limited(LimitSettings {
            mqtt_max_topic_length: Some(20),
            mqtt_max_topic_levels: Some(4),
            ..LimitSettings::default()
        }),
    )
    .await;
    let mut client = broker.client("c", true).await;
    let twenty = "x".repeat(20);
    for (topic, fits) in [
        ("a/b/c/d", true),
        ("a/b/c/d/e", false),
        ("////", false),
        (&*twenty, true),
        (&*format!("{twenty}x"), false),
    ] {
        let before = broker.records().len();
        client.publish(topic, "m").await;
        assert_eq!(broker.records().len() > before, fits, "{topic}");
        let expected = if fits { 1 } else { 128 };
        assert_eq!(client.subscribe(&[(topic, 1)]).await, [expected], "{topic}");
        client.unsubscribe(topic).await;
    }
    assert_eq!(broker.labelled("what=\"PublishTopic\""), 3);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_publisher_is_read_slowly_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(
        dir.path(),
        limited(LimitSettings {
            mqtt_max_message_rate: Some(500),
            ..LimitSettings::default()
        }),
    )
    .await;
    let mut fast = broker.client("fast", true).await;
    let mut other = broker.client("other", true).await;
    let begin = Instant::now();
    let messages = (1..=1500_u16).map(|id| client::publish(QOS_1, "a", id, b"m"));
    fast.send(&messages.collect::<Vec<_>>().concat()).await;
    other.publish("b", "not held up").await;
    for id in 1..=1500_u16 {
        fast.expect(0x40, &id.to_be_bytes()).await;
    }
    // 500 were saved up, and all of them are read at once: the debt is paid before the next.
    fast.expect_quiet().await;
    assert!(
        begin.elapsed() >= Duration::from_millis(1900),
        "{:?}",
        begin.elapsed()
    );
    assert!(broker.metric("broker_throttled_total") > 0.5);
    assert_eq!(broker.records().len(), 1501);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_read_nothing_are_closed_and_the_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_stall_timeout: Some(HumanDuration::from_secs(1)),
        listeners: ListenerSettings {
            mqtt_ws_listen: Some("127.0.0.1:0".parse().unwrap()),
            ..ListenerSettings::default()
        },
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    // One of them with a session, which keeps what it did not take.
    let mut slow = Vec::new();
    for (id, clean) in [("slow-live", true), ("slow-kept", false)] {
        let mut client = broker.client(id, clean).await;
        assert_eq!(client.subscribe(&[("big/#", 1)]).await, [1]);
        slow.push(client);
    }
    let mut good = broker.client("good", true).await;
    let payload = "x".repeat(100_000);
    // More than the sockets and the broker's buffers take.
    for _ in 0..200 {
        good.publish("big/x", &payload).await;
    }
    until("both are closed", || {
        broker.metric("broker_connections") < 1.5
    })
    .await;
    assert_eq!(broker.labelled("reason=\"Stalled\""), 2);
    good.expect_quiet().await;
    drop(slow);
    let mut again = broker.client("slow-kept", false).await;
    for _ in 0..200 {
        let message = again.message().await;
        again.acknowledge(message.id).await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_gone_without_a_word_is_noticed_by_its_keep_alive() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut half_open = Client::open(broker.addr()).await;
    half_open.send(&client::connect("gone", 2, 1, &[])).await;
    half_open.expect(0x20, &[0, 0]).await;
    let mut patient = broker.client("patient", true).await;
    half_open.expect_closed().await;
    assert_eq!(broker.labelled("reason=\"KeepAlive\""), 1);
    patient.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_end_at_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_connect_timeout: Some(HumanDuration::from_secs(1)),
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    let mut silent = Vec::new();
    for number in 0..200 {
        let stream = TcpStream::connect(broker.addr()).await.unwrap();
        if number % 2 == 0 {
            // The beginning of a CONNECT that says it is long.
            stream.try_write(&[0x10, 0xff, 0xff, 0x0f, 0, 4]).unwrap();
        }
        silent.push(stream);
    }
    let mut good = broker.client("good", true).await;
    until("the silent ones are gone", || {
        broker.metric("broker_connections") < 1.5
    })
    .await;
    good.publish("a", "b").await;
    broker.stop().await;
}
