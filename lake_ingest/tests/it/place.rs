//! Where a test's lake is, the rows it is made from, and other makers' programs to read it with.

use std::path::{Path, PathBuf};
use std::process::Command;

use model::fleet_event::FleetAction;
use model::{FleetSubject, Record};
use serde_json::Value;
use store::Batch;
use store::conformance::build;

use crate::moto::{moto, python};

const DAY_US: i64 = 86_400_000_000;

/// Returns the rows numbered so: a position each, every third with a fleet event, every fifth with a dead letter,
/// over five days in turn, so that every batch has rows for days that are long in the lake.
pub(crate) fn rows(numbers: std::ops::Range<u64>) -> Batch {
    let mut batch = Batch::default();
    for number in numbers {
        let signed = i64::try_from(number).unwrap();
        let micros = signed % 5 * DAY_US + signed * 1_000;
        let order = format!("o{}", number % 7);
        let position = build::position(
            Some(&order),
            &format!("d{}", number % 3),
            micros,
            Some(number),
        );
        batch.records.push(Record::Position(position));
        if number % 3 == 0 {
            let entity = number.to_string();
            let (on, action) = (FleetSubject::Vehicle, FleetAction::Register);
            let event = build::event("org", on, action, &entity, micros);
            let position = None;
            batch.records.push(Record::FleetEvent { event, position });
        }
        if number % 5 == 0 {
            batch.rejects.push(build::letter(b"{", 0, Some(number)));
        }
    }
    batch
}

/// A folder or a bucket.
#[derive(Debug)]
pub(crate) enum Place {
    Folder(PathBuf),
    Bucket { endpoint: String, lake: String },
}

impl Place {
    /// Returns a bucket of an S3 service; `None`, with `test` reported as skipped, where there is no such service.
    pub(crate) fn bucket(test: &str) -> Option<Self> {
        let (endpoint, bucket) = moto(test)?;
        let lake = format!("s3://{bucket}/fleet");
        Some(Self::Bucket { endpoint, lake })
    }

    pub(crate) fn lake(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Bucket { lake, .. } => lake.clone(),
        }
    }

    /// Tells a program how to reach the place.
    pub(crate) fn reached_by<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        // Whatever the machine has is not for tests.
        for name in ["AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3"] {
            command.env_remove(name);
        }
        if let Self::Bucket { endpoint, .. } = self {
            command
                .env("AWS_ENDPOINT_URL", endpoint)
                .env("AWS_ACCESS_KEY_ID", "tester")
                .env("AWS_SECRET_ACCESS_KEY", "hunter2")
                .env("AWS_REGION", "eu-central-1")
                .env("LASTMILE_S3_CREATE_BUCKET", "true");
        }
        command
    }

    /// Lets the readers read; returns the rows of each table by their count, or what they find wrong. A `partial`
    /// lake may lack rows.
    pub(crate) fn read(&self, stored: u64, partial: bool) -> Result<Value, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader.py");
        let temporary = tempfile::tempdir().unwrap();
        let mut command = Command::new(python());
        command.arg(script).args([self.lake(), stored.to_string()]);
        if partial {
            command.arg("--partial");
        }
        command.env("READER_TEMPORARY", temporary.path());
        let output = self.reached_by(&mut command).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(complaint.into_owned());
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    }
}

/// Tells whether the readers are there; otherwise reports `test` as skipped.
pub(crate) fn readers(test: &str) -> bool {
    system_tests::python::with_modules(test, &["duckdb", "deltalake", "pyarrow"]).is_some()
}
