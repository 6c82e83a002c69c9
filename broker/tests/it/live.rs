//! Clean sessions: the live copy, retained messages, and what slow readers cost.

use ::broker::Settings;
use service::ByteSize;

use crate::broker::{Broker, until};
use crate::client::{QOS_1, RETAIN, publish};

#[tokio::test(flavor = "multi_thread")]
async fn inputs_that_kill_the_embedded_router_are_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut subscribers = Vec::new();
    for id in ["a", "b", "c"] {
        let mut subscriber = broker.client(id, true).await;
        subscriber.subscribe(&[("#", 1), ("é/#", 0)]).await;
        subscribers.push(subscriber);
    }
    let mut publisher = broker.client("p", true).await;
    for (topic, payload) in [
        ("é/x", "accent"),
        ("/", ""),
        ("a b/ ", "spaces"),
        ("日", "x"),
    ] {
        publisher.publish(topic, payload).await;
        for subscriber in &mut subscribers {
            let message = subscriber.message().await;
            assert_eq!(
                (&*message.topic, message.payload.as_slice()),
                (topic, payload.as_bytes())
            );
            subscriber.acknowledge(message.id).await;
        }
    }
    broker.stop().await;
}

/// The other input: the sole member of a shared subscription, with a session that lasts, leaves with a message
/// unacknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_sole_member_that_leaves_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut watcher = broker.client("w", true).await;
    watcher.subscribe(&[("#", 1)]).await;
    let mut publisher = broker.client("p", true).await;
    let mut member = broker.client("m", false).await;
    member.subscribe(&[("$share/g/t", 1)]).await;
    publisher.publish("t", "one").await;
    assert_eq!(member.message().await.payload, b"one");
    member.disconnect().await;
    publisher.publish("t", "two").await;
    assert_eq!(watcher.messages(2).await, ["one", "two"]);
    let mut member = broker.client("m", false).await;
    assert_eq!(member.messages(2).await, ["one", "two"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_keeps_the_order_and_stops_with_the_subscription() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut publisher = broker.client("p", true).await;
    for round in 0..3 {
        let mut subscriber = broker.client("s", true).await;
        subscriber.subscribe(&[("a/+", 1)]).await;
        let numbers: Vec<_> = (0..500).map(|number| format!("{round}.{number}")).collect();
        for number in &numbers {
            publisher.publish("a/b", number).await;
        }
        assert_eq!(subscriber.messages(500).await, numbers);
        subscriber.unsubscribe("a/+").await;
        publisher.publish("a/b", "nobody").await;
        subscriber.expect_quiet().await;
        subscriber.disconnect().await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_messages_come_with_the_subscription() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut publisher = broker.client("p", true).await;
    publisher
        .send(&publish(QOS_1 | RETAIN, "r/1", 1, b"one"))
        .await;
    publisher.expect(0x40, &[0, 1]).await;
    publisher
        .send(&publish(QOS_1 | RETAIN, "r/2", 2, b"two"))
        .await;
    publisher.expect(0x40, &[0, 2]).await;
    // An empty message that is not retained clears nothing.
    publisher.publish("r/1", "").await;
    for clean in [true, false] {
        let mut subscriber = broker.client("s", clean).await;
        subscriber.subscribe(&[("r/1", 1), ("r/+", 0)]).await;
        for (topic, payload, qos) in [("r/1", "one", 1), ("r/2", "two", 0)] {
            let message = subscriber.message().await;
            assert_eq!((&*message.topic, message.qos), (topic, qos));
            assert_eq!(
                (message.payload.as_slice(), message.retain),
                (payload.as_bytes(), true)
            );
            if qos > 0 {
                subscriber.acknowledge(message.id).await;
            }
        }
        // To a subscription that is there already, it comes as any other.
        publisher
            .send(&publish(QOS_1 | RETAIN, "r/2", 3, b"two"))
            .await;
        publisher.expect(0x40, &[0, 3]).await;
        let message = subscriber.message().await;
        assert_eq!((&*message.topic, message.retain), ("r/2", false));
        subscriber.disconnect().await;
    }
    publisher.send(&publish(RETAIN, "r/1", 0, b"")).await;
    until("one is left", || {
        broker.metric("broker_retained_messages") < 1.5
    })
    .await;
    let mut subscriber = broker.client("t", true).await;
    subscriber.subscribe(&[("#", 0)]).await;
    assert_eq!(subscriber.message().await.topic, "r/2");
    subscriber.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        mqtt_live_queue: Some(ByteSize::kib(64)),
        mqtt_window: Some(1000),
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    // Subscribes and acknowledges nothing: its window fills, then its queue.
    let mut slow = broker.client("slow", true).await;
    slow.subscribe(&[("a", 1)]).await;
    let mut quick = broker.client("quick", true).await;
    quick.subscribe(&[("a", 1)]).await;
    let mut publisher = broker.client("p", true).await;
    let payload = "x".repeat(1000);
    for _ in 0..2000 {
        publisher.publish("a", &payload).await;
        assert_eq!(quick.messages(1).await[0], payload);
    }
    let dropped = broker.metric("broker_fanout_dropped_messages_total");
    assert!(dropped > 500.0, "{dropped}");
    assert!(dropped < 1000.0, "{dropped}");
    broker.stop().await;
}
