//! A bucket keeps the seam's promises, also over a network that cuts, delays, repeats and damages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lake::delta::{Snapshot, Table};
use lake::storage::s3::{Encryption, Limits, Location, Options, S3Storage};
use lake::storage::{Access, Creation, ObjectKey, Storage, StorageError};
use store::ErrorKind;

use crate::delta::{commit, schema};
use crate::moto::moto;
use crate::proxy::{Fault, Proxy};
use crate::suite::{self, key};

const MIB: usize = 1 << 20;

/// Options for a service of the tests: short waits, small parts.
pub(crate) fn options(endpoint: &str) -> Options {
    Options {
        endpoint: Some(endpoint.to_owned()),
        create_bucket: true,
        credentials: Some(("tester".to_owned(), "hunter2".to_owned().into())),
        limits: Limits {
            first_wait: Duration::from_millis(2),
            longest_wait: Duration::from_millis(50),
            parts_above: 6 * MIB,
            part_bytes: 5 * MIB,
            ..Limits::default()
        },
        ..Options::default()
    }
}

pub(crate) fn storage(bucket: &str, options: Options) -> S3Storage {
    let location = Location::parse(&format!("{bucket}/some/lake")).unwrap();
    S3Storage::new(location, options)
}

/// Returns a bucket behind a proxy, or reports the test as skipped.
async fn behind_proxy(test: &str) -> Option<(Proxy, String, S3Storage)> {
    let (endpoint, bucket) = moto(test)?;
    let direct = storage(&bucket, options(&endpoint));
    direct.check(Access::Write).await.unwrap();
    let proxy = Proxy::start(&endpoint).await;
    let through = storage(&bucket, options(&proxy.endpoint));
    Some((proxy, bucket, through))
}

fn text(error: &StorageError) -> String {
    service::ErrorChain(error).to_string()
}

/// Bytes that differ from place to place.
fn large(len: usize) -> Bytes {
    let bytes = (0..len).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap());
    bytes.collect()
}

#[tokio::test]
async fn objects_are_written_listed_read_and_deleted() {
    let Some((endpoint, bucket)) = moto("lake::s3") else {
        return;
    };
    suite::objects(&storage(&bucket, options(&endpoint))).await;
    // The prefix keeps others' objects apart.
    let other = Location::parse(&format!("{bucket}/some")).unwrap();
    let other = S3Storage::new(other, options(&endpoint));
    assert_eq!(other.list(&key("a")).await.unwrap(), []);
    assert!(!other.list(&key("lake")).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_sixteen_creates_a_key() {
    let Some((endpoint, bucket)) = moto("lake::s3") else {
        return;
    };
    let storage: Arc<dyn Storage> = Arc::new(storage(&bucket, options(&endpoint)));
    storage.check(Access::Write).await.unwrap();
    assert_eq!(suite::race(&storage, 16, 25).await, [1; 25]);
}

/// Negative control: with `If-None-Match` taken away on the line the race has many winners, and the check at
/// the start refuses such a service.
#[tokio::test]
async fn a_service_that_ignores_the_condition_is_noticed_and_refused() {
    let Some((proxy, bucket, through)) = behind_proxy("lake::s3").await else {
        return;
    };
    proxy.forget_conditions();
    let error = through.check(Access::Write).await.unwrap_err();
    assert!(text(&error).contains("If-None-Match"), "{}", text(&error));
    through.check(Access::Read).await.unwrap();
    let through: Arc<dyn Storage> = Arc::new(storage(&bucket, options(&proxy.endpoint)));
    assert_eq!(suite::race(&through, 4, 3).await, [4; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_commits_each_get_a_version_and_none_is_lost() {
    let Some((proxy, bucket, _)) = behind_proxy("lake::s3").await else {
        return;
    };
    // Some replies get lost meanwhile; a writer must then know its own commit.
    proxy.fault("PUT", "_delta_log", 3, Fault::CutAfter);
    let open = || {
        let storage = storage(&bucket, options(&proxy.endpoint));
        Table::new(Arc::new(storage), ObjectKey::new("raw/t").unwrap())
    };
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..2_i64 {
        let (table, schema) = (open(), schema(&["a"]));
        writers.spawn(async move {
            let mut snapshot = Snapshot::default();
            for round in 1..=6_i64 {
                let path = format!("{writer}-{round}");
                let change = commit(&schema, &path, &format!("app-{writer}"), round);
                table.commit(&mut snapshot, &change).await.unwrap();
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let snapshot = open().load().await.unwrap();
    assert_eq!((snapshot.commits, snapshot.files.len()), (12, 12));
    assert!(proxy.is_used_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_more_than_a_page_are_whole() {
    let Some((proxy, _, through)) = behind_proxy("lake::s3").await else {
        return;
    };
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..1_007 {
        let storage = through.clone();
        writes.spawn(async move {
            let name = format!("many/{number:05}");
            storage.put(&key(&name), Bytes::new()).await.unwrap();
        });
        while writes.len() >= 16 {
            writes.join_next().await;
        }
    }
    writes.join_all().await;
    proxy.seen();
    proxy.fault("GET", "list-type", 1, Fault::CutWithin);
    let listed = through.list(&key("many")).await.unwrap();
    let names: BTreeSet<_> = listed.iter().map(|meta| &meta.key).collect();
    assert_eq!((listed.len(), names.len()), (1_007, 1_007));
    assert!(listed.is_sorted_by(|a, b| a.key < b.key));
    let pages = proxy.seen();
    assert_eq!(pages.len(), 3, "two pages, one of them twice: {pages:?}");
}

/// Every fault a request may meet is got over, and afterwards there is what a request without a fault makes.
#[tokio::test]
async fn every_fault_is_got_over() {
    let Some((proxy, _, through)) = behind_proxy("lake::s3").await else {
        return;
    };
    let faults = [
        Fault::Answer(500, "InternalError"),
        Fault::Answer(503, "SlowDown"),
        Fault::Answer(409, "ConditionalRequestConflict"),
        Fault::Answer(400, "RequestTimeout"),
        Fault::AnswerAfter(500, "InternalError"),
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::CutWithin,
        Fault::Repeat,
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let (name, content) = (format!("f/{number}"), Bytes::from(format!("{fault:?}")));
        let at = key(&name);
        proxy.fault("PUT", &name, 2, fault);
        let created = through.put_if_absent(&at, content.clone()).await.unwrap();
        assert_eq!(created, Creation::Created, "{fault:?}");
        let again = through.put_if_absent(&at, "x".into()).await.unwrap();
        assert_eq!(again, Creation::Exists, "{fault:?}");
        if !matches!(fault, Fault::Answer(409, _)) {
            // What a 400 means is said in a body, and answers to HEAD have none.
            let methods = if matches!(fault, Fault::Answer(400, _)) {
                &["GET", "DELETE"][..]
            } else {
                &["GET", "HEAD", "DELETE"]
            };
            for method in methods {
                proxy.fault(method, &name, 1, fault);
            }
            assert_eq!(
                through.head(&at).await.unwrap().unwrap().size,
                content.len() as u64
            );
            assert_eq!(
                through.get(&at).await.unwrap(),
                Some(content.clone()),
                "{fault:?}"
            );
            through.delete(&at).await.unwrap();
            assert_eq!(through.get(&at).await.unwrap(), None, "{fault:?}");
            proxy.fault("PUT", &name, 1, fault);
            through.put(&at, content.clone()).await.unwrap();
            assert_eq!(through.get(&at).await.unwrap(), Some(content), "{fault:?}");
        }
    }
    assert!(proxy.is_used_up());
}

/// Negative control of the lost reply: somebody else's object is never taken for ours, whatever it holds.
#[tokio::test]
async fn a_lost_reply_is_not_taken_for_a_win() {
    let Some((proxy, bucket, through)) = behind_proxy("lake::s3").await else {
        return;
    };
    let other = storage(&bucket, options(&proxy.endpoint));
    for fault in [
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::AnswerAfter(500, "InternalError"),
    ] {
        let at = key(&format!("{fault:?}").replace([' ', '"', '(', ')', ','], ""));
        other.put_if_absent(&at, "same".into()).await.unwrap();
        proxy.fault("PUT", at.as_str(), 1, fault);
        let outcome = through.put_if_absent(&at, "same".into()).await.unwrap();
        assert_eq!(outcome, Creation::Exists, "{fault:?}");
    }
}

#[tokio::test]
async fn a_service_that_is_silent_or_slow_is_asked_again() {
    let Some((proxy, bucket, _)) = behind_proxy("lake::s3").await else {
        return;
    };
    let mut options = options(&proxy.endpoint);
    options.limits.attempt = Duration::from_secs(2);
    let impatient = storage(&bucket, options);
    impatient.put(&key("x"), "x".into()).await.unwrap();
    for method in ["PUT", "GET", "HEAD"] {
        proxy.fault(method, "/x", 1, Fault::Silence);
    }
    impatient.put(&key("x"), "y".into()).await.unwrap();
    assert_eq!(impatient.get(&key("x")).await.unwrap(), Some("y".into()));
    assert!(impatient.head(&key("x")).await.unwrap().is_some());
    assert!(proxy.is_used_up());
}

#[tokio::test]
async fn attempts_end_at_their_bound_and_the_kind_says_so() {
    let Some((proxy, _, through)) = behind_proxy("lake::s3").await else {
        return;
    };
    let attempts = through.options().limits.attempts;
    proxy.fault("PUT", "/x", u32::MAX, Fault::Answer(503, "SlowDown"));
    let error = through.put(&key("x"), "x".into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(text(&error).contains("SlowDown"), "{}", text(&error));
    assert_eq!(proxy.seen().len(), usize::try_from(attempts).unwrap());
    proxy.fault("PUT", "/y", 1, Fault::Answer(403, "AccessDenied"));
    let error = through.put(&key("y"), "y".into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert_eq!(
        proxy.seen().len(),
        1,
        "what will not pass is not tried again"
    );
}

#[tokio::test]
async fn damage_on_the_way_is_found_by_the_checksum() {
    let Some((proxy, _, through)) = behind_proxy("lake::s3").await else {
        return;
    };
    through.put(&key("x"), "right".into()).await.unwrap();
    let sent = proxy.seen();
    assert!(sent[0].has("x-amz-checksum-crc32c:") && sent[0].has("x-amz-content-sha256:"));
    proxy.fault("GET", "/x", 1, Fault::Damage);
    assert_eq!(through.get(&key("x")).await.unwrap(), Some("right".into()));
    assert_eq!(proxy.seen().len(), 2);
    // Negative control: without the checksum the damage goes through.
    proxy.fault("GET", "/x", 1, Fault::DamageUnseen);
    assert_eq!(through.get(&key("x")).await.unwrap(), Some("righu".into()));
}

#[tokio::test]
async fn large_objects_go_in_parts_whatever_happens_to_them() {
    let Some((proxy, _, through)) = behind_proxy("lake::s3").await else {
        return;
    };
    let content = large(11 * MIB);
    for (number, (method, text, fault)) in [
        ("PUT", "partNumber=2", Fault::CutAfter),
        ("PUT", "partNumber=1", Fault::Answer(503, "SlowDown")),
        ("POST", "uploadId", Fault::CutBefore),
        ("POST", "uploadId", Fault::CutAfter),
        ("POST", "uploadId", Fault::AnswerAfter(500, "InternalError")),
        (
            "POST",
            "uploadId",
            Fault::Answer(409, "ConditionalRequestConflict"),
        ),
        ("POST", "uploads", Fault::CutAfter),
    ]
    .into_iter()
    .enumerate()
    {
        let (fresh, replaced) = (
            key(&format!("fresh/{number}")),
            key(&format!("replaced/{number}")),
        );
        proxy.fault(method, text, 1, fault);
        let created = through
            .put_if_absent(&fresh, content.clone())
            .await
            .unwrap();
        assert_eq!(created, Creation::Created, "{method} {text} {fault:?}");
        assert_eq!(through.get(&fresh).await.unwrap(), Some(content.clone()));
        let again = through
            .put_if_absent(&fresh, content.clone())
            .await
            .unwrap();
        assert_eq!(again, Creation::Exists, "{method} {text} {fault:?}");
        proxy.fault(method, text, 1, fault);
        through.put(&replaced, content.clone()).await.unwrap();
        assert_eq!(
            through.head(&replaced).await.unwrap().unwrap().size,
            content.len() as u64
        );
        assert!(proxy.is_used_up(), "{method} {text}");
    }
    let middle = u64::try_from(5 * MIB - 3).unwrap();
    let range = through.get_range(&key("fresh/0"), middle, 6).await.unwrap();
    assert_eq!(range, Some(content.slice(5 * MIB - 3..5 * MIB + 3)));
}

#[tokio::test]
async fn uploads_that_fail_are_aborted_and_those_of_the_dead_are_swept() {
    let Some((proxy, _, through)) = behind_proxy("lake::s3").await else {
        return;
    };
    let (at, content) = (key("x"), large(7 * MIB));
    proxy.fault("PUT", "partNumber=2", 1, Fault::Answer(403, "AccessDenied"));
    through.put(&at, content.clone()).await.unwrap_err();
    let seen = proxy.seen();
    assert!(
        seen.iter().any(|request| request.is("DELETE", "uploadId")),
        "{seen:?}"
    );
    // A process dies between the parts: here, its future is dropped.
    proxy.fault("POST", "uploadId", 1, Fault::Silence);
    let dying = through.put(&at, content.clone());
    tokio::pin!(dying);
    loop {
        tokio::select! {
            _ = &mut dying => panic!("the upload cannot end"),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        if proxy.is_used_up() {
            break;
        }
    }
    assert_eq!(through.head(&at).await.unwrap(), None);
    proxy.seen();
    through.sweep().await.unwrap();
    through.sweep().await.unwrap();
    let seen = proxy.seen();
    let aborted = seen
        .iter()
        .filter(|request| request.is("DELETE", "uploadId"));
    assert_eq!(aborted.count(), 1, "{seen:?}");
    proxy.fault("GET", "uploads", 1, Fault::Answer(501, "NotImplemented"));
    through.sweep().await.unwrap();
}

#[tokio::test]
async fn encryption_is_asked_for() {
    let Some((proxy, bucket, _)) = behind_proxy("lake::s3").await else {
        return;
    };
    let options = Options {
        encryption: Some(Encryption::Kms(Some("my-key".to_owned()))),
        ..options(&proxy.endpoint)
    };
    let encrypted = storage(&bucket, options);
    encrypted.put(&key("x"), "x".into()).await.unwrap();
    encrypted.put(&key("y"), large(7 * MIB)).await.unwrap();
    let seen = proxy.seen();
    let mut writes = seen
        .iter()
        .filter(|r| r.is("PUT", "/x") || r.is("POST", "uploads"));
    assert!(writes.all(|r| r.has("x-amz-server-side-encryption: aws:kms") && r.has("my-key")));
}

#[tokio::test]
async fn the_check_says_what_is_wrong_and_never_a_secret() {
    let Some((proxy, bucket, through)) = behind_proxy("lake::s3").await else {
        return;
    };
    for (status, code, said) in [
        (403, "InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (403, "AccessDenied", "may not list the bucket"),
        (301, "PermanentRedirect", "set AWS_REGION to eu-west-7"),
        (
            400,
            "AuthorizationHeaderMalformed",
            "set AWS_REGION to eu-west-7",
        ),
        (403, "RequestTimeTooSkewed", "clock"),
    ] {
        proxy.fault("GET", "list-type", 1, Fault::Answer(status, code));
        let error = through.check(Access::Read).await.unwrap_err();
        assert!(text(&error).contains(said), "{code}: {}", text(&error));
        assert!(!text(&error).contains("hunter2"));
    }
    let cautious = Options {
        create_bucket: false,
        ..options(&proxy.endpoint)
    };
    let missing = storage("no-such-bucket", cautious);
    let error = missing.check(Access::Write).await.unwrap_err();
    assert!(
        text(&error).contains("--s3-create-bucket"),
        "{}",
        text(&error)
    );
    assert!(
        missing.get(&key("x")).await.is_err(),
        "no bucket is not no object"
    );
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let error = storage(&bucket, options(&nobody))
        .check(Access::Read)
        .await
        .unwrap_err();
    assert!(
        text(&error).contains("cannot be reached"),
        "{}",
        text(&error)
    );
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(!format!("{through:?}").contains("hunter2"));
}
