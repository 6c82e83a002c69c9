//! The server the tests run against: `MONGODB_URI` when it is set, else a `SecantusDB` of this test binary.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mongodb::{Client, Database};
use store_mongo::tuning::Tuning;
use store_mongo::{MongoStore, Options};

pub(crate) fn report_skip(test: &str, reason: &str) {
    // Past the test harness's capture, so that it is seen whether the test passes or not.
    let line = format!("SKIPPED store_mongo::{test}: {reason}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
}

fn program() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../.venv/secantusdb/secantusdb.scripts/secantusd-rs");
    path.exists().then_some(path)
}

/// When a server answers a write that asks for the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When its journal has it, as MongoDB does.
    Journal,
    /// Before that: what such a server lost is what the tests must notice.
    None,
}

/// A `SecantusDB` process; killed when dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts a server on a folder, on this port or any.
    pub(crate) fn start(storage: &Path, port: u16, durability: Durability) -> Option<Self> {
        let sync = (durability == Durability::Journal).then_some("--sync-on-commit");
        Self::start_with(storage, port, sync.as_slice())
    }

    /// Starts a server with flags of its own.
    pub(crate) fn start_with(
        storage: &Path,
        port: u16,
        flags: &[impl AsRef<OsStr>],
    ) -> Option<Self> {
        let mut child = Command::new(program()?)
            .args(flags)
            .args(["--log-file-max", "64MB", "--cache-size", "256M"])
            .args(["--port", &port.to_string(), "--storage-path"])
            .arg(storage)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line.split_once("listening on ")?.1.to_owned();
            address.rsplit(':').next()?.trim().parse().ok()
        });
        // Keeps the pipe from filling up.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self {
            child,
            port: port.expect("the server ended before it listened"),
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts a server of the test's own, or reports the test as skipped.
pub(crate) fn own(test: &str, storage: &Path, durability: Durability) -> Option<Server> {
    let server = Server::start(storage, 0, durability);
    if server.is_none() {
        report_skip(test, "needs SecantusDB; run tools/install.sh");
    }
    server
}

/// The shared server ends with the test binary: a watcher holds a pipe to it.
fn shared() -> Option<&'static str> {
    static SHARED: OnceLock<Option<String>> = OnceLock::new();
    let uri = SHARED.get_or_init(|| {
        if let Ok(uri) = std::env::var("MONGODB_URI") {
            return Some(uri);
        }
        let program = program()?;
        let storage = tempfile::tempdir().unwrap().keep();
        // The shell ends the server and removes its folder when this process is gone and its pipe closes.
        let script = r#""$1" --port 0 --storage-path "$2" --sync-on-commit --log-file-max 64MB --cache-size 256M <&- &
            read -r _; kill -9 $!; wait $! 2>/dev/null; rm -rf "$2""#;
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(program)
            .arg(&storage)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        // Lives as long as the process.
        std::thread::spawn(move || {
            let _held = stdin;
            std::thread::park();
        });
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on ") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the server ended before it listened");
        }
        std::thread::spawn(move || {
            drop(child);
            drop(std::io::copy(&mut output.by_ref(), &mut std::io::sink()));
        });
        let address = line.split("listening on ").nth(1).unwrap().trim();
        Some(format!("mongodb://{address}/"))
    });
    uri.as_deref()
}

/// A database of its own on the shared server.
pub(crate) struct Fresh {
    pub(crate) options: Options,
    pub(crate) raw: Database,
}

impl Fresh {
    /// Makes a name for a database, or reports the test as skipped.
    pub(crate) async fn new(test: &str) -> Option<Self> {
        let Some(uri) = shared() else {
            report_skip(
                test,
                "needs MONGODB_URI or SecantusDB; run tools/install.sh",
            );
            return None;
        };
        Some(Self::on(uri, test).await)
    }

    /// Makes a name for a database on a given server.
    pub(crate) async fn on(uri: &str, test: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lastmile_{}_{count}_{test:.30}", std::process::id());
        let client = Client::with_uri_str(uri).await.unwrap();
        let raw = client.database(&name);
        raw.drop().await.unwrap();
        Self {
            options: Options {
                database: Some(name),
                ..Options::new(uri)
            },
            raw,
        }
    }

    pub(crate) async fn open(&self) -> MongoStore {
        MongoStore::open(&self.options).await.unwrap()
    }

    pub(crate) async fn open_with(&self, tuning: Tuning) -> MongoStore {
        MongoStore::open_with(&self.options, tuning).await.unwrap()
    }

    pub(crate) async fn drop(self) {
        self.raw.drop().await.unwrap();
    }
}

/// Polls until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
