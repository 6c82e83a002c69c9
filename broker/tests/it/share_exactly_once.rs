//! Shared subscriptions with QoS 2: each message once to the group, bound to the member it was sent to
//! [MQTT-4.8.2-4, MQTT-4.8.2-5].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::broker::{Broker, until};
use crate::client::{Client, Received};
use crate::exactly_once::{
    DUP, PUBCOMP, PUBREC, PUBREL, Publisher, QOS_2, Subscriber, expect_nothing_new,
    publish_twice_sure, say,
};
use crate::kill::Process;

const SHARED: &str = "$share/g/t";

async fn publish_numbers(addr: std::net::SocketAddr, range: std::ops::Range<u16>) {
    let (mut publisher, _) = Client::connect(addr, "p", true).await;
    for number in range {
        publish_twice_sure(&mut publisher, "t", number + 1, &number.to_string()).await;
    }
}

async fn receive(client: &mut Client, numbers: std::ops::Range<u16>) -> Vec<Received> {
    let mut messages = Vec::new();
    for number in numbers {
        let message = client.message().await;
        assert_eq!((message.qos, message.dup), (2, false));
        assert_eq!(message.payload, number.to_string().into_bytes());
        messages.push(message);
    }
    messages
}

async fn complete(client: &mut Client, message: &Received) {
    say(client, PUBREC, message.id).await;
    client.expect(PUBREL, &message.id.to_be_bytes()).await;
    say(client, PUBCOMP, message.id).await;
}

/// Expects these messages with the ids they had.
async fn expect_again(client: &mut Client, messages: &[Received]) {
    for message in messages {
        let again = client.message().await;
        let expected = Received {
            dup: true,
            ..message.clone()
        };
        assert_eq!(again, expected);
    }
}

impl Client {
    /// Expects a message with the id it had, and before it the PUBREL of another whose PUBCOMP the kill may have lost.
    async fn expect_or_release(&mut self, received: &Received, message: &Received) {
        let mut packet = self.receive().await.unwrap();
        if packet.first == PUBREL {
            assert_eq!(packet.body, received.id.to_be_bytes());
            say(self, PUBCOMP, received.id).await;
            packet = self.receive().await.unwrap();
        }
        assert_eq!(packet.first, 0x30 | QOS_2 | DUP, "{packet:?}");
        let expected = [
            &[0, 1, b't'][..],
            &message.id.to_be_bytes(),
            &message.payload,
        ]
        .concat();
        assert_eq!(packet.body, expected);
    }
}

#[tokio::test]
async fn a_message_is_bound_to_its_member_through_kills() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Process::start(dir.path(), &[]);
    let (mut one, _) = Client::connect(broker.addr, "one", false).await;
    assert_eq!(one.subscribe(&[(SHARED, 2)]).await, [2]);
    publish_numbers(broker.addr, 0..3).await;
    let sent = receive(&mut one, 0..3).await;
    // The first is received, the others are on their way.
    say(&mut one, PUBREC, sent[0].id).await;
    one.expect(PUBREL, &sent[0].id.to_be_bytes()).await;
    let (mut two, _) = Client::connect(broker.addr, "two", false).await;
    two.subscribe(&[(SHARED, 2)]).await;
    // Until the broker has seen that, the next message may still be for the one that left.
    one.disconnect().await;
    two.expect_quiet().await;
    publish_numbers(broker.addr, 3..5).await;
    let others = receive(&mut two, 3..5).await;
    complete(&mut two, &others[0]).await;
    two.expect_quiet().await;
    broker.kill();
    // Each has what it was sent and nothing of the other.
    let broker = Process::start(dir.path(), &[]);
    let (mut two, _) = Client::connect(broker.addr, "two", false).await;
    two.expect_or_release(&others[0], &others[1]).await;
    complete(&mut two, &others[1]).await;
    two.expect_quiet().await;
    let (mut one, _) = Client::connect(broker.addr, "one", false).await;
    one.expect(PUBREL, &sent[0].id.to_be_bytes()).await;
    expect_again(&mut one, &sent[1..]).await;
    say(&mut one, PUBCOMP, sent[0].id).await;
    complete(&mut one, &sent[1]).await;
    // In another order than they were sent: the third is still the first client's.
    one.expect_quiet().await;
    broker.kill();
    let broker = Broker::start(dir.path()).await;
    let (mut one, _) = Client::connect(broker.addr(), "one", false).await;
    one.expect_or_release(&sent[1], &sent[2]).await;
    complete(&mut one, &sent[2]).await;
    one.expect_quiet().await;
    let (mut two, _) = Client::connect(broker.addr(), "two", false).await;
    expect_nothing_new(&mut two).await;
    let all_is_done = || {
        let cursor = broker.log().cursors().get("share/g/t").unwrap();
        cursor.next == broker.log().next_durable()
    };
    until("the group is done with all", all_is_done).await;
    broker.stop().await;
}

#[tokio::test]
async fn what_was_on_its_way_ends_with_the_session() {
    for clean in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(dir.path()).await;
        let mut one = broker.client("one", clean).await;
        assert_eq!(one.subscribe(&[(SHARED, 2)]).await, [2]);
        publish_numbers(broker.addr(), 0..3).await;
        let sent = receive(&mut one, 0..3).await;
        complete(&mut one, &sent[1]).await;
        one.expect_quiet().await;
        let mut two = broker.client("two", false).await;
        two.subscribe(&[(SHARED, 2)]).await;
        // What goes with QoS 1 is another's when it was not acknowledged.
        let mut publisher = broker.client("q", true).await;
        drop(one);
        broker.client("one", true).await.disconnect().await;
        publisher.publish("t", "for two").await;
        assert_eq!(two.messages(1).await, ["for two"]);
        two.expect_quiet().await;
        let cursor = broker.log().cursors().get("share/g/t").unwrap();
        assert_eq!(cursor.next, broker.log().next_durable());
        broker.stop().await;
        let broker = Broker::start(dir.path()).await;
        let mut two = broker.client("two", false).await;
        two.expect_quiet().await;
        broker.stop().await;
    }
}

#[tokio::test]
async fn who_leaves_the_group_completes_what_it_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut one = broker.client("one", false).await;
    one.subscribe(&[(SHARED, 2)]).await;
    publish_numbers(broker.addr(), 0..2).await;
    let sent = receive(&mut one, 0..2).await;
    one.unsubscribe(SHARED).await;
    publish_numbers(broker.addr(), 2..4).await;
    one.expect_quiet().await;
    complete(&mut one, &sent[0]).await;
    one.expect_quiet().await;
    broker.stop().await;
    // The group has no member any more, and stays for what is on its way.
    let broker = Broker::start(dir.path()).await;
    assert!(broker.log().cursors().get("share/g/t").is_some());
    let mut one = broker.client("one", false).await;
    expect_again(&mut one, &sent[1..]).await;
    // One that begins meanwhile is for what comes after it.
    let mut two = broker.client("two", false).await;
    two.subscribe(&[(SHARED, 2)]).await;
    two.expect_quiet().await;
    publish_numbers(broker.addr(), 4..5).await;
    let new = receive(&mut two, 4..5).await;
    complete(&mut two, &new[0]).await;
    two.unsubscribe(SHARED).await;
    complete(&mut one, &sent[1]).await;
    one.expect_quiet().await;
    let is_over = || broker.log().cursors().get("share/g/t").is_none();
    until("the group has ended", is_over).await;
    // Another of the same name knows nothing of it.
    one.subscribe(&[(SHARED, 2)]).await;
    publish_numbers(broker.addr(), 5..6).await;
    let new = receive(&mut one, 5..6).await;
    complete(&mut one, &new[0]).await;
    one.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test]
async fn what_is_refused_is_done_with() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let props = crate::v5::four(0x11, 1000);
    let (mut one, ..) = Client::connect5(broker.addr(), "one", 0, &props).await;
    assert_eq!(one.subscribe5(&[(SHARED, 2), ("t", 2)], &[]).await, [2, 2]);
    publish_numbers(broker.addr(), 0..1).await;
    for _ in 0..2 {
        let message = one.message5().await;
        let [high, low] = message.id.to_be_bytes();
        let body = [high, low, 0x83, 0];
        one.send(&crate::client::packet(PUBREC, &body)).await;
    }
    one.expect_quiet().await;
    let (mut one, ..) = Client::connect5(broker.addr(), "one", 0, &props).await;
    one.expect_quiet().await;
    for cursor in ["share/g/t", "session/one"] {
        let cursor = broker.log().cursors().get(cursor).unwrap();
        assert_eq!(cursor.next, broker.log().next_durable());
    }
    broker.stop().await;
}

/// Kills of the broker in the suite.
const KILLS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_gets_each_message_once_through_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut publisher = Publisher::default();
    let mut members = [Subscriber::new("a", SHARED), Subscriber::new("b", SHARED)];
    for kill in 0..KILLS {
        let broker = Process::start(dir.path(), &[]);
        if kill == 0 {
            let (mut client, _) = Client::connect(broker.addr, "a", false).await;
            client.subscribe(&[(SHARED, 2)]).await;
        }
        let taken = Arc::new(AtomicUsize::new(0));
        let publishing = tokio::spawn(publisher.run(broker.addr, None, Arc::clone(&taken)));
        let receiving = members.map(|member| tokio::spawn(member.run(broker.addr, None, true)));
        let wanted = 1 + (kill * 37) % 150;
        until("messages are taken", || {
            taken.load(Ordering::Relaxed) >= wanted
        })
        .await;
        broker.kill();
        publisher = publishing.await.unwrap();
        let [a, b] = receiving;
        members = [a.await.unwrap(), b.await.unwrap()];
    }
    let broker = Process::start(dir.path(), &[]);
    let last = publisher.next_number + 5;
    publisher = publisher
        .run(broker.addr, Some(last), Arc::new(AtomicUsize::new(0)))
        .await;
    let last = publisher.next_number;
    let [mut a, mut b] = members;
    let addr = broker.addr;
    // Each takes what is there until all has arrived.
    let waited = tokio::time::timeout(4 * crate::broker::LIMIT, async move {
        while a.arrived.len() + b.arrived.len() < last as usize
            || !a.has_nothing_open()
            || !b.has_nothing_open()
        {
            a = a.rest(addr).await;
            b = b.rest(addr).await;
        }
        (a, b)
    });
    let (a, b) = waited.await.expect("a message did not arrive");
    let mut arrived: HashMap<u32, u32> = a.arrived.clone();
    for (number, times) in &b.arrived {
        *arrived.entry(*number).or_default() += times;
    }
    for number in 1..=last {
        assert_eq!(arrived.get(&number), Some(&1), "message {number} of {last}");
    }
    assert!(!a.arrived.is_empty() && !b.arrived.is_empty());
    broker.kill();
}
