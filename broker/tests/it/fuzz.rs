//! Anything may come over a socket: the broker lives, and the others do not notice.

use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::broker::Broker;
use crate::client::{Client, QOS_1, connect, packet, publish, text};
use crate::v5;

/// Packets that are right, to be changed a little.
fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut subscribe = vec![0, 1];
        subscribe.extend(text("a/+/#"));
        subscribe.push(1);
        let mut unsubscribe = vec![0, 2];
        unsubscribe.extend(text("a"));
        vec![
            connect("fuzz", 2, 60, &[]),
            connect("fuzz", 0b1110, 60, &[text("w"), text("x")].concat()),
            publish(QOS_1, "a/b", 7, b"payload"),
            publish(0, "a/b", 0, b""),
            packet(0x82, &subscribe),
            packet(0xa2, &unsubscribe),
            packet(0x40, &[0, 1]),
            vec![0xc0, 0],
            vec![0xe0, 0],
            v5::connect("fuzz", 2, &v5::four(0x11, 1), &[]),
            v5::publish(QOS_1, "a/b", 7, &v5::user("k", "v"), b"payload"),
            v5::publish(0, "a/b", 0, &v5::two(0x23, 1), b""),
            v5::publish(0, "", 0, &v5::two(0x23, 1), b""),
            packet(
                0x82,
                &[&[0, 1, 2, 0x0b, 7][..], &text("a/#"), &[0x2d]].concat(),
            ),
            packet(0xa2, &[&[0, 2, 0][..], &text("a")].concat()),
            packet(0x40, &[0, 1, 0x10, 0]),
            packet(0xe0, &[4, 5, 0x11, 0, 0, 0, 9]),
        ]
    })
}

/// Bytes to send: noise, or right packets with some bytes changed and the end cut.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..200);
    let chosen = proptest::collection::vec(0..samples().len(), 1..6);
    let changes = proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4);
    let changed = (chosen, changes, any::<usize>()).prop_map(|(chosen, changes, cut)| {
        let mut bytes: Vec<u8> = chosen.iter().flat_map(|i| samples()[*i].clone()).collect();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if cut % 4 == 0 {
            bytes.truncate(cut % bytes.len());
        }
        bytes
    });
    prop_oneof![1 => noise, 4 => changed]
}

#[test]
fn no_input_harms_the_others() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let broker = runtime.block_on(Broker::start(dir.path()));
    let well = runtime.block_on(async {
        let mut well = broker.client("well", true).await;
        well.subscribe(&[("well", 1)]).await;
        tokio::sync::Mutex::new(well)
    });
    let mut runner = TestRunner::new(Config {
        cases: 300,
        failure_persistence: None,
        ..Config::default()
    });
    let case = (0..3, bytes());
    let outcome = runner.run(&case, |(connected, bytes)| {
        runtime.block_on(async {
            let mut ill = Client::open(broker.addr()).await;
            match connected {
                0 => {}
                1 => ill.send(&connect("ill", 2, 60, &[])).await,
                _ => ill.send(&v5::connect("ill", 2, &[], &[])).await,
            }
            ill.send(&bytes).await;
            let mut well = well.lock().await;
            well.expect_quiet().await;
            drop(ill);
        });
        Ok(())
    });
    outcome.unwrap();
    runtime.block_on(async {
        let mut well = well.into_inner();
        let mut publisher = broker.client("p", true).await;
        publisher.publish("well", "still").await;
        assert_eq!(well.messages(1).await, ["still"]);
        broker.stop().await;
    });
}
