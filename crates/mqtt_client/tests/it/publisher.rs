use mqtt_client::{PublishError, Publisher, PublisherOptions, Qos};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fake_broker::{self, Life, Record};
use crate::mosquitto::Mosquitto;
use crate::{connect, connected, disconnected, within};

const MESSAGES: usize = 500;

/// Publishes to a broker that breaks twice with messages recorded but unacknowledged, acknowledged, and
/// neither. Returns how many receipts resolved and what was recorded, connection by connection.
async fn publish_through_breaks(forget: bool) -> (usize, Vec<Vec<Vec<u8>>>, Publisher) {
    let record = Record::default();
    let plan = vec![
        Life {
            records: 120,
            acks: 90,
        },
        Life {
            records: 60,
            acks: 0,
        },
        Life::FOREVER,
    ];
    let port = fake_broker::start(plan, 0, record.clone()).await;
    let mut options = PublisherOptions::new(connect(port, "p"));
    #[cfg(debug_assertions)]
    {
        options.forget_on_reconnect = forget;
    }
    #[cfg(not(debug_assertions))]
    {
        options.capacity_bytes += 0;
        assert!(!forget, "only debug builds can forget");
    }
    let (publisher, task) = Publisher::new(options);
    let mut tasks = JoinSet::new();
    tasks.spawn(task.run(CancellationToken::new()));

    let mut receipts = Vec::new();
    for number in 0..MESSAGES {
        let payload = number.to_string().into_bytes();
        receipts.push(
            publisher
                .publish("t", payload, Qos::AtLeastOnce)
                .await
                .unwrap(),
        );
    }
    let mut resolved = 0;
    for receipt in receipts {
        resolved += usize::from(within("receipt", receipt).await.is_ok());
    }
    let received = record.received.lock().unwrap().clone();
    (resolved, received, publisher)
}

fn missing(received: &[Vec<Vec<u8>>]) -> usize {
    let all: Vec<_> = received.iter().flatten().collect();
    (0..MESSAGES)
        .filter(|number| !all.contains(&&number.to_string().into_bytes()))
        .count()
}

#[tokio::test]
async fn what_was_taken_survives_every_break_in_order() {
    let (resolved, received, publisher) = publish_through_breaks(false).await;
    assert_eq!((resolved, missing(&received)), (MESSAGES, 0));
    // The acks of the first connection were lost with it from the 90th on, so the next two begin there.
    let text = |payload: &Vec<u8>| String::from_utf8(payload.clone()).unwrap();
    let first_unacked: usize = text(&received[1][0]).parse().unwrap();
    assert!(first_unacked <= 90, "{first_unacked}");
    assert_eq!(received[1][0], received[2][0]);
    let last: Vec<_> = received[2].iter().map(text).collect();
    let expected: Vec<_> = (first_unacked..MESSAGES).map(|n| n.to_string()).collect();
    assert_eq!(last, expected);
    let stats = publisher.stats();
    assert_eq!(
        (stats.published, stats.acked),
        (MESSAGES as u64, MESSAGES as u64)
    );
    assert_eq!(stats.reconnects, 2);
    assert!(stats.resent >= 30, "{stats:?}");
}

/// Negative control of the test above.
#[cfg(debug_assertions)]
#[tokio::test]
async fn without_the_outbox_the_same_breaks_lose_messages() {
    let (resolved, received, _publisher) = publish_through_breaks(true).await;
    assert!(resolved < MESSAGES, "{resolved}");
    assert!(missing(&received) > 0);
}

#[tokio::test]
async fn every_receipt_resolves_over_a_killed_mosquitto() {
    let test = "every_receipt_resolves_over_a_killed_mosquitto";
    let Some(mut mosquitto) = Mosquitto::start(test) else {
        return;
    };
    let (publisher, task) = Publisher::new(PublisherOptions::new(connect(mosquitto.port, "p")));
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(task.run(stop.clone()));
    connected(publisher.connected()).await;

    let mut receipts = Vec::new();
    for number in 0..MESSAGES {
        if number == MESSAGES / 2 {
            mosquitto.kill();
            disconnected(publisher.connected()).await;
        }
        let payload = number.to_string().into_bytes();
        receipts.push(
            publisher
                .publish("t", payload, Qos::AtLeastOnce)
                .await
                .unwrap(),
        );
    }
    mosquitto.restart();
    for receipt in receipts {
        within("receipt", receipt).await.unwrap();
    }
    assert_eq!(publisher.stats().acked, MESSAGES as u64);
    assert_eq!(publisher.stats().reconnects, 1);

    stop.cancel();
    within("stop", tasks.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let refused = publisher.publish("t", "x", Qos::AtLeastOnce).await;
    assert_eq!(refused.unwrap_err(), PublishError::Stopped);
}

#[tokio::test]
async fn a_full_outbox_makes_publish_wait_and_a_stop_is_bounded() {
    // Nobody listens here, so nothing is ever acknowledged.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut options = PublisherOptions::new(connect(port, "p"));
    options.capacity_bytes = 1_000;
    options.drain_timeout = std::time::Duration::ZERO;
    let (publisher, task) = Publisher::new(options);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(task.run(stop.clone()));

    let mut receipts = Vec::new();
    for _ in 0..3 {
        receipts.push(publisher.publish("t", "x", Qos::AtLeastOnce).await.unwrap());
    }
    let mut fourth = Box::pin(publisher.publish("t", "x", Qos::AtLeastOnce));
    let waiting = std::future::poll_fn(|context| {
        std::task::Poll::Ready(fourth.as_mut().poll(context).is_pending())
    });
    assert!(waiting.await, "the outbox has no room for a fourth message");

    stop.cancel();
    within("stop", tasks.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    for receipt in receipts {
        assert!(receipt.await.is_err(), "nothing was acknowledged");
    }
}

#[tokio::test]
async fn what_could_never_be_sent_is_refused() {
    let (publisher, _task) = Publisher::new(PublisherOptions::new(connect(1, "p")));
    for topic in ["", "a/+", "a/#", "a\0"] {
        let refused = publisher.publish(topic, "x", Qos::AtLeastOnce).await;
        assert_eq!(refused.unwrap_err(), PublishError::Topic, "{topic:?}");
    }
    let huge = publisher
        .publish("t", vec![0; 2 << 20], Qos::AtLeastOnce)
        .await;
    assert!(matches!(huge.unwrap_err(), PublishError::TooLarge { .. }));
    let exactly = publisher.publish("t", "x", Qos::ExactlyOnce).await;
    assert_eq!(exactly.unwrap_err(), PublishError::Qos);
}
