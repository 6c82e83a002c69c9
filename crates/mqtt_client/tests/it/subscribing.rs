//! Shared subscriptions where they may or may not be had, and where there were plain ones before.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use mqtt_client::{Consumer, ConsumerOptions, Link, Publisher, PublisherOptions, Qos, TaskResult};
use rumqttc::{ConnAck, ConnectReturnCode, Packet, QoS, SubAck, SubscribeReasonCode, UnsubAck};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::mosquitto::Mosquitto;
use crate::{connect, connected, within};

fn options(port: u16) -> ConsumerOptions {
    ConsumerOptions {
        instead: vec!["t/#".to_owned()],
        ..ConsumerOptions::new(connect(port, "c"), ["$share/c/t/#"])
    }
}

fn start(options: ConsumerOptions, tasks: &mut JoinSet<TaskResult>) -> Consumer {
    let (consumer, task) = Consumer::new(options);
    tasks.spawn(task.run(CancellationToken::new()));
    consumer
}

/// What a client asked for: filters it wanted and those it did not want any more.
type Asked = Arc<Mutex<Vec<(bool, Vec<String>)>>>;

/// Starts a broker that says that there is a session, and refuses filters that begin with `refused`.
async fn broker(refused: &'static str) -> (u16, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Asked::default();
    let record = Arc::clone(&asked);
    let serve = async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut input = BytesMut::new();
        loop {
            let packet = match Packet::read(&mut input, 1 << 20) {
                Ok(packet) => packet,
                Err(_) if socket.read_buf(&mut input).await.unwrap_or(0) == 0 => return,
                Err(_) => continue,
            };
            let answer = match packet {
                Packet::Connect(_) => {
                    Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, true))
                }
                Packet::Subscribe(subscribe) => {
                    let paths = subscribe.filters.iter().map(|f| f.path.clone());
                    let paths: Vec<_> = paths.collect();
                    let codes = paths.iter().map(|path| {
                        if path.starts_with(refused) {
                            SubscribeReasonCode::Failure
                        } else {
                            SubscribeReasonCode::Success(QoS::AtLeastOnce)
                        }
                    });
                    let answer = SubAck::new(subscribe.pkid, codes.collect());
                    record.lock().unwrap().push((true, paths));
                    Packet::SubAck(answer)
                }
                Packet::Unsubscribe(unsubscribe) => {
                    record.lock().unwrap().push((false, unsubscribe.topics));
                    Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid))
                }
                _ => continue,
            };
            let mut output = BytesMut::new();
            answer.write(&mut output, 1 << 20).unwrap();
            socket.write_all(&output).await.unwrap();
        }
    };
    JoinSet::spawn(Box::leak(Box::default()), serve);
    (port, asked)
}

fn wanted(filter: &str) -> (bool, Vec<String>) {
    (true, vec![filter.to_owned()])
}

#[tokio::test]
async fn plain_subscriptions_are_taken_where_shared_ones_are_refused() {
    let (port, asked) = broker("$share").await;
    let mut tasks = JoinSet::new();
    let consumer = start(options(port), &mut tasks);
    connected(consumer.connected()).await;
    let expected = [wanted("$share/c/t/#"), wanted("t/#")];
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[tokio::test]
async fn it_ends_where_both_are_refused_or_there_is_no_other() {
    for (refused, alone) in [("", false), ("$share", true)] {
        let (port, _) = broker(refused).await;
        let mut tasks = JoinSet::new();
        let mut options = options(port);
        if alone {
            options.instead.clear();
        }
        let consumer = start(options, &mut tasks);
        let ended = within("end", tasks.join_next()).await.unwrap().unwrap();
        let error = ended.unwrap_err().to_string();
        assert_eq!(error.contains("$share"), alone, "{error}");
        assert!(matches!(&*consumer.link().borrow(), Link::Down(_)));
    }
}

#[tokio::test]
async fn plain_subscriptions_are_given_up_after_the_grant() {
    let (port, asked) = broker("refuses nothing").await;
    let mut tasks = JoinSet::new();
    let consumer = start(options(port), &mut tasks);
    within("it is given up", async {
        while asked.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    connected(consumer.connected()).await;
    let given_up = (false, vec!["t/#".to_owned()]);
    assert_eq!(*asked.lock().unwrap(), [wanted("$share/c/t/#"), given_up]);
}

#[tokio::test]
async fn what_mosquitto_holds_for_a_plain_session_comes_to_the_shared_one() {
    let test = "what_mosquitto_holds_for_a_plain_session_comes_to_the_shared_one";
    let Some(mosquitto) = Mosquitto::start(test) else {
        return;
    };
    let port = mosquitto.port;
    let mut others = JoinSet::new();
    let (publisher, task) = Publisher::new(PublisherOptions::new(connect(port, "p")));
    others.spawn(task.run(CancellationToken::new()));
    let publish = async |range: std::ops::Range<usize>| {
        for number in range {
            let payload = number.to_string().into_bytes();
            let receipt = publisher.publish("t/1", payload, Qos::AtLeastOnce);
            within("receipt", receipt.await.unwrap()).await.unwrap();
        }
    };
    // A plain session takes a window and acknowledges some of it.
    let mut tasks = JoinSet::new();
    let plain = ConsumerOptions::new(connect(port, "c"), ["t/#"]);
    let mut old = start(plain, &mut tasks);
    connected(old.connected()).await;
    publish(0..15).await;
    let mut through = None;
    for _ in 0..15 {
        let message = within("message", old.next()).await.unwrap();
        through = through.or(Some(message.token));
    }
    old.ack_through(through.unwrap());
    drop(old);
    within("end", tasks.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    publish(15..200).await;

    let mut new = start(options(port), &mut tasks);
    connected(new.connected()).await;
    publish(200..300).await;
    let mut missing: std::collections::BTreeSet<usize> = (1..300).collect();
    let mut received = 0;
    while !missing.is_empty() {
        let message = within("message", new.next()).await.unwrap();
        new.ack_through(message.token);
        let number = str::from_utf8(&message.payload).unwrap().parse().unwrap();
        missing.remove(&number);
        received += 1;
    }
    // The first may have come once more: nobody knows whether its acknowledgement arrived.
    assert!(
        received <= 300,
        "{received}: both subscriptions were at work"
    );
}
