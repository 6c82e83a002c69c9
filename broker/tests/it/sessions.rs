//! Persistent sessions: nothing is missed, and the rest comes again.

use ::broker::Settings;

use crate::broker::{Broker, until};
use crate::client::{Client, QOS_1, RETAIN, packet, publish, text};
use crate::exactly_once::QOS_2;

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_client_misses_nothing_through_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path()).await;
    let (mut subscriber, present) = Client::connect(broker.addr(), "s", false).await;
    assert!(!present);
    subscriber.subscribe(&[("a/#", 1)]).await;
    subscriber.disconnect().await;
    let mut next = 0;
    for _ in 0..3 {
        let mut publisher = broker.client("p", true).await;
        for number in next..next + 50 {
            publisher.publish("a/b", &number.to_string()).await;
            publisher.publish("other", "no").await;
        }
        broker.stop().await;
        broker = Broker::start(dir.path()).await;
        let (mut subscriber, present) = Client::connect(broker.addr(), "s", false).await;
        assert!(present);
        assert_eq!(subscriber.messages(50).await, numbers(next..next + 50));
        subscriber.expect_quiet().await;
        next += 50;
        if next < 150 {
            subscriber.disconnect().await;
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_comes_again_with_dup() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path()).await;
    let mut subscriber = broker.client("s", false).await;
    subscriber.subscribe(&[("a", 1)]).await;
    let mut publisher = broker.client("p", true).await;
    for number in 0..6 {
        publisher.publish("a", &number.to_string()).await;
    }
    let mut ids = Vec::new();
    for _ in 0..6 {
        let message = subscriber.message().await;
        assert!(!message.dup);
        ids.push(message.id);
    }
    // In any order: 0, 1 and 4 are done with, 2 is the lowest that is not.
    for index in [4, 1, 0] {
        subscriber.acknowledge(ids[index]).await;
    }
    subscriber.expect_quiet().await;
    for restart in [false, true] {
        if restart {
            broker.stop().await;
            broker = Broker::start(dir.path()).await;
        }
        subscriber = broker.client("s", false).await;
        for (number, id) in ids.iter().enumerate().skip(2) {
            if !restart && number == 4 {
                // Only a broker that was restarted does not know.
                continue;
            }
            let message = subscriber.message().await;
            assert_eq!(message.payload, number.to_string().as_bytes());
            assert!(message.dup);
            if !restart {
                assert_eq!(message.id, *id, "it has the id it had");
            }
        }
        subscriber.expect_quiet().await;
    }
    broker.client("p", true).await.publish("a", "new").await;
    let message = subscriber.message().await;
    assert_eq!(
        (message.payload.as_slice(), message.dup),
        (&b"new"[..], false)
    );
    broker.stop().await;
}

/// Over several connections, with what is acknowledged late, changed and new in between.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_again_keeps_its_packet_id() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut publisher = broker.client("p", true).await;
    let mut subscriber = broker.client("s", false).await;
    subscriber.subscribe(&[("a", 1), ("b", 1)]).await;
    let mut ids = std::collections::BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..4_u32 {
        for topic in ["a", "b"] {
            publisher.publish(topic, &format!("{topic}{round}")).await;
        }
        let mut got = Vec::new();
        while got.len() < ids.len() + 2 {
            let message = subscriber.message().await;
            let payload = String::from_utf8(message.payload).unwrap();
            match ids.get(&payload) {
                Some(id) => assert_eq!((*id, message.dup), (message.id, true), "{payload}"),
                None => assert!(seen.insert(payload.clone()) && !message.dup, "{payload}"),
            }
            got.push((payload, message.id));
        }
        ids = got.into_iter().collect();
        let different: std::collections::BTreeSet<_> = ids.values().collect();
        assert_eq!(different.len(), ids.len());
        // The last but one is acknowledged at once, the first with the next connection.
        let of_a = ids.remove(&format!("a{round}")).unwrap();
        subscriber.acknowledge(of_a).await;
        subscriber.expect_quiet().await;
        drop(subscriber);
        subscriber = broker.client("s", false).await;
        for (payload, id) in &ids {
            let message = subscriber.message().await;
            assert_eq!(
                (message.payload.as_slice(), message.id),
                (payload.as_bytes(), *id)
            );
        }
        if round == 2 {
            let first = ids.remove("b0").unwrap();
            subscriber.acknowledge(first).await;
            subscriber.expect_quiet().await;
        }
        drop(subscriber);
        subscriber = broker.client("s", false).await;
    }
    // What nobody wants any more does not go again, and its id is free.
    subscriber.messages(ids.len()).await;
    subscriber.expect_quiet().await;
    broker.stop().await;
}

/// A client reads what it had retained itself, though it never waited for an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_finds_what_was_retained_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for (round, flags) in [RETAIN, RETAIN | QOS_1, RETAIN | QOS_2]
        .into_iter()
        .enumerate()
    {
        let mut client = broker.client("c", round == 0).await;
        let topic = format!("kept/{round}");
        let mut bytes = publish(flags, &topic, 5, b"state");
        bytes.extend_from_slice(&publish(flags & !RETAIN, &topic, 6, b"event"));
        let subscribe = [&[0, 9][..], &text(&topic), &[0]].concat();
        bytes.extend_from_slice(&packet(0x82, &subscribe));
        client.send(&bytes).await;
        let (mut subscribed, mut found) = (false, Vec::new());
        while !subscribed || found.is_empty() {
            let packet = client.receive().await.unwrap();
            subscribed |= packet.first == 0x90;
            if packet.first & 0xf0 == 0x30 {
                assert!(subscribed, "before its SUBACK");
                found.push(packet);
            }
        }
        assert_eq!(found[0].first & RETAIN, RETAIN);
        assert!(found[0].body.ends_with(b"state"));
        client.expect_quiet().await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_for_what_comes_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for clean in [true, false] {
        let mut client = broker.client("s", clean).await;
        client.subscribe(&[("a", 1)]).await;
        for number in 0..20 {
            let late = format!("late/{number}");
            client.send(&publish(0, &late, 0, b"before")).await;
            client.subscribe(&[(&*late, 1)]).await;
            client.send(&publish(0, &late, 0, b"after")).await;
            assert_eq!(client.messages(1).await, ["after"]);
        }
        client.expect_quiet().await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quality_is_the_lower_of_both_and_overlaps_come_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for clean in [true, false] {
        let mut subscriber = broker.client("s", clean).await;
        subscriber.subscribe(&[("q0", 0), ("q1", 1)]).await;
        subscriber
            .subscribe(&[("both", 0), ("+", 0), ("both/#", 1)])
            .await;
        let mut publisher = broker.client("p", true).await;
        for (topic, expected) in [("q0", 0), ("q1", 1), ("both", 1), ("plus", 0)] {
            publisher.publish(topic, "1").await;
            publisher.send(&publish(0, topic, 0, b"0")).await;
            for (payload, published) in [("1", 1), ("0", 0)] {
                let message = subscriber.message().await;
                assert_eq!(message.payload, payload.as_bytes(), "{topic}");
                assert_eq!(message.qos, published.min(expected), "{topic}");
                assert_eq!(message.qos == 0, message.id == 0);
                if message.qos > 0 {
                    subscriber.acknowledge(message.id).await;
                }
            }
        }
        subscriber.expect_quiet().await;
        subscriber.disconnect().await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsubscribing_and_changing_quality_last() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path()).await;
    let mut subscriber = broker.client("s", false).await;
    subscriber.subscribe(&[("a", 1), ("b", 1), ("c", 0)]).await;
    subscriber.unsubscribe("a").await;
    subscriber.subscribe(&[("c", 1)]).await;
    broker.stop().await;
    broker = Broker::start(dir.path()).await;
    let mut publisher = broker.client("p", true).await;
    for topic in ["a", "b", "c"] {
        publisher.publish(topic, topic).await;
    }
    let mut subscriber = broker.client("s", false).await;
    for topic in ["b", "c"] {
        let message = subscriber.message().await;
        assert_eq!((&*message.topic, message.qos), (topic, 1));
        subscriber.acknowledge(message.id).await;
    }
    subscriber.unsubscribe("b").await;
    subscriber.unsubscribe("c").await;
    publisher.publish("b", "b").await;
    subscriber.expect_quiet().await;
    let cursor = broker.log().cursors().get("session/s").unwrap();
    assert!(
        !cursor.pins,
        "a session without subscriptions holds nothing"
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_session_ends_the_persistent_one() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut client = broker.client("s", false).await;
    client.subscribe(&[("a", 1)]).await;
    client.disconnect().await;
    assert!(broker.log().cursors().get("session/s").is_some());
    assert!((broker.metric("broker_sessions") - 1.0).abs() < 0.1);
    broker.client("s", true).await.disconnect().await;
    assert!(broker.log().cursors().get("session/s").is_none());
    let (mut client, present) = Client::connect(broker.addr(), "s", false).await;
    assert!(!present);
    broker.client("p", true).await.publish("a", "x").await;
    client.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_bounds_what_is_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_window: Some(5),
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    let mut subscriber = broker.client("s", false).await;
    subscriber.subscribe(&[("a", 1)]).await;
    let mut publisher = broker.client("p", true).await;
    for number in 0..30 {
        publisher.publish("a", &number.to_string()).await;
    }
    let mut ids: Vec<u16> = Vec::new();
    for number in 0..5 {
        let message = subscriber.message().await;
        assert_eq!(message.payload, number.to_string().as_bytes());
        ids.push(message.id);
    }
    subscriber.expect_quiet().await;
    // Only the lowest one makes room; ids on their way are never given out again.
    for number in 5..30 {
        subscriber.acknowledge(ids.remove(0)).await;
        let message = subscriber.message().await;
        assert_eq!(message.payload, number.to_string().as_bytes());
        assert!(!ids.contains(&message.id));
        ids.push(message.id);
    }
    for id in ids.iter().rev() {
        subscriber.acknowledge(*id).await;
    }
    let end = broker.log().next_durable();
    until("the place is at the end", || {
        broker.log().cursors().get("session/s").unwrap().next == end
    })
    .await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_max_sessions: Some(1),
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    broker.client("one", false).await.disconnect().await;
    let mut refused = Client::open(broker.addr()).await;
    refused
        .send(&crate::client::connect("two", 0, 0, &[]))
        .await;
    refused.expect(0x20, &[0, 3]).await;
    let (_, present) = Client::connect(broker.addr(), "one", false).await;
    assert!(present);
    broker.stop().await;
}

/// A client that never acknowledges what went again is not sent more and more behind it.
#[tokio::test(flavor = "multi_thread")]
async fn only_so_much_goes_behind_what_went_again() {
    const WINDOW: u32 = 20;
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_window: Some(WINDOW as usize),
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    let mut publisher = broker.client("p", true).await;
    let mut subscriber = broker.client("s", false).await;
    subscriber.subscribe(&[("a", 1)]).await;
    publisher.publish("a", "0").await;
    subscriber.message().await;
    drop(subscriber);
    let mut subscriber = broker.client("s", false).await;
    let again = subscriber.message().await;
    assert!(again.dup);
    for number in 1..100 {
        publisher.publish("a", &number.to_string()).await;
    }
    // Together with what went again, two windows.
    let most = 2 * WINDOW;
    let behind = subscriber.messages(most as usize - 1).await;
    assert_eq!(behind, numbers(1..most));
    subscriber.expect_quiet().await;
    subscriber.acknowledge(again.id).await;
    assert_eq!(
        subscriber.messages(100 - most as usize).await,
        numbers(most..100)
    );
    subscriber.expect_quiet().await;
    broker.stop().await;
}
