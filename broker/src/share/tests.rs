//! What a start of the broker finds, and the bounds.

use bytes::Bytes;
use ingest_log::{Cursor, LogConfig, RealDisk};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::*;

fn metrics() -> ShareMetrics {
    ShareMetrics {
        groups: Gauge::default(),
        members: Gauge::default(),
        redelivered: Counter::default(),
    }
}

fn open(dir: &std::path::Path) -> (Log, Groups) {
    let (log, report) = Log::open(Arc::new(RealDisk), LogConfig::new(dir)).unwrap();
    let groups = Groups::open(&log, report.next, metrics());
    (log, groups)
}

fn qos(qos: u8) -> Options {
    Options {
        qos,
        ..Options::default()
    }
}

fn share(key: &str) -> Share<'_> {
    let (_, filter) = key.split_once('/').unwrap();
    Share { key, filter }
}

fn put(log: &Log, name: &str, meta: &'static str) {
    let meta = Bytes::from_static(meta.as_bytes());
    let next = 0;
    let pins = true;
    log.cursors().put(name, Cursor { next, meta, pins });
}

#[tokio::test]
async fn a_start_keeps_whom_it_can_and_ends_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (log, groups) = open(dir.path());
    put(&log, "session/there", "{}");
    let both = r#"{"version":1,"sent_to":0,"members":[{"client_id":"there","qos":1},{"client_id":"gone","qos":0}]}"#;
    put(&log, "share/both/a", both);
    let gone = r#"{"version":1,"sent_to":0,"members":[{"client_id":"gone","qos":0}]}"#;
    put(&log, "share/gone/a", gone);
    put(
        &log,
        "share/clean/a",
        r#"{"version":1,"sent_to":null,"members":[]}"#,
    );
    put(
        &log,
        "share/newer/a",
        r#"{"version":2,"sent_to":null,"members":[]}"#,
    );
    drop(groups);
    log.close().await.unwrap();
    drop(log);

    let (log, groups) = open(dir.path());
    let names: Vec<_> = log
        .cursors()
        .list()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["session/there", "share/both/a", "share/newer/a"]);
    let there: Arc<str> = "there".into();
    assert_eq!(groups.rejoin(&there).len(), 1);
    assert!(groups.rejoin(&"gone".into()).is_empty());
    // What cannot be read holds the log, and nobody is served from it.
    let unreadable = groups.join(share("newer/a"), &there, true, qos(1), 0);
    assert_eq!(unreadable.err(), Some(JoinError::Unreadable));
    groups.forget("there");
    assert!(groups.lock().of_client.is_empty());
}

#[tokio::test]
async fn groups_and_members_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (_log, groups) = open(dir.path());
    for number in 0..MAX_GROUPS {
        let key = format!("g/{number}");
        groups
            .join(share(&key), &"a".into(), false, qos(1), 0)
            .unwrap();
    }
    let many = groups.join(share("g/more"), &"a".into(), false, qos(1), 0);
    assert_eq!(many.err(), Some(JoinError::TooManyGroups));
    for number in 1..roster::MAX_MEMBERS {
        let id: Arc<str> = number.to_string().into();
        groups.join(share("g/0"), &id, true, qos(1), 0).unwrap();
    }
    let crowded = groups.join(share("g/0"), &"one more".into(), true, qos(1), 0);
    assert_eq!(crowded.err(), Some(JoinError::TooManyMembers));
}
