//! A long replay goes on beside live traffic, and does not stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ingest_log::{RecordBatch, RecordHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::broker::{Broker, LIMIT, until};
use crate::client::packet;

/// Records that each consumer has missed.
const BACKLOG: usize = 60_000;
/// Consumers that come back at the same time.
const CONSUMERS: usize = 4;
/// Most records that may be replayed, all consumers together, while one live message is on its way. What one turn of
/// each can send, many times over, and a small part of the whole.
const BETWEEN: usize = CONSUMERS * BACKLOG / 5;
/// Live messages that come through before the replay is over, at least.
const LIVE: usize = 20;

async fn append_backlog(broker: &Broker) {
    for _ in 0..BACKLOG / 1000 {
        let mut batch = RecordBatch::new();
        for _ in 0..1000 {
            let head = RecordHead {
                qos: 1,
                retain: false,
                received_us: 0,
                topic: "bulk",
                client_id: "p",
                properties: &[],
            };
            batch.push(&head, &[b'x'; 100]).unwrap();
        }
        broker.log().append(batch).await.unwrap().await.unwrap();
    }
}

/// Takes and acknowledges everything, and counts.
async fn replay(stream: tokio::net::TcpStream, replayed: Arc<AtomicUsize>) {
    let (read, mut write) = stream.into_split();
    let mut read = tokio::io::BufReader::with_capacity(64 << 10, read);
    for _ in 0..BACKLOG {
        let mut head = [0; 2];
        read.read_exact(&mut head).await.unwrap();
        assert_eq!((head[0] & 0xf0, head[1] < 128), (0x30, true));
        let mut body = vec![0; usize::from(head[1])];
        read.read_exact(&mut body).await.unwrap();
        let id = [body[6], body[7]];
        write.write_all(&packet(0x40, &id)).await.unwrap();
        replayed.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_messages_come_through_while_others_catch_up() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    for number in 0..CONSUMERS {
        let mut consumer = broker.client(&format!("c{number}"), false).await;
        consumer.subscribe(&[("bulk", 1)]).await;
        consumer.disconnect().await;
    }
    append_backlog(&broker).await;
    let mut clean = broker.client("clean", true).await;
    clean.subscribe(&[("live", 1)]).await;
    let mut lasting = broker.client("lasting", false).await;
    lasting.subscribe(&[("live", 1)]).await;
    let mut member = broker.client("member", false).await;
    member.subscribe(&[("$share/g/live", 1)]).await;
    let mut publisher = broker.client("p", true).await;

    let replayed = Arc::new(AtomicUsize::new(0));
    let mut replays = Vec::new();
    for number in 0..CONSUMERS {
        let consumer = broker.client(&format!("c{number}"), false).await;
        let stream = consumer.into_stream();
        replays.push(tokio::spawn(replay(stream, Arc::clone(&replayed))));
    }
    until("the replay has begun", || {
        replayed.load(Ordering::Relaxed) > 0
    })
    .await;
    let mut came = 0;
    while replayed.load(Ordering::Relaxed) < CONSUMERS * BACKLOG {
        let before = replayed.load(Ordering::Relaxed);
        publisher.publish("live", "x").await;
        for subscriber in [&mut clean, &mut lasting, &mut member] {
            assert_eq!(subscriber.messages(1).await, ["x"]);
        }
        let between = replayed.load(Ordering::Relaxed) - before;
        assert!(
            between < BETWEEN,
            "{between} records went before a live one"
        );
        came += 1;
    }
    for replay in replays {
        tokio::time::timeout(LIMIT, replay).await.unwrap().unwrap();
    }
    assert!(came >= LIVE, "only {came} came through");
    // They were far behind, and took turns.
    assert!(broker.metric("broker_replay_chunks_total") > 100.0);
    broker.stop().await;
}
