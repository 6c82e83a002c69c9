use mqtt_client::{
    Consumer, ConsumerOptions, Message, Publisher, PublisherOptions, Qos, TaskResult,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fake_broker::{self, Life, Record};
use crate::mosquitto::Mosquitto;
use crate::{connect, connected, disconnected, within};

async fn consumer(port: u16, tasks: &mut JoinSet<TaskResult>) -> Consumer {
    let options = ConsumerOptions::new(connect(port, "the-consumer"), ["t/#"]);
    let (consumer, task) = Consumer::new(options);
    tasks.spawn(task.run(CancellationToken::new()));
    connected(consumer.connected()).await;
    consumer
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        messages.push(within("message", consumer.next()).await.unwrap());
    }
    messages
}

fn numbers(messages: &[Message]) -> Vec<usize> {
    let text = messages
        .iter()
        .map(|message| String::from_utf8(message.payload.to_vec()).unwrap());
    text.map(|number| number.parse().unwrap()).collect()
}

fn start_publisher(port: u16, tasks: &mut JoinSet<TaskResult>) -> Publisher {
    let (publisher, task) = Publisher::new(PublisherOptions::new(connect(port, "p")));
    tasks.spawn(task.run(CancellationToken::new()));
    publisher
}

async fn publish(publisher: &Publisher, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let payload = number.to_string().into_bytes();
        let receipt = publisher
            .publish("t/1", payload, Qos::AtLeastOnce)
            .await
            .unwrap();
        within("receipt", receipt).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_after_a_kill() {
    let test = "what_was_not_acknowledged_comes_again_after_a_kill";
    let Some(mosquitto) = Mosquitto::start(test) else {
        return;
    };
    let mut others = JoinSet::new();
    let publisher = start_publisher(mosquitto.port, &mut others);

    let mut first = JoinSet::new();
    let mut killed = consumer(mosquitto.port, &mut first).await;
    publish(&publisher, 0..60).await;
    let messages = take(&mut killed, 20).await;
    assert_eq!(numbers(&messages), (0..20).collect::<Vec<_>>());
    killed.ack_through(messages[9].token);
    take(&mut killed, 5).await;
    first.shutdown().await;

    // The acks may or may not have reached the broker before the kill; what was never acknowledged comes.
    let mut second = JoinSet::new();
    let mut heir = consumer(mosquitto.port, &mut second).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&59) {
        let messages = take(&mut heir, 1).await;
        heir.ack_through(messages[0].token);
        assert!(messages[0].dup || !seen.is_empty());
        seen.extend(numbers(&messages));
    }
    assert!(seen[0] <= 10, "{seen:?}");
    assert_eq!(seen, (seen[0]..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_acknowledged_before_a_stop_does_not_come_again() {
    let test = "what_was_acknowledged_before_a_stop_does_not_come_again";
    let Some(mosquitto) = Mosquitto::start(test) else {
        return;
    };
    let mut others = JoinSet::new();
    let publisher = start_publisher(mosquitto.port, &mut others);
    let mut tasks = JoinSet::new();
    let mut first = consumer(mosquitto.port, &mut tasks).await;
    publish(&publisher, 0..10).await;
    let messages = take(&mut first, 10).await;
    first.ack_through(messages[6].token);
    drop(first);
    within("end", tasks.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();

    let mut second = consumer(mosquitto.port, &mut tasks).await;
    assert_eq!(numbers(&take(&mut second, 3).await), [7, 8, 9]);
}

#[tokio::test]
async fn a_broker_that_forgot_the_session_is_subscribed_to_again() {
    let test = "a_broker_that_forgot_the_session_is_subscribed_to_again";
    let Some(mut mosquitto) = Mosquitto::start(test) else {
        return;
    };
    let mut tasks = JoinSet::new();
    let mut consumer = consumer(mosquitto.port, &mut tasks).await;
    mosquitto.kill();
    disconnected(consumer.connected()).await;
    mosquitto.restart();
    connected(consumer.connected()).await;

    let publisher = start_publisher(mosquitto.port, &mut tasks);
    publish(&publisher, 7..8).await;
    let messages = take(&mut consumer, 1).await;
    assert_eq!(numbers(&messages), [7]);
    assert_eq!(messages[0].topic, "t/1");
    assert_eq!(messages[0].qos, Qos::AtLeastOnce);
}

#[tokio::test]
async fn acks_leave_in_order_and_once_whatever_order_they_are_named_in() {
    const COUNT: u16 = 3_000;
    let record = Record::default();
    let port = fake_broker::start(vec![Life::FOREVER], COUNT, record.clone()).await;
    let mut tasks = JoinSet::new();
    let mut consumer = consumer(port, &mut tasks).await;
    let messages = take(&mut consumer, usize::from(COUNT)).await;

    let handle = consumer.ack_handle();
    handle.ack_through(messages[30].token);
    handle.ack_through(messages[10].token);
    handle.ack_through(messages[2_000].token);
    within("acks", async {
        while consumer.stats().acked < 2_001 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    consumer.ack_through(messages[usize::from(COUNT) - 1].token);
    // Dropping the consumer ends its task, which sends what was named before.
    drop((consumer, handle));
    within("end", tasks.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    within("acks", async {
        while record.acked.lock().unwrap().len() < usize::from(COUNT) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let acked = record.acked.lock().unwrap().clone();
    assert_eq!(acked, (1..=COUNT).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_ack_of_an_earlier_connection_acknowledges_nothing() {
    let record = Record::default();
    let first_life = Life {
        records: 0,
        acks: 0,
    };
    let port = fake_broker::start(vec![first_life], 5, record.clone()).await;
    let options = ConsumerOptions::new(connect(port, "c"), ["t"]);
    let (mut consumer, task) = Consumer::new(options);
    let mut tasks = JoinSet::new();
    tasks.spawn(task.run(CancellationToken::new()));
    // The first connection is cut right after CONNACK; the second delivers.
    let messages = take(&mut consumer, 5).await;
    consumer.ack_through(messages[1].token);
    within("acks", async {
        while record.acked.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(*record.acked.lock().unwrap(), [1, 2]);
    assert_eq!(consumer.stats().acked, 2);
}
