//! Subscribers as processes of their own, a real mosquitto, and an `SQLite` store that can be locked.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use model::DelivererId;
use mqtt_client::{ConnectOptions, Publisher, PublisherOptions, Qos};
use store::{Counts, Reader as _};
use system_tests::http::Http;
use system_tests::process::{Launch, Process};
use system_tests::{mosquitto, poll, ports};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::open_store;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A folder, a broker and a store.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) base: u16,
    pub(crate) broker: Option<Process>,
}

/// A subscriber.
pub(crate) struct Subscriber {
    pub(crate) process: Process,
    pub(crate) http: Http,
}

impl World {
    /// Makes one without a running broker; `None` where no mosquitto is installed.
    pub(crate) fn new(test: &str) -> Option<Self> {
        mosquitto::is_installed(test).then(|| Self {
            folder: TempDir::with_prefix("lastmile-subscriber-").unwrap(),
            base: ports::free_base().unwrap(),
            broker: None,
        })
    }

    pub(crate) fn with_broker(test: &str) -> Option<Self> {
        let mut world = Self::new(test)?;
        world.start_broker();
        Some(world)
    }

    pub(crate) fn port(&self) -> u16 {
        1883 + self.base
    }

    /// Starts the broker; it remembers nothing of an earlier life.
    pub(crate) fn start_broker(&mut self) {
        self.start_broker_with("");
    }

    /// Starts the broker with more lines in its configuration.
    pub(crate) fn start_broker_with(&mut self, lines: &str) {
        let launch = mosquitto::launch(self.folder.path(), self.port(), false).unwrap();
        let configuration = self.folder.path().join("mosquitto.conf");
        let text = std::fs::read_to_string(&configuration).unwrap();
        std::fs::write(&configuration, text + lines).unwrap();
        self.broker = Some(launch.start().unwrap());
        let port = self.port();
        poll::until("the broker to listen", PATIENCE, || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", port)).ok())
        })
        .unwrap();
    }

    pub(crate) fn kill_broker(&mut self) {
        self.broker.take().unwrap().kill().unwrap();
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts a subscriber; its log goes to a folder named `name`.
    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Subscriber {
        std::fs::create_dir_all(self.data()).unwrap();
        let launch = Launch::of(
            "subscriber",
            env!("CARGO_BIN_EXE_subscriber"),
            &self.folder.path().join(name),
        );
        let (process, ready) = launch
            .arg("--data")
            .arg(self.data())
            .args(["--port-base", &self.base.to_string()])
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(arguments)
            .start_ready()
            .unwrap();
        let http = Http::new(&ready.address("admin").unwrap()).unwrap();
        Subscriber { process, http }
    }

    /// Starts a subscriber and waits until it is subscribed.
    pub(crate) fn start_ready(&self, name: &str, arguments: &[&str]) -> Subscriber {
        let subscriber = self.start(name, arguments);
        subscriber.until_ready();
        subscriber
    }

    pub(crate) fn publish(&self, seconds: Range<u32>, padding: usize) {
        publish(self.port(), seconds, padding);
    }

    pub(crate) fn counts(&self) -> Counts {
        runtime().block_on(async { open_store(&self.data()).counts().await.unwrap() })
    }

    /// Tells whether the position of this second is stored.
    pub(crate) fn has(&self, second: u32) -> bool {
        let deliverer_id = DelivererId::new((second % 97).to_string()).unwrap();
        let last = runtime().block_on(async {
            let store = open_store(&self.data());
            store.last_by_deliverer(&deliverer_id).await.unwrap()
        });
        last.is_some_and(|position| position.seq == Some(second.into()))
    }

    pub(crate) fn until_stored(&self, positions: u64) {
        // Opened once: to open it writes, and would be in the way.
        runtime().block_on(async {
            let store = open_store(&self.data());
            let all = async {
                while store.counts().await.unwrap().positions < positions {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, all).await.unwrap();
        });
    }

    /// Locks the store against every writer until the lock is dropped, as a database that hangs; `None`
    /// where there is no Python to do it.
    pub(crate) fn lock_store(&self, test: &str) -> Option<Process> {
        let python = system_tests::python::plain(test)?;
        let script = "import sqlite3, sys, time\n\
                      c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\n\
                      c.execute('BEGIN IMMEDIATE')\n\
                      print('locked', flush=True)\n\
                      time.sleep(600)\n";
        let mut lock = Launch::of("lock", python, self.folder.path())
            .args(["-c", script])
            .arg(self.data().join("store.sqlite"))
            .start()
            .unwrap();
        lock.until_line("locked").unwrap();
        Some(lock)
    }
}

impl Subscriber {
    pub(crate) fn until_ready(&self) {
        poll::until("the subscriber to be ready", PATIENCE, || {
            Ok((self.http.get("/readyz")?.status == 200).then_some(()))
        })
        .unwrap();
    }

    /// Waits until it is not ready, for a reason that holds `part`.
    pub(crate) fn until_not_ready(&self, part: &str) {
        poll::until(part, PATIENCE, || {
            let answer = self.http.get("/readyz")?;
            Ok((answer.status == 503 && answer.body.contains(part)).then_some(()))
        })
        .unwrap();
    }

    /// Returns the number that `/metrics` shows for `name`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.http.get("/metrics").unwrap().body;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or("0").parse().unwrap()
    }

    pub(crate) fn until_metric(&self, name: &str, least: u64) {
        poll::until(name, PATIENCE, || {
            Ok((self.metric(name) >= least).then_some(()))
        })
        .unwrap();
    }

    /// Holds the counting law against what it shows of itself, once nothing is in flight.
    pub(crate) fn settles(&self) {
        poll::until("received = stored + duplicate + rejected", PATIENCE, || {
            let counted = [
                "subscriber_stored_total",
                "subscriber_duplicate_total",
                "subscriber_rejected_new_total",
            ];
            let sum: u64 = counted.iter().map(|name| self.metric(name)).sum();
            let settled = self.metric("subscriber_in_flight_records") == 0;
            Ok((settled && sum == self.metric("subscriber_received_total")).then_some(()))
        })
        .unwrap();
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// Publishes positions of 97 deliverers, one per second of `seconds`, and waits for every PUBACK.
pub(crate) fn publish(port: u16, seconds: Range<u32>, padding: usize) {
    let connect = ConnectOptions::new("127.0.0.1", port, "publisher");
    runtime().block_on(async {
        let (publisher, task) = Publisher::new(PublisherOptions::new(connect));
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(task.run(stop.clone()));
        let mut receipts = Vec::new();
        for second in seconds {
            let payload = format!(
                r#"{{"order_id":"o","timestamp":{},"lat":52.1,"lon":4.2,"seq":{second},"x":"{}"}}"#,
                1_767_355_200 + second,
                "x".repeat(padding)
            );
            let topic = format!("deliveries/{}/location", second % 97);
            let receipt = publisher.publish(topic, payload.into_bytes(), Qos::AtLeastOnce);
            receipts.push(receipt.await.unwrap());
        }
        for receipt in receipts {
            receipt.await.unwrap();
        }
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap().unwrap();
    });
}
