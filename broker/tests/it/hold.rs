//! Groups that wait for their first member.

use ::broker::Settings;

use crate::broker::Broker;
use crate::client::Client;
use crate::kill::Process;

/// The topics on which something waits.
const TOPICS: [&str; 3] = [
    "deliveries/7/location",
    "fleet/o/events",
    "test/deliverer_data",
];
const FILTERS: [(&str, u8); 3] = [
    ("$share/g/deliveries/+/location", 1),
    ("$share/g/fleet/+/events", 1),
    ("$share/g/test/deliverer_data", 1),
];

fn holding(names: &[&str]) -> Settings {
    Settings {
        hold_for: Some(names.iter().map(ToString::to_string).collect()),
        ..Settings::default()
    }
}

async fn publish(client: &mut Client, range: std::ops::Range<u32>) {
    for number in range {
        let topic = TOPICS[number as usize % TOPICS.len()];
        client.publish(topic, &number.to_string()).await;
    }
}

/// Takes and acknowledges so many; returns them in the order of their numbers.
async fn take(member: &mut Client, count: usize) -> Vec<u32> {
    let messages = member.messages(count).await;
    let mut numbers: Vec<u32> = messages.iter().map(|m| m.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// Publishes to a process, kills it, and subscribes for the first time after that; returns what came.
async fn first_subscription_after_a_kill(arguments: &[&str]) -> Vec<u32> {
    let dir = tempfile::tempdir().unwrap();
    let broker = Process::start(dir.path(), arguments);
    let (mut publisher, _) = Client::connect(broker.addr, "p", true).await;
    publish(&mut publisher, 0..60).await;
    broker.kill();
    let broker = Process::start(dir.path(), arguments);
    let (mut member, present) = Client::connect(broker.addr, "lastmile-subscriber", false).await;
    assert!(!present, "it never came before");
    let (mut publisher, _) = Client::connect(broker.addr, "p", true).await;
    publish(&mut publisher, 60..63).await;
    let filters =
        FILTERS.map(|(filter, qos)| (filter.replace("/g/", "/lastmile-subscriber/"), qos));
    let filters = filters.each_ref().map(|(filter, qos)| (&**filter, *qos));
    assert_eq!(member.subscribe(&filters).await, [1, 1, 1]);
    publish(&mut publisher, 63..66).await;
    let mut came = Vec::new();
    while !(63..66).all(|last| came.contains(&last)) {
        came.extend(take(&mut member, 1).await);
    }
    member.expect_quiet().await;
    broker.kill();
    came.sort_unstable();
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_the_first_subscription_waits_for_it() {
    let came = first_subscription_after_a_kill(&[]).await;
    assert_eq!(came, (0..66).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn control_without_holding_it_is_lost() {
    let came = first_subscription_after_a_kill(&["--hold-for", "none"]).await;
    assert_eq!(came, [63, 64, 65], "the test would not notice a loss");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_connection_with_the_members_id_does_not_move_the_group() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(dir.path(), holding(&["g"])).await;
    let mut member = broker.client("m", false).await;
    assert_eq!(member.subscribe(&FILTERS).await, [1, 1, 1]);
    let mut publisher = broker.client("p", true).await;
    publish(&mut publisher, 0..9).await;
    assert_eq!(take(&mut member, 9).await, (0..9).collect::<Vec<_>>());
    member.disconnect().await;
    publish(&mut publisher, 9..69).await;
    broker.client("m", true).await.disconnect().await;
    broker.stop().await;
    let broker = Broker::start_with(dir.path(), holding(&["g"])).await;
    // Nor when it was sent something: what the member had goes back to the group.
    let mut member = broker.client("m", false).await;
    assert_eq!(member.subscribe(&FILTERS).await, [1, 1, 1]);
    member.message().await;
    let mut member = broker.client("m", true).await;
    assert_eq!(member.subscribe(&FILTERS).await, [1, 1, 1]);
    assert_eq!(take(&mut member, 60).await, (9..69).collect::<Vec<_>>());
    member.expect_quiet().await;
    assert!(broker.metric("broker_share_lag_records") < 0.5);
    assert!((broker.metric("broker_share_groups") - 3.0).abs() < 0.1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_group_begins_with_what_the_log_still_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let small = Settings {
        log_segment_size: Some("64KiB".parse().unwrap()),
        ..Settings::default()
    };
    let broker = Broker::start_with(dir.path(), small.clone()).await;
    let mut session = broker.client("s", false).await;
    session.subscribe(&[("#", 1)]).await;
    let mut publisher = broker.client("p", true).await;
    let padding = "x".repeat(10_000);
    for _ in 0..30 {
        publisher.publish(TOPICS[0], &padding).await;
    }
    session.messages(30).await;
    crate::broker::until("the log deletes", || broker.log().first() > 0).await;
    publish(&mut publisher, 0..1).await;
    session.messages(1).await;
    session.disconnect().await;
    broker.stop().await;
    let settings = Settings {
        hold_for: Some(vec!["g".to_owned()]),
        ..small
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    let first = broker.log().first();
    let held = broker.log().cursors().get("share/g/deliveries/+/location");
    let place = held.unwrap().next;
    assert!(place > 0 && place >= first, "{place} {first}");
    let rest = usize::try_from(broker.log().next_durable() - place).unwrap();
    let mut member = broker.client("m", false).await;
    assert_eq!(member.subscribe(&FILTERS).await, [1, 1, 1]);
    let messages = member.messages(rest).await;
    assert_eq!(messages.last().unwrap(), "0");
    member.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_held_a_filter_alone_misses_nothing_in_a_new_group() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut client = broker.client("c", false).await;
    client.subscribe(&[(TOPICS[0], 1)]).await;
    let mut publisher = broker.client("p", true).await;
    for number in 0..10_u32 {
        publisher.publish(TOPICS[0], &number.to_string()).await;
    }
    let mut messages = Vec::new();
    for _ in 0..10 {
        messages.push(client.message().await);
    }
    for message in &messages[..4] {
        client.acknowledge(message.id).await;
    }
    client.expect_quiet().await;
    // It shares the filter, gives up its own, and goes before it has acknowledged the rest.
    let share = format!("$share/g/{}", TOPICS[0]);
    let other = format!("$share/g/{}", TOPICS[1]);
    assert_eq!(client.subscribe(&[(&share, 1), (&other, 1)]).await, [1, 1]);
    drop(client);
    let place = |filter: &str| {
        let cursor = broker.log().cursors().get(&format!("share/g/{filter}"));
        cursor.unwrap().next
    };
    assert_eq!((place(TOPICS[0]), place(TOPICS[1])), (4, 10));
    let mut client = broker.client("c", false).await;
    let mut came = Vec::new();
    while came.len() < 12 {
        came.extend(take(&mut client, 1).await);
    }
    came.sort_unstable();
    let twice: Vec<_> = (4..10).flat_map(|number| [number, number]).collect();
    assert_eq!(came, twice, "once for itself, once for the group");
    client.unsubscribe(TOPICS[0]).await;
    publisher.publish(TOPICS[0], "10").await;
    assert_eq!(take(&mut client, 1).await, [10]);
    client.expect_quiet().await;
    broker.stop().await;
}
