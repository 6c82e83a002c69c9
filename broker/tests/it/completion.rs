//! What was begun is completed: retained messages on their way, and messages of subscriptions that have ended.

use std::fs;

use ::broker::{AccessSettings, Settings};

use crate::broker::{Broker, until};
use crate::client::{Client, QOS_1, RETAIN, Received, publish};
use crate::exactly_once::{
    PUBCOMP, PUBREC, PUBREL, QOS_2, expect_nothing_new, publish_twice_sure, say,
};
use crate::kill::Process;

async fn retain(client: &mut Client, topic: &str, payload: &str) {
    let bytes = publish(QOS_2 | RETAIN, topic, 5, payload.as_bytes());
    client.send(&bytes).await;
    client.expect(PUBREC, &[0, 5]).await;
    say(client, PUBREL, 5).await;
    client.expect(PUBCOMP, &[0, 5]).await;
}

async fn complete(client: &mut Client, message: &Received) {
    say(client, PUBREC, message.id).await;
    client.expect(PUBREL, &message.id.to_be_bytes()).await;
    say(client, PUBCOMP, message.id).await;
}

#[tokio::test]
async fn a_retained_message_arrives_once_through_kills() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Process::start(dir.path(), &[]);
    let (mut publisher, _) = Client::connect(broker.addr, "p", true).await;
    retain(&mut publisher, "r/a", "kept a").await;
    retain(&mut publisher, "r/b", "kept b").await;
    let (mut client, _) = Client::connect(broker.addr, "s", false).await;
    assert_eq!(client.subscribe(&[("r/#", 2)]).await, [2]);
    let (a, b) = (client.message().await, client.message().await);
    assert_eq!((a.qos, a.retain, a.dup), (2, true, false));
    assert_eq!(
        (&a.payload[..], &b.payload[..]),
        (&b"kept a"[..], &b"kept b"[..])
    );
    say(&mut client, PUBREC, a.id).await;
    client.expect(PUBREL, &a.id.to_be_bytes()).await;
    client.expect_quiet().await;
    // The one that is on its way is replaced and cleared meanwhile.
    retain(&mut publisher, "r/b", "").await;
    broker.kill();
    let broker = Process::start(dir.path(), &[]);
    let (mut client, present) = Client::connect(broker.addr, "s", false).await;
    assert!(present);
    client.expect(PUBREL, &a.id.to_be_bytes()).await;
    let again = client.message().await;
    assert_eq!(
        (again.dup, again.id, &again.payload),
        (true, b.id, &b.payload)
    );
    // That it was cleared is a message too, for who has subscribed.
    let cleared = client.message().await;
    assert!(cleared.payload.is_empty() && cleared.topic == "r/b");
    say(&mut client, PUBCOMP, a.id).await;
    complete(&mut client, &again).await;
    complete(&mut client, &cleared).await;
    client.expect_quiet().await;
    broker.kill();
    let broker = Process::start(dir.path(), &[]);
    let (mut client, _) = Client::connect(broker.addr, "s", false).await;
    expect_nothing_new(&mut client).await;
    // Who subscribes again gets it again.
    client.subscribe(&[("r/#", 2)]).await;
    let again = client.message().await;
    assert_eq!((again.dup, &again.payload), (false, &a.payload));
    complete(&mut client, &again).await;
    client.expect_quiet().await;
    broker.kill();
}

/// Takes and answers what is there; returns topics and ids of the messages, and no topic for PUBREL.
async fn take_all(client: &mut Client) -> Vec<(String, u16)> {
    client.send(&[0xc0, 0]).await;
    let mut taken = Vec::new();
    loop {
        let packet = client.receive().await.unwrap();
        match packet.first {
            0xd0 => return taken,
            PUBREL => {
                let id = u16::from_be_bytes([packet.body[0], packet.body[1]]);
                say(client, PUBCOMP, id).await;
                taken.push((String::new(), id));
            }
            first => {
                let topic = String::from_utf8(packet.body[2..5].to_vec()).unwrap();
                let id = u16::from_be_bytes([packet.body[5], packet.body[6]]);
                let answer = if first & 0b110 == 0b010 { 0x40 } else { PUBREC };
                say(client, answer, id).await;
                taken.push((topic, id));
            }
        }
    }
}

#[tokio::test]
async fn retained_messages_that_had_no_room_come_on_the_next_connection() {
    let dir = tempfile::tempdir().unwrap();
    let settings = || Settings {
        mqtt_window: Some(2),
        ..Settings::default()
    };
    let mut broker = Broker::start_with(dir.path(), settings()).await;
    let mut publisher = broker.client("p", true).await;
    for topic in ["r/a", "r/b", "r/c", "r/d", "r/e"] {
        retain(&mut publisher, topic, topic).await;
    }
    for qos in [1, 2] {
        let id = if qos == 1 { "one" } else { "two" };
        let mut client = broker.client(id, false).await;
        client.subscribe(&[("r/#", qos)]).await;
        let mut got = Vec::new();
        let (first, second) = (client.message().await, client.message().await);
        assert_eq!((first.qos, second.qos), (qos, qos));
        got.push(first.topic.clone());
        if qos == 1 {
            client.acknowledge(first.id).await;
        } else {
            complete(&mut client, &first).await;
        }
        // The third has its place now; neither it nor the second is answered.
        let third = client.message().await;
        client.expect_quiet().await;
        drop(client);
        broker.stop().await;
        broker = Broker::start_with(dir.path(), settings()).await;
        let mut client = broker.client(id, false).await;
        let mut seen = Vec::new();
        // What has its place when another is answered comes after the PINGRESP: twice nothing is nothing.
        let mut quiet = 0;
        while quiet < 2 {
            let more = take_all(&mut client).await;
            quiet = if more.is_empty() { quiet + 1 } else { 0 };
            seen.extend(more.into_iter().filter(|(topic, _)| !topic.is_empty()));
        }
        got.extend(seen.iter().map(|(topic, _)| topic.clone()));
        got.sort();
        if qos == 1 {
            // At least once.
            got.dedup();
        } else {
            assert!(seen.contains(&(second.topic, second.id)), "{seen:?}");
            assert!(seen.contains(&(third.topic, third.id)), "{seen:?}");
        }
        assert_eq!(got, ["r/a", "r/b", "r/c", "r/d", "r/e"], "QoS {qos}");
        drop(client);
        let mut client = broker.client(id, false).await;
        client.expect_quiet().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn what_was_begun_is_completed_after_unsubscribe() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path()).await;
    let mut publisher = broker.client("p", true).await;
    let mut client = broker.client("s", false).await;
    client.subscribe(&[("t", 2)]).await;
    publisher.publish("t", "one").await;
    publish_twice_sure(&mut publisher, "t", 9, "two").await;
    let (one, two) = (client.message().await, client.message().await);
    assert_eq!((one.qos, two.qos), (1, 2));
    client.unsubscribe("t").await;
    publisher.send(&publish(QOS_1, "t", 3, b"not for it")).await;
    publisher.expect(0x40, &[0, 3]).await;
    client.expect_quiet().await;
    drop((client, publisher));
    broker.stop().await;
    broker = Broker::start(dir.path()).await;
    let mut publisher = broker.client("p", true).await;
    let mut client = broker.client("s", false).await;
    for message in [&one, &two] {
        let again = client.message().await;
        assert_eq!((again.dup, &again.payload), (true, &message.payload));
        if message.qos == 1 {
            client.acknowledge(again.id).await;
        } else {
            assert_eq!(again.id, message.id);
            complete(&mut client, &again).await;
        }
    }
    client.expect_quiet().await;
    let pins = || broker.log().cursors().get("session/s").unwrap().pins;
    until("nothing holds the log", || !pins()).await;
    // A subscription to the same filter is a new one.
    client.subscribe(&[("t", 1)]).await;
    publisher.publish("t", "three").await;
    assert_eq!(client.messages(1).await, ["three"]);
    client.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test]
async fn what_was_begun_is_not_completed_against_the_rules() {
    let dir = tempfile::tempdir().unwrap();
    let acl = dir.path().join("acl");
    let rules = |rule: &str| fs::write(&acl, format!("lastmile-acl 1\n[all]\n{rule}\n")).unwrap();
    let settings = || Settings {
        mqtt_window: Some(4),
        access: AccessSettings {
            mqtt_acl_file: Some(acl.clone()),
            ..AccessSettings::default()
        },
        ..Settings::default()
    };
    rules("allow readwrite #");
    let broker = Broker::start_with(&dir.path().join("data"), settings()).await;
    let mut publisher = broker.client("p", true).await;
    for topic in ["r/a", "r/b"] {
        retain(&mut publisher, topic, topic).await;
    }
    let mut client = broker.client("s", false).await;
    let filters = [("r/#", 2), ("t", 2), ("$share/g/t", 2)];
    assert_eq!(client.subscribe(&filters).await, [2, 2, 2]);
    publish_twice_sure(&mut publisher, "t", 9, "x").await;
    // All four are on their way: two retained ones, and one of each subscription.
    for _ in 0..4 {
        assert_eq!(client.message().await.qos, 2);
    }
    client.expect_quiet().await;
    drop((client, publisher));
    broker.stop().await;
    rules("allow readwrite other/#");
    let broker = Broker::start_with(&dir.path().join("data"), settings()).await;
    let (mut client, present) = Client::connect(broker.addr(), "s", false).await;
    assert!(present);
    client.expect_quiet().await;
    // Nothing of it is left in the way of what is allowed.
    client.subscribe(&[("other/#", 2)]).await;
    let mut publisher = broker.client("p", true).await;
    for number in 0..6_u16 {
        publish_twice_sure(&mut publisher, "other/x", 20 + number, &number.to_string()).await;
        let message = client.message().await;
        assert_eq!(message.payload, number.to_string().into_bytes());
        complete(&mut client, &message).await;
    }
    client.expect_quiet().await;
    broker.stop().await;
}
