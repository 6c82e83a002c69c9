//! Subcommands and single runs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use model::{DelivererId, DeliveryState, Latitude, Longitude, Position, Record, Source, UtcMicros};
use store::{Batch, LakeSource, Writer};
use store_sqlite::{Options, SqliteStore};

pub(crate) fn lake_ingest(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lake_ingest"));
    command.arg("--data").arg(data).env("RUST_LOG", "warn");
    command.env_remove("MONGODB_URI");
    command
}

pub(crate) fn run(data: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = lake_ingest(data).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Makes a store with `count` positions of one deliverer, a second apart.
pub(crate) async fn store(data: &Path, first: i64, count: i64) {
    let store = SqliteStore::open(&data.join("store.sqlite"), &Options::default()).unwrap();
    let position = |number: i64| {
        let time = UtcMicros::new(1_767_225_600_000_000 + number * 1_000_000).unwrap();
        Record::Position(Position {
            order_id: None,
            deliverer_id: DelivererId::new("d").unwrap(),
            delivery_state: DeliveryState::new("start"),
            event_time: time,
            received_time: time,
            lat: Latitude::from_degrees(52.0).unwrap(),
            lon: Longitude::from_degrees(4.0).unwrap(),
            speed_mps: None,
            heading_deg: None,
            accuracy_m: None,
            altitude_m: None,
            battery: None,
            seq: u64::try_from(number).ok(),
            source: Source::Native,
        })
    };
    let batch = Batch {
        records: (first..first + count).map(position).collect(),
        ..Batch::default()
    };
    store.append(batch).await.unwrap();
}

#[tokio::test]
async fn one_run_fills_the_lake_and_the_next_has_nothing_to_do() {
    let data = tempfile::tempdir().unwrap();
    store(data.path(), 0, 250).await;
    let (code, out, err) = run(
        data.path(),
        &["--once", "--summary", "json", "--window-rows", "100"],
    );
    assert_eq!(code, 0, "{err}");
    let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary.pointer("/offload/tables/0/rows"), Some(&250.into()));
    assert_eq!(
        summary.pointer("/offload/tables/0/windows"),
        Some(&3.into())
    );
    assert_eq!(summary.pointer("/models/0/outcome"), Some(&"ran".into()));
    let (code, out, _) = run(data.path(), &["--once"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("0 rows in") && out.contains("unchanged"),
        "{out}"
    );

    let (code, out, _) = run(data.path(), &["status", "--format", "json"]);
    assert_eq!(code, 0);
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status.pointer("/watermarks/0/in_lake"), Some(&250.into()));
    assert_eq!(status.pointer("/lake/0/rows"), Some(&250.into()));
    let (_, out, _) = run(data.path(), &["status"]);
    assert!(
        out.contains("200..250") && out.contains("verified"),
        "{out}"
    );
}

#[tokio::test]
async fn queries_are_answered_and_bad_ones_explained() {
    let data = tempfile::tempdir().unwrap();
    store(data.path(), 0, 3).await;
    assert_eq!(run(data.path(), &["--once"]).0, 0);
    let sql = "SELECT vehicle_id, driven_meters FROM final.vehicle_position_data LIMIT 2";
    let (code, out, _) = run(data.path(), &["query", sql]);
    assert!(
        code == 0 && out.contains("vehicle_id") && out.contains("2 rows"),
        "{out}"
    );
    let (_, out, _) = run(data.path(), &["query", sql, "--format", "csv"]);
    assert_eq!(out, "vehicle_id,driven_meters\nd,0.0\nd,0.0\n");
    let (_, out, _) = run(
        data.path(),
        &[
            "query",
            "SELECT count(*) AS n FROM raw.deliverer_location",
            "--format",
            "json",
        ],
    );
    assert_eq!(out, "[{\"n\":3}]\n");
    let (code, out, err) = run(data.path(), &["query", "SELECT * FROM nothing"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("final.vehicle_position_data"), "{err}");
}

/// Two days of 2026, a run of both, a day that came late, and a lake that lost a file.
#[tokio::test]
async fn dates_are_compared_and_computed_anew() {
    let data = tempfile::tempdir().unwrap();
    store(data.path(), 86_395, 10).await;
    let json = |arguments: &[&str]| {
        let all = [&["--summary", "json"], arguments].concat();
        let (code, out, err) = run(data.path(), &all);
        let found: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        (code, found, err)
    };
    let number = |found: &serde_json::Value, pointer: &str| {
        let number = found.pointer(pointer).and_then(serde_json::Value::as_u64);
        number.unwrap_or_else(|| panic!("{pointer} of {found}"))
    };
    let (code, found, err) = json(&["--from", "2026-01-01", "--to", "2026-01-02"]);
    assert_eq!(code, 0, "{err}");
    for date in 0..2 {
        assert_eq!(number(&found, &format!("/dates/{date}/store_rows")), 5);
        assert_eq!(number(&found, &format!("/dates/{date}/lake_rows")), 5);
        assert_eq!(number(&found, &format!("/dates/{date}/missing")), 0);
    }
    // Nothing changed, and yet that date is computed anew, and comes out the same.
    let (_, found, _) = json(&["--once"]);
    assert_eq!(
        found.pointer("/models/0/outcome"),
        Some(&"unchanged".into())
    );
    let (code, found, err) = json(&["--date", "2026-01-01"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(found.pointer("/models/0/outcome"), Some(&"ran".into()));
    assert_eq!(number(&found, "/models/0/partitions_unchanged"), 1);
    assert_eq!(number(&found, "/models/0/partitions_written"), 0);

    let day = data
        .path()
        .join("lake/raw/deliverer_location/event_date=2026-01-01");
    std::fs::remove_dir_all(day).unwrap();
    let (code, found, err) = json(&["--date", "2026-01-01"]);
    assert!(code == 1 && err.contains("do not agree"), "{code} {err}");
    assert_eq!(number(&found, "/dates/0/missing"), 5);
    assert_eq!(found.pointer("/models/0"), None);
}

/// Small files of a model's table are put together by a run; what a dead run left goes by `vacuum`.
#[tokio::test]
async fn the_lake_is_kept_in_shape() {
    let data = tempfile::tempdir().unwrap();
    store(data.path(), 0, 30).await;
    let (code, _, err) = run(data.path(), &["--once", "--checkpoint-every", "2"]);
    assert_eq!(code, 0, "{err}");
    let log = data.path().join("lake/raw/deliverer_location/_delta_log");
    let properties = std::fs::read_to_string(log.join(format!("{:020}.json", 1))).unwrap();
    assert!(
        properties.contains("delta.checkpointInterval"),
        "{properties}"
    );
    assert!(log.join("_last_checkpoint").exists());

    let json = |arguments: &[&str]| -> serde_json::Value {
        let all = [arguments, &["--summary", "json"]].concat();
        let (code, out, err) = run(data.path(), &all);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).unwrap()
    };
    let of = |kept: &serde_json::Value, table: &str| {
        let kept = kept.as_array().unwrap().iter();
        let mut named = kept.filter(|kept| kept.get("table") == Some(&table.into()));
        named.next().unwrap().clone()
    };
    let kept = of(&json(&["compact"]), "treated.deliverer_location");
    assert_eq!(kept.get("compacted"), None, "one file a partition: {kept}");
    assert_eq!(kept.get("small_files"), Some(&1.into()));
    // Of a dead run: what is in the lake already, long ago, and a moment ago.
    let day = data
        .path()
        .join("lake/raw/deliverer_location/event_date=2026-01-01");
    let live = std::fs::read_dir(&day)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let name = live.file_name().unwrap().to_str().unwrap().to_owned();
    let (old, new) = (
        day.join(name.replace("-0-30", "-1-30")),
        day.join(name.replace("-0-30", "-2-30")),
    );
    for left in [&old, &new] {
        std::fs::copy(&live, left).unwrap();
    }
    let then = live.metadata().unwrap().modified().unwrap() - std::time::Duration::from_secs(700);
    std::fs::File::options()
        .append(true)
        .open(&old)
        .unwrap()
        .set_modified(then)
        .unwrap();
    let kept = of(&json(&["vacuum"]), "raw.deliverer_location");
    assert_eq!(kept.pointer("/vacuumed/files"), Some(&1.into()), "{kept}");
    assert!(live.exists() && new.exists() && !old.exists());
    let (_, out, _) = run(data.path(), &["status"]);
    assert!(out.contains("small"), "{out}");
}

#[tokio::test]
async fn models_run_alone() {
    let data = tempfile::tempdir().unwrap();
    store(data.path(), 0, 3).await;
    assert_eq!(run(data.path(), &["--once"]).0, 0);
    let (code, out, _) = run(data.path(), &["models"]);
    assert!(
        code == 0 && out.contains("final.vehicle_position_data"),
        "{out}"
    );
}

#[tokio::test]
async fn wrong_settings_and_a_missing_store_have_their_exit_codes() {
    let data = tempfile::tempdir().unwrap();
    for wrong in [
        vec!["--schedule", "sometimes"],
        vec!["--lake", "gs://bucket/lake", "--once"],
        vec!["--lake", "s3://bucket//lake", "--once"],
        vec!["--s3-endpoint", "127.0.0.1:9000", "--once"],
        vec!["--once", "models"],
        vec!["--date", "2026-13-01"],
        vec!["--from", "2026-01-02", "--to", "2026-01-01"],
        vec!["--no-such-flag"],
    ] {
        let (code, _, err) = run(data.path(), &wrong);
        assert_eq!(code, 2, "{wrong:?}: {err}");
    }
    let (code, _, err) = run(data.path(), &["--once"]);
    assert!(code == 1 && err.contains("no store at"), "{code} {err}");
    assert!(!data.path().join("store.sqlite").exists());
    let (code, out, _) = run(data.path(), &["--help"]);
    assert!(code == 0 && out.contains("Airflow"), "{out}");
    assert_eq!(run(data.path(), &["--check-config"]).0, 0);
}

#[tokio::test]
async fn a_run_waits_for_the_lease_of_one_that_died() {
    let data = tempfile::tempdir().unwrap();
    store(data.path(), 0, 3).await;
    let path = data.path().join("store.sqlite");
    let store = SqliteStore::open(&path, &Options::default()).unwrap();
    // Far in the future, so that only giving it up sets it free.
    let taken = store
        .acquire_lease("lake", "dead", 0, i64::MAX)
        .await
        .unwrap();
    assert!(taken);
    let mut waiting = lake_ingest(data.path());
    waiting
        .env("RUST_LOG", "info")
        .arg("--once")
        .stderr(Stdio::piped());
    let mut waiting = waiting.stdout(Stdio::null()).spawn().unwrap();
    let mut log = BufReader::new(waiting.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("another runner has the lease")));
    store.release_lease("lake", "dead").await.unwrap();
    log.for_each(drop);
    assert!(waiting.wait().unwrap().success());
}
