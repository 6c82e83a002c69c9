//! When it is said that nobody comes.

use std::sync::Arc;

use ingest_log::{LogConfig, RealDisk, RecordBatch, RecordHead};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::*;
use crate::metrics::ShareMetrics;
use crate::protocol::topic::Share;
use crate::session::Options;

#[tokio::test]
async fn who_waits_for_nobody_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let (log, report) =
        Log::open(Arc::new(RealDisk), LogConfig::new(dir.path().join("log"))).unwrap();
    let metrics = ShareMetrics {
        groups: Gauge::default(),
        members: Gauge::default(),
        redelivered: Counter::default(),
        replay_turns: Counter::default(),
    };
    let hold = Hold::new(&["g".to_owned(), "h".to_owned()]);
    let state = crate::share::tests::state(&log, &dir.path().join("state"));
    let groups = Groups::open(&log, &state, report.next, &hold, metrics);
    assert!(groups.abandoned().is_empty(), "nothing waits yet");
    let mut batch = RecordBatch::new();
    let head = RecordHead {
        qos: 1,
        retain: false,
        received_us: 0,
        topic: "any",
        client_id: "c",
        properties: &[],
    };
    batch.push(&head, b"x").unwrap();
    batch.push(&head, b"y").unwrap();
    log.append(batch).await.unwrap().await.unwrap();
    let both = BTreeMap::from([("g".to_owned(), 2), ("h".to_owned(), 2)]);
    assert_eq!(groups.abandoned(), both);
    for filter in INGEST_FILTERS {
        let key = &format!("g/{filter}");
        let joined = groups.join(
            Share { key, filter },
            &"m".into(),
            false,
            Options::default(),
            0,
        );
        joined.unwrap();
    }
    let one = BTreeMap::from([("h".to_owned(), 2)]);
    assert_eq!(groups.abandoned(), one);
}

#[test]
fn it_is_said_after_a_while_and_then_rarely() {
    let mut vigil = Vigil::default();
    let waiting = || BTreeMap::from([("g".to_owned(), 7)]);
    let said: Vec<_> = (1..=30)
        .filter(|_| !vigil.look(waiting()).is_empty())
        .collect();
    assert_eq!(said, [2, 12, 22]);
    // Who came in between is missed anew.
    assert!(vigil.look(BTreeMap::new()).is_empty());
    assert!(vigil.look(waiting()).is_empty());
    assert_eq!(vigil.look(waiting()), [("g".to_owned(), 7)]);
}
