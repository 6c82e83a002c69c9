//! What keeps a consumer's connection, and what ends its task. The broker here is a page of bytes.

use std::time::Duration;

use mqtt_client::{Consumer, ConsumerOptions, Link, SubscriptionError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{connect, connected, within};

/// PUBLISH to `t` with QoS 1, packet id 1 and 65,536 bytes.
fn large_publish() -> Vec<u8> {
    // Remaining length: 3 of topic, 2 of packet id, the payload.
    let mut packet = vec![0x32, 0x85, 0x80, 0x04, 0, 1, b't', 0, 1];
    packet.resize(packet.len() + 65_536, b'x');
    packet
}

/// Takes a connection and answers CONNECT, and SUBSCRIBE with `code`.
async fn accept(listener: &TcpListener, code: u8) -> TcpStream {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut buffer = [0; 1024];
    assert!(socket.read(&mut buffer).await.unwrap() > 0, "CONNECT");
    socket.write_all(&[0x20, 2, 0, 0]).await.unwrap();
    assert!(socket.read(&mut buffer).await.unwrap() > 4, "SUBSCRIBE");
    let suback = [0x90, 3, buffer[2], buffer[3], code];
    socket.write_all(&suback).await.unwrap();
    socket
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn pings_go_on_while_nothing_is_read_and_all_is_read_in_the_end() {
    const MESSAGES: usize = 200;
    let (listener, port) = listen().await;
    let mut options = ConsumerOptions::new(connect(port, "c"), ["t"]);
    options.connect.keep_alive = Duration::from_secs(1);
    options.capacity = 1 << 20;
    let (mut consumer, task) = Consumer::new(options);
    let mut tasks = JoinSet::new();
    tasks.spawn(task.run(CancellationToken::new()));
    let (mut pings, mut writer) = accept(&listener, 1).await.into_split();
    connected(consumer.connected()).await;
    tasks.spawn(async move {
        for _ in 0..MESSAGES {
            writer.write_all(&large_publish()).await?;
        }
        // The connection stays open for the acks.
        std::future::pending().await
    });
    // The queue is full at once, and nobody takes from it; the pings come all the same, unanswered.
    let mut ping = [0; 2];
    for _ in 0..4 {
        within("ping", pings.read_exact(&mut ping)).await.unwrap();
        assert_eq!(ping, [0xC0, 0]);
    }
    let received = consumer.stats().received;
    assert!(received < 40, "{received} messages of 64 KiB in 1 MiB");
    let mut taken = 0;
    while taken < MESSAGES {
        let message = within("message", consumer.next()).await.unwrap();
        consumer.ack_through(message.token);
        taken += 1;
    }
    let mut acks = 0;
    while acks < MESSAGES {
        let head = within("ack", pings.read_u16()).await.unwrap();
        if head == 0x4002 {
            pings.read_u16().await.unwrap();
            acks += 1;
        }
    }
    assert_eq!(consumer.stats().reconnects, 0);
}

#[tokio::test]
async fn a_silent_broker_is_left() {
    let (listener, port) = listen().await;
    let mut options = ConsumerOptions::new(connect(port, "c"), ["t"]);
    options.connect.keep_alive = Duration::from_secs(1);
    let (consumer, task) = Consumer::new(options);
    let mut tasks = JoinSet::new();
    tasks.spawn(task.run(CancellationToken::new()));
    let _silent = accept(&listener, 1).await;
    let mut link = consumer.link();
    within("up", link.wait_for(|link| *link == Link::Up))
        .await
        .unwrap();
    let down = within("down", link.wait_for(|link| *link != Link::Up));
    let down = down.await.unwrap().clone();
    assert!(
        matches!(&down, Link::Down(why) if why.contains("did not answer")),
        "{down:?}"
    );
    within("a new connection", accept(&listener, 1)).await;
}

#[tokio::test]
async fn what_is_not_granted_ends_the_task() {
    for (code, is_refusal) in [(0x80, true), (0, false)] {
        let (listener, port) = listen().await;
        let (consumer, task) = Consumer::new(ConsumerOptions::new(connect(port, "c"), ["t"]));
        let mut tasks = JoinSet::new();
        tasks.spawn(task.run(CancellationToken::new()));
        let _socket = accept(&listener, code).await;
        let ended = within("end", tasks.join_next()).await.unwrap().unwrap();
        let error = ended.unwrap_err().downcast::<SubscriptionError>().unwrap();
        let refused = matches!(*error, SubscriptionError::Refused { .. });
        assert_eq!(refused, is_refusal, "{error}");
        assert!(!*consumer.connected().borrow());
    }
}

#[tokio::test]
async fn a_packet_above_the_bound_is_named() {
    let (listener, port) = listen().await;
    let mut options = ConsumerOptions::new(connect(port, "c"), ["t"]);
    options.connect.max_packet_size = 1024;
    let (consumer, task) = Consumer::new(options);
    let mut tasks = JoinSet::new();
    tasks.spawn(task.run(CancellationToken::new()));
    let mut socket = accept(&listener, 1).await;
    socket.write_all(&large_publish()).await.unwrap();
    let mut link = consumer.link();
    let named = |link: &Link| matches!(link, Link::Down(why) if why.contains("1024 bytes"));
    within("down", link.wait_for(named)).await.unwrap();
}
