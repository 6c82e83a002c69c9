//! Shared subscriptions, one promise after the other.

use ::broker::Settings;

use crate::broker::{Broker, until};
use crate::client::{Client, QOS_1, RETAIN, Received, publish};

const FAILURE: u8 = 0x80;
/// Messages that are spread over members.
const COUNT: u32 = 400;

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Publishes each number with QoS 1 and waits for its PUBACK.
async fn publish_numbers(broker: &Broker, topic: &str, range: std::ops::Range<u32>) {
    let mut publisher = broker.client("p", true).await;
    for number in range {
        publisher.publish(topic, &number.to_string()).await;
    }
}

async fn receive(client: &mut Client, count: usize) -> Vec<Received> {
    let mut messages = Vec::new();
    for _ in 0..count {
        messages.push(client.message().await);
    }
    messages
}

fn payloads(messages: &[Received]) -> Vec<String> {
    let texts = messages.iter().map(|m| m.payload.clone());
    texts.map(|text| String::from_utf8(text).unwrap()).collect()
}

fn small_window(window: usize) -> Settings {
    Settings {
        mqtt_window: Some(window),
        ..Settings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_filters_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let cases = [
        ("$share/g/a", 1, 1),
        ("$share/g/a/#", 0, 0),
        ("$share/g/#", 2, 2),
        ("$share/g//", 1, 1),
        ("$share/é g/+/b", 1, 1),
        ("$share", 1, FAILURE),
        ("$share/", 1, FAILURE),
        ("$share/g", 1, FAILURE),
        ("$share/g/", 1, FAILURE),
        ("$share//a", 1, FAILURE),
        ("$share/+/a", 1, FAILURE),
        ("$share/#", 1, FAILURE),
        ("$share/g+/a", 1, FAILURE),
        ("$share/g#/a", 1, FAILURE),
        ("$share/g/a#", 1, FAILURE),
        ("$share/g/#/a", 1, FAILURE),
        ("$share/g/$share/h/a", 1, FAILURE),
        ("a", 1, 1),
    ];
    for clean in [true, false] {
        let mut client = broker.client("a", clean).await;
        let filters = cases.map(|(filter, qos, _)| (filter, qos));
        let granted = client.subscribe(&filters).await;
        assert_eq!(granted, cases.map(|(_, _, granted)| granted));
        for (filter, ..) in cases {
            client.unsubscribe(filter).await;
        }
        client.expect_quiet().await;
    }
    let cursors = broker.log().cursors().list();
    assert!(cursors.iter().all(|(name, _)| !name.starts_with("share/")));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_subscriptions_per_client_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for clean in [true, false] {
        let mut client = broker.client("a", clean).await;
        let many: Vec<_> = (0..102).map(|n| format!("$share/g/{n}")).collect();
        let many: Vec<_> = many.iter().map(|filter| (&**filter, 1)).collect();
        let granted = client.subscribe(&many).await;
        assert_eq!(granted.iter().position(|qos| *qos == FAILURE), Some(100));
        // One that is there changes its quality, and leaving makes room.
        assert_eq!(client.subscribe(&[("$share/g/5", 0)]).await, [0]);
        client.unsubscribe("$share/g/6").await;
        assert_eq!(client.subscribe(&[("$share/g/101", 1)]).await, [1]);
        let groups = broker.metric("broker_share_groups");
        assert!((groups - 100.0).abs() < 0.1, "{groups}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_goes_to_one_member_and_each_member_gets_some() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut members = Vec::new();
    for (id, clean) in [("a", true), ("b", false), ("c", true), ("d", false)] {
        let mut member = broker.client(id, clean).await;
        assert_eq!(member.subscribe(&[("$share/g/n/#", 1)]).await, [1]);
        members.push(member);
    }
    let mut other = broker.client("other", false).await;
    other.subscribe(&[("$share/g/other", 1)]).await;
    publish_numbers(&broker, "n/x", 0..COUNT).await;
    let delivered = || broker.metric("broker_messages_delivered_total") > f64::from(COUNT) - 0.5;
    until("all is delivered", delivered).await;
    let mut all = Vec::new();
    for member in &mut members {
        // A PINGRESP comes behind everything that was delivered.
        member.send(&[0xc0, 0]).await;
        let mut own: Vec<u32> = Vec::new();
        while let Some(packet) = member.receive().await {
            if packet.first == 0xd0 {
                break;
            }
            let text = str::from_utf8(&packet.body[2 + 3 + 2..]).unwrap();
            own.push(text.parse().unwrap());
        }
        assert!(own.is_sorted(), "a member gets its part in order");
        assert!(own.len() > COUNT as usize / 20, "{} are too few", own.len());
        all.extend(own);
    }
    all.sort_unstable();
    assert_eq!(all, (0..COUNT).collect::<Vec<_>>(), "once each");
    other.expect_quiet().await;
    broker.stop().await;
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Leaving {
    Disconnects,
    IsCut,
    IsTakenOver,
    Unsubscribes,
}

/// One member has fifty messages and acknowledges every fifth; then it leaves in that way.
async fn inherits(leaving: Leaving, clean: bool, heir_waits: bool) {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(dir.path(), small_window(50)).await;
    let mut leaver = broker.client("leaver", clean).await;
    leaver.subscribe(&[("$share/g/t", 1)]).await;
    publish_numbers(&broker, "t", 0..50).await;
    let messages = receive(&mut leaver, 50).await;
    assert_eq!(payloads(&messages), numbers(0..50));
    assert!(messages.iter().all(|message| !message.dup));
    for message in messages.iter().step_by(5) {
        leaver.acknowledge(message.id).await;
    }
    leaver.expect_quiet().await;
    let mut heir = broker.client("heir", false).await;
    if heir_waits {
        heir.subscribe(&[("$share/g/t", 1)]).await;
        heir.expect_quiet().await;
    }
    let mut left = None;
    match leaving {
        Leaving::Disconnects => leaver.disconnect().await,
        Leaving::IsCut => drop(leaver.into_stream()),
        Leaving::IsTakenOver => left = Some(broker.client("leaver", true).await),
        Leaving::Unsubscribes => {
            leaver.unsubscribe("$share/g/t").await;
            left = Some(leaver);
        }
    }
    if !heir_waits {
        let gone = || broker.metric("broker_share_members") < 0.5;
        until("the member has left", gone).await;
        heir.subscribe(&[("$share/g/t", 1)]).await;
    }
    let unacknowledged: Vec<_> = (0..50_u32).filter(|n| n % 5 != 0).collect();
    let unacknowledged: Vec<_> = unacknowledged.iter().map(u32::to_string).collect();
    let inherited = receive(&mut heir, 40).await;
    assert_eq!(payloads(&inherited), unacknowledged, "{leaving:?} {clean}");
    assert!(inherited.iter().all(|message| message.dup));
    publish_numbers(&broker, "t", 50..53).await;
    let fresh = receive(&mut heir, 3).await;
    assert_eq!(payloads(&fresh), numbers(50..53));
    assert!(fresh.iter().all(|message| !message.dup));
    for message in inherited.iter().chain(&fresh) {
        heir.acknowledge(message.id).await;
    }
    heir.expect_quiet().await;
    let cursor = broker.log().cursors().get("share/g/t").unwrap();
    assert_eq!(cursor.next, broker.log().next_durable());
    let redelivered = broker.metric("broker_share_redelivered_messages_total");
    assert!((redelivered - 40.0).abs() < 0.1, "{redelivered}");
    if let Some(mut left) = left {
        left.expect_quiet().await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_leaves_goes_to_the_others() {
    for clean in [true, false] {
        for leaving in [
            Leaving::Disconnects,
            Leaving::IsCut,
            Leaving::IsTakenOver,
            Leaving::Unsubscribes,
        ] {
            inherits(leaving, clean, true).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_leaves_waits_for_the_next_to_come() {
    for leaving in [Leaving::Disconnects, Leaving::IsCut] {
        inherits(leaving, false, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_comes_before_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(dir.path(), small_window(10)).await;
    let mut leaver = broker.client("leaver", true).await;
    leaver.subscribe(&[("$share/g/t", 1)]).await;
    let mut heir = broker.client("heir", true).await;
    heir.subscribe(&[("$share/g/t", 1)]).await;
    publish_numbers(&broker, "t", 0..40).await;
    // Both windows are full, and twenty wait in the log.
    let kept = receive(&mut leaver, 10).await;
    let own = receive(&mut heir, 10).await;
    leaver.disconnect().await;
    for message in &own {
        heir.acknowledge(message.id).await;
    }
    let mut rest = Vec::new();
    for _ in 0..30 {
        let message = heir.message().await;
        heir.acknowledge(message.id).await;
        rest.push(message);
    }
    assert_eq!(payloads(&rest[..10]), payloads(&kept));
    assert_eq!(payloads(&rest[10..]), numbers(20..40));
    assert!(rest.iter().take(10).all(|message| message.dup));
    assert!(rest.iter().skip(10).all(|message| !message.dup));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_member_stalls_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(dir.path(), small_window(20)).await;
    // One acknowledges nothing, the other does not even read.
    let mut lazy = broker.client("lazy", false).await;
    lazy.subscribe(&[("$share/g/t", 1)]).await;
    let mut deaf = broker.client("deaf", true).await;
    deaf.subscribe(&[("$share/g/t", 1)]).await;
    let mut quick = broker.client("quick", true).await;
    quick.subscribe(&[("$share/g/t", 1)]).await;
    let mut publisher = broker.client("p", true).await;
    let payload = |number: u32| format!("{number:0>10000}");
    for number in 0..200 {
        let bytes = publish(0b010, "t", 7, payload(number).as_bytes());
        publisher.send(&bytes).await;
        publisher.expect(0x40, &[0, 7]).await;
    }
    let mut got: Vec<_> = Vec::new();
    for _ in 0..160 {
        got.extend(quick.messages(1).await);
    }
    quick.expect_quiet().await;
    drop((deaf, lazy));
    for _ in 0..40 {
        let message = quick.message().await;
        assert!(message.dup);
        quick.acknowledge(message.id).await;
        got.push(String::from_utf8(message.payload).unwrap());
    }
    quick.expect_quiet().await;
    got.sort();
    assert_eq!(got, (0..200).map(payload).collect::<Vec<_>>());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_holds_what_no_member_takes_through_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path()).await;
    for id in ["a", "b"] {
        let mut member = broker.client(id, false).await;
        member.subscribe(&[("$share/g/t", 1)]).await;
        member.disconnect().await;
    }
    publish_numbers(&broker, "t", 0..30).await;
    broker.stop().await;
    broker = Broker::start(dir.path()).await;
    publish_numbers(&broker, "t", 30..60).await;
    let cursor = broker.log().cursors().get("share/g/t").unwrap();
    assert_eq!((cursor.next, cursor.pins), (0, true));
    let behind = broker.metric("broker_share_lag_max_records");
    assert!((behind - 60.0).abs() < 0.1, "{behind}");
    // It was a member before, so it need not subscribe again.
    let mut member = broker.client("a", false).await;
    let messages = receive(&mut member, 60).await;
    assert_eq!(payloads(&messages), numbers(0..60));
    assert!(messages.iter().all(|message| !message.dup), "never sent");
    for message in &messages[..30] {
        member.acknowledge(message.id).await;
    }
    member.expect_quiet().await;
    broker.stop().await;
    broker = Broker::start(dir.path()).await;
    let mut member = broker.client("b", false).await;
    let messages = receive(&mut member, 30).await;
    assert_eq!(payloads(&messages), numbers(30..60));
    assert!(messages.iter().all(|message| message.dup), "sent before");
    member.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_of_one_name_and_plain_subscriptions_are_independent() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for clean in [true, false] {
        let mut both = broker.client("both", clean).await;
        both.subscribe(&[("$share/g/a", 1), ("$share/g/+", 1), ("$share/h/a", 1)])
            .await;
        let mut plain = broker.client("plain", clean).await;
        plain.subscribe(&[("a", 1), ("$share/g/b", 1)]).await;
        publish_numbers(&broker, "a", 0..10).await;
        let mut expected = numbers(0..10);
        assert_eq!(plain.messages(10).await, expected);
        plain.expect_quiet().await;
        expected.extend(numbers(0..10));
        expected.extend(numbers(0..10));
        expected.sort();
        let mut got = both.messages(30).await;
        got.sort();
        assert_eq!(got, expected, "once for each group");
        both.subscribe(&[("a", 1)]).await;
        publish_numbers(&broker, "a", 7..8).await;
        assert_eq!(both.messages(4).await, ["7"; 4]);
        both.expect_quiet().await;
        both.unsubscribe("a").await;
        both.unsubscribe("$share/g/a").await;
        publish_numbers(&broker, "a", 8..9).await;
        assert_eq!(both.messages(2).await, ["8"; 2]);
        both.expect_quiet().await;
        both.disconnect().await;
        assert_eq!(plain.messages(2).await, ["7", "8"]);
        plain.disconnect().await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_ends_with_its_last_member() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let there = || broker.log().cursors().get("share/g/t").is_some();
    // Clean members: with the last connection.
    let mut one = broker.client("one", true).await;
    one.subscribe(&[("$share/g/t", 1)]).await;
    let mut two = broker.client("two", true).await;
    two.subscribe(&[("$share/g/t", 1)]).await;
    publish_numbers(&broker, "t", 0..5).await;
    drop(one);
    let one_is_left = || broker.metric("broker_share_members") < 1.5;
    until("the first has left", one_is_left).await;
    assert!(there());
    drop(two);
    until("the clean group has ended", || !there()).await;
    publish_numbers(&broker, "t", 5..10).await;
    let mut one = broker.client("one", true).await;
    one.subscribe(&[("$share/g/t", 1)]).await;
    one.expect_quiet().await;
    // A persistent member keeps it beyond all connections, until it unsubscribes.
    let mut member = broker.client("member", false).await;
    member.subscribe(&[("$share/g/t", 1)]).await;
    member.disconnect().await;
    one.disconnect().await;
    assert!(there());
    let mut member = broker.client("member", false).await;
    member.unsubscribe("$share/g/t").await;
    assert!(!there());
    // Or until its session is discarded.
    member.subscribe(&[("$share/g/t", 1)]).await;
    member.disconnect().await;
    let mut second = broker.client("second", false).await;
    second.subscribe(&[("$share/g/t", 1)]).await;
    second.disconnect().await;
    broker.client("member", true).await.disconnect().await;
    assert!(there());
    let mut member = broker.client("member", false).await;
    publish_numbers(&broker, "t", 10..11).await;
    member.expect_quiet().await;
    broker.client("second", true).await.disconnect().await;
    assert!(!there());
    assert!(broker.metric("broker_share_groups") < 0.5);
    assert!(broker.metric("broker_share_members") < 0.5);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quality_is_the_lower_of_both_and_quality_0_moves_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start_with(dir.path(), small_window(5)).await;
    for (granted, clean) in [(0, true), (0, false), (1, true), (1, false)] {
        let mut member = broker.client("m", clean).await;
        member.subscribe(&[("$share/g/t", granted)]).await;
        let mut publisher = broker.client("p", true).await;
        for published in [0, 1] {
            for _ in 0..20 {
                if published == 1 {
                    publisher.publish("t", "1").await;
                } else {
                    publisher.send(&publish(0, "t", 0, b"0")).await;
                }
                let message = member.message().await;
                assert_eq!((message.qos, message.dup), (granted.min(published), false));
                if message.qos > 0 {
                    member.acknowledge(message.id).await;
                }
            }
        }
        member.expect_quiet().await;
        let end = broker.log().next_durable();
        assert_eq!(broker.log().cursors().get("share/g/t").unwrap().next, end);
        if !clean {
            broker.stop().await;
            broker = Broker::start_with(dir.path(), small_window(5)).await;
            let mut member = broker.client("m", false).await;
            member.expect_quiet().await;
            member.unsubscribe("$share/g/t").await;
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_messages_are_not_for_shared_subscriptions() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut publisher = broker.client("p", true).await;
    publisher
        .send(&publish(QOS_1 | RETAIN, "t", 1, b"kept"))
        .await;
    publisher.expect(0x40, &[0, 1]).await;
    for clean in [true, false] {
        let mut member = broker.client("m", clean).await;
        member.subscribe(&[("$share/g/t", 1)]).await;
        member.expect_quiet().await;
        member.subscribe(&[("$share/g/t", 1), ("t", 1)]).await;
        let message = member.message().await;
        assert_eq!((&*message.payload, message.retain), (&b"kept"[..], true));
        member.acknowledge(message.id).await;
        member.expect_quiet().await;
        member.disconnect().await;
    }
    broker.stop().await;
}
