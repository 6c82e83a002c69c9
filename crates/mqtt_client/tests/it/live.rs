use mqtt_client::{LiveConsumer, LiveOptions, Publisher, PublisherOptions, Qos};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::mosquitto::Mosquitto;
use crate::{connect, connected, within};

#[tokio::test]
async fn the_live_consumer_skips_rather_than_lags() {
    let test = "the_live_consumer_skips_rather_than_lags";
    let Some(mosquitto) = Mosquitto::start(test) else {
        return;
    };
    let mut tasks = JoinSet::new();
    let mut options = LiveOptions::new(connect(mosquitto.port, "live"), ["t/#"]);
    options.capacity = 2;
    let (mut live, task) = LiveConsumer::new(options);
    let stop = CancellationToken::new();
    tasks.spawn(task.run(stop.clone()));
    connected(live.connected()).await;

    let (publisher, task) = Publisher::new(PublisherOptions::new(connect(mosquitto.port, "p")));
    let mut publisher_tasks = JoinSet::new();
    publisher_tasks.spawn(task.run(CancellationToken::new()));
    for number in 0..10 {
        let receipt = publisher.publish("t/1", number.to_string().into_bytes(), Qos::AtMostOnce);
        within("receipt", receipt.await.unwrap()).await.unwrap();
    }
    within("drops", async {
        while live.dropped() < 8 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(live.next().await.unwrap().payload, "0");
    assert_eq!(live.next().await.unwrap().payload, "1");
    stop.cancel();
    within("stop", tasks.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(live.next().await, None);
}
