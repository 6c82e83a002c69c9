//! A lake in a bucket, from outside: one run, models, a query, the status, and what is said when the bucket is not there.

use std::path::Path;
use std::process::Command;

use crate::moto::moto;
use crate::program::{lake_ingest, store};

fn over_s3(data: &Path, endpoint: &str, lake: &str) -> Command {
    let mut command = lake_ingest(data);
    // Whatever the machine has is not for tests.
    for name in ["AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3"] {
        command.env_remove(name);
    }
    command
        .args(["--lake", lake])
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "tester")
        .env("AWS_SECRET_ACCESS_KEY", "hunter2")
        .env("AWS_REGION", "eu-central-1");
    command
}

fn run(mut command: Command, arguments: &[&str]) -> (i32, String, String) {
    let output = command.args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn one_run_fills_a_bucket_that_models_queries_and_status_read() {
    let Some((endpoint, bucket)) = moto("lake_ingest::bucket") else {
        return;
    };
    let data = tempfile::tempdir().unwrap();
    store(data.path(), 0, 120).await;
    let lake = format!("s3://{bucket}/fleet");
    let command = || over_s3(data.path(), &endpoint, &lake);

    let (code, _, err) = run(command(), &["--once"]);
    assert!(code == 1 && err.contains("does not exist"), "{code} {err}");
    assert!(
        err.contains("--s3-create-bucket") && !err.contains("hunter2"),
        "{err}"
    );

    let (code, out, err) = run(
        command(),
        &["--once", "--s3-create-bucket", "--summary", "json"],
    );
    assert_eq!(code, 0, "{err}");
    let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary.pointer("/offload/tables/0/rows"), Some(&120.into()));
    assert_eq!(summary.pointer("/models/0/outcome"), Some(&"ran".into()));

    store(data.path(), 120, 5).await;
    assert_eq!(run(command(), &["--once"]).0, 0);
    let (code, out, err) = run(command(), &["models"]);
    assert!(code == 0 && out.contains("unchanged"), "{out} {err}");

    let sql = "SELECT count(*) AS n, sum(lat) AS s FROM final.vehicle_position_data";
    let (code, out, err) = run(command(), &["query", sql, "--format", "json"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "[{\"n\":125,\"s\":6500.0}]\n"),
        "{err}"
    );
    let (_, out, err) = run(command(), &["status", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        status.pointer("/watermarks/0/in_lake"),
        Some(&125.into()),
        "{err}"
    );
    assert_eq!(status.pointer("/lake/0/rows"), Some(&125.into()));
    assert!(!data.path().join("lake").exists());
}

#[tokio::test]
async fn settings_are_shown_without_secrets_and_an_absent_service_is_named() {
    let data = tempfile::tempdir().unwrap();
    store(data.path(), 0, 1).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let command = || over_s3(data.path(), &nobody, "s3://bucket/fleet");
    let (code, out, _) = run(command(), &["--print-config", "--s3-endpoint", &nobody]);
    assert!(
        code == 0 && out.contains("s3://bucket/fleet") && out.contains(&nobody),
        "{out}"
    );
    assert!(!out.contains("hunter2"), "{out}");
    let (code, _, err) = run(command(), &["query", "SELECT 1"]);
    assert!(
        code == 1 && err.contains(&nobody) && err.contains("cannot be reached"),
        "{code} {err}"
    );
}
