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
        replay_turns: Counter::default(),
    }
}

/// Opens a journal for a log.
pub(super) fn state(log: &Log, dir: &std::path::Path) -> Store {
    let (journal, _) = Log::open(Arc::new(RealDisk), LogConfig::new(dir)).unwrap();
    Store::open(journal, log.clone(), |_| None).unwrap()
}

fn open(dir: &std::path::Path) -> (Log, Groups) {
    open_holding(dir, &[])
}

fn open_holding(dir: &std::path::Path, names: &[&str]) -> (Log, Groups) {
    let config = LogConfig::new(dir.join("log"));
    let (log, report) = Log::open(Arc::new(RealDisk), config).unwrap();
    let state = state(&log, &dir.join("state"));
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let groups = Groups::open(&log, &state, report.next, &Hold::new(&names), metrics());
    (log, groups)
}

async fn close(log: Log, groups: Groups) {
    groups.0.state.close().await.unwrap();
    log.close().await.unwrap();
}

fn qos(qos: u8) -> Options {
    Options {
        qos,
        ..Options::default()
    }
}

fn names(log: &Log) -> Vec<String> {
    let cursors = log.cursors().list().into_iter();
    cursors.map(|(name, _)| name).collect()
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
    close(log, groups).await;

    let (log, groups) = open(dir.path());
    assert_eq!(
        names(&log),
        ["session/there", "share/both/a", "share/newer/a"]
    );
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

#[tokio::test]
async fn held_groups_are_there_first_and_end_when_they_are_no_longer_held() {
    let dir = tempfile::tempdir().unwrap();
    let (log, groups) = open_holding(dir.path(), &["g", "h"]);
    let of_g = [
        "deliveries/+/location",
        "fleet/+/events",
        "test/deliverer_data",
    ];
    let expected = |name: &str| of_g.map(|filter| format!("share/{name}/{filter}"));
    assert_eq!(names(&log), [expected("g"), expected("h")].concat());
    assert_eq!(groups.0.metrics.groups.get(), 6);
    let there: Arc<str> = "there".into();
    put(&log, "session/there", "{}");
    for filter in of_g {
        for name in ["g", "h"] {
            let key = format!("{name}/{filter}");
            let joined = groups.join(share(&key), &there, true, qos(1), 7).unwrap();
            groups.leave(&joined, &there, name == "g");
        }
    }
    groups.forget("nobody");
    close(log, groups).await;

    // The member stays in the one that has it; the other ends.
    let (log, _groups) = open(dir.path());
    let left = [&["session/there".to_owned()][..], &expected("h")].concat();
    assert_eq!(names(&log), left);
    let meta = log.cursors().get(&left[1]).unwrap().meta;
    assert!(!Roster::from_meta(&meta).unwrap().is_held());
}

#[tokio::test]
async fn a_group_that_cannot_be_read_is_not_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, groups) = open(dir.path());
    let newer = r#"{"version":2,"sent_to":null,"members":[]}"#;
    put(&log, "share/g/fleet/+/events", newer);
    close(log, groups).await;
    let (log, groups) = open_holding(dir.path(), &["g"]);
    assert_eq!(groups.0.metrics.groups.get(), 2);
    let meta = log.cursors().get("share/g/fleet/+/events").unwrap().meta;
    assert_eq!(meta, newer);
}
