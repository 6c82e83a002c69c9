//! Wills that wait.

use crate::broker::{Broker, until};
use crate::client::{Client, text};
use crate::v5::{connect, four, properties};

/// Opens a connection with a session that lasts and a will that waits for so many seconds.
async fn with_will(addr: std::net::SocketAddr, clean: bool, delay: u32) -> Client {
    let will = [
        &properties(&four(0x18, delay))[..],
        &text("will"),
        &text("gone"),
    ]
    .concat();
    let flags = 0x04 | if clean { 0x02 } else { 0 };
    let mut client = Client::open(addr).await;
    client
        .send(&connect("w", flags, &four(0x11, 1000), &will))
        .await;
    let answer = client.receive().await.unwrap();
    assert_eq!((answer.first, answer.body[1]), (0x20, 0));
    client
}

#[tokio::test]
async fn a_will_waits_and_is_for_nothing_when_the_session_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut watcher = broker.client("s", false).await;
    watcher.subscribe(&[("will", 1)]).await;
    let first = with_will(broker.addr(), false, 500).await;
    // Taken over, and then cut, each time within the delay.
    let second = with_will(broker.addr(), false, 500).await;
    drop(first);
    drop(second);
    let third = with_will(broker.addr(), false, 500).await;
    watcher.expect_quiet().await;
    // Its session ends, and with that the delay.
    let fourth = with_will(broker.addr(), true, 1).await;
    drop(third);
    assert_eq!(watcher.message().await.payload, text("gone")[2..]);
    drop(fourth);
    assert_eq!(watcher.message().await.payload, text("gone")[2..]);
    watcher.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test]
async fn a_will_that_waits_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path()).await;
    let mut watcher = broker.client("s", false).await;
    watcher.subscribe(&[("will", 1)]).await;
    drop(watcher);
    drop(with_will(broker.addr(), true, 2).await);
    let gone = || broker.metric("broker_connections") < 0.5;
    until("both connections have ended", gone).await;
    broker.stop().await;
    let broker = Broker::start(dir.path()).await;
    let mut watcher = broker.client("s", false).await;
    assert_eq!(watcher.message().await.payload, text("gone")[2..]);
    watcher.expect_quiet().await;
    broker.stop().await;
}
