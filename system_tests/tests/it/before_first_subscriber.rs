//! What is acknowledged before the subscriber has ever come, or while its place is being taken from it, is
//! stored when it comes. Broker and subscriber are processes of their own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use system_tests::http::Http;
use system_tests::kill_loop::{self, Reconciliation};
use system_tests::process::{Launch, Process};
use system_tests::publisher::{Burst, Summary};
use system_tests::{binaries, poll, ports, python};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_mins(2);

/// Switches off what these tests are about.
const NO_HOLD: [&str; 2] = ["--hold-for", "none"];

/// A broker on a folder and ports of its own.
struct World {
    folder: TempDir,
    base: u16,
    broker: Process,
    bursts: u32,
}

impl World {
    fn start(arguments: &[&str]) -> Self {
        let folder = TempDir::with_prefix("lastmile-first-").unwrap();
        let base = ports::free_base().unwrap();
        let broker = launch("broker", &folder, base, arguments);
        Self {
            folder,
            base,
            broker,
            bursts: 0,
        }
    }

    fn kill_and_restart_broker(&mut self, arguments: &[&str]) {
        self.broker.kill().unwrap();
        self.broker = launch("broker", &self.folder, self.base, arguments);
    }

    /// Publishes so many and waits for their acknowledgements; returns their ledger.
    fn publish(&mut self, messages: u64) -> PathBuf {
        self.bursts += 1;
        let ledger = self.folder.path().join(format!("{}.ndjson", self.bursts));
        let burst = Burst {
            mqtt: format!("127.0.0.1:{}", 1883 + self.base),
            messages,
            connections: 4,
            ledger: Some(ledger.clone()),
            rate: None,
        };
        let program = binaries::path("publisher").unwrap();
        let launch = burst.launch(&program, self.folder.path());
        let finished = launch.run(PATIENCE).unwrap().success().unwrap();
        assert_eq!(Summary::read(&finished).unwrap().acked, messages);
        ledger
    }

    /// Starts a subscriber and waits until it is subscribed.
    fn subscriber(&self, arguments: &[&str]) -> Subscriber {
        let process = launch("subscriber", &self.folder, self.base, arguments);
        let admin = Http::new(&format!("127.0.0.1:{}", 9102 + self.base)).unwrap();
        poll::until("the subscription", PATIENCE, || {
            Ok((admin.get("/readyz")?.status == 200).then_some(()))
        })
        .unwrap();
        Subscriber { process, admin }
    }

    /// Connects once with a clean session, which ends the persistent one of that name.
    fn end_session(&self, client_id: &str) {
        let length = u8::try_from(client_id.len()).unwrap();
        let mut connect = vec![0x10, 12 + length];
        connect.extend_from_slice(b"\0\x04MQTT\x04\x02\0\0\0");
        connect.push(length);
        connect.extend_from_slice(client_id.as_bytes());
        let mut socket = TcpStream::connect(("127.0.0.1", 1883 + self.base)).unwrap();
        socket.write_all(&connect).unwrap();
        let mut answer = [0; 4];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x20, 2, 0, 0]);
        socket.write_all(&[0xe0, 0]).unwrap();
        // The broker closes when it has dealt with it.
        assert_eq!(socket.read(&mut answer).unwrap(), 0);
    }

    /// Waits until everything given to the group is acknowledged, repetitions included.
    fn until_nothing_waits(&self) {
        let admin = Http::new(&format!("127.0.0.1:{}", 9101 + self.base)).unwrap();
        poll::until_equal("nothing to wait", PATIENCE, &0, || {
            Ok(metric(&admin, "broker_share_lag_records"))
        })
        .unwrap();
    }

    /// Says what of a ledger is in the store.
    fn compare(&self, test: &str, ledger: &std::path::Path) -> Option<Reconciliation> {
        let python = python::plain(test)?;
        let store = self.folder.path().join("data/store.sqlite");
        Some(kill_loop::compare(&python, ledger, &store, self.folder.path()).unwrap())
    }
}

fn launch(name: &str, folder: &TempDir, base: u16, arguments: &[&str]) -> Process {
    let launch = Launch::new(name, folder.path()).unwrap();
    let launch = launch.arg("--data").arg(folder.path().join("data"));
    let launch = launch.args(["--port-base", &base.to_string()]);
    launch.args(arguments).start_ready().unwrap().0
}

fn metric(admin: &Http, name: &str) -> u64 {
    let text = admin.get("/metrics").unwrap().body;
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or("0").parse().unwrap()
}

struct Subscriber {
    process: Process,
    admin: Http,
}

impl Subscriber {
    fn metric(&self, name: &str) -> u64 {
        metric(&self.admin, name)
    }

    fn until_stored(&self, count: u64) {
        poll::until_equal("all to be stored", PATIENCE, &count, || {
            Ok(self.metric("subscriber_stored_total"))
        })
        .unwrap();
    }

    fn stop(mut self) {
        let status = self.process.terminate().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.process.stderr());
    }
}

/// Publishes to a broker that is killed before the first subscriber comes; then some more, which it stores.
fn before_the_first_subscriber(arguments: &[&str]) -> (World, PathBuf, Subscriber) {
    let mut world = World::start(arguments);
    let ledger = world.publish(1_000);
    world.kill_and_restart_broker(arguments);
    let subscriber = world.subscriber(&[]);
    (world, ledger, subscriber)
}

#[test]
fn what_was_acknowledged_before_the_first_subscriber_is_stored_once() {
    let test =
        "before_first_subscriber::what_was_acknowledged_before_the_first_subscriber_is_stored_once";
    let (world, ledger, subscriber) = before_the_first_subscriber(&[]);
    subscriber.until_stored(1_000);
    subscriber.stop();
    let exact = Reconciliation {
        acked: 1_000,
        stored: 1_000,
        counted: 1_000,
        ..Reconciliation::default()
    };
    let Some(found) = world.compare(test, &ledger) else {
        return;
    };
    assert_eq!(found, exact);
}

#[test]
fn control_without_holding_it_is_lost() {
    let (mut world, _ledger, subscriber) = before_the_first_subscriber(&NO_HOLD);
    world.publish(10);
    subscriber.until_stored(10);
    subscriber.stop();
    // A second one has nothing to take up: the thousand are nobody's.
    let subscriber = world.subscriber(&[]);
    world.publish(7);
    subscriber.until_stored(7);
    subscriber.stop();
}

#[test]
fn a_clean_connection_with_its_client_id_takes_nothing_from_the_subscriber() {
    let mut world = World::start(&[]);
    let subscriber = world.subscriber(&[]);
    world.publish(40);
    subscriber.until_stored(40);
    subscriber.stop();
    world.publish(60);
    world.end_session("lastmile-subscriber");
    let subscriber = world.subscriber(&[]);
    subscriber.until_stored(60);
    subscriber.stop();
    // Nor does another number of connections, or a restart of the broker.
    world.publish(80);
    world.kill_and_restart_broker(&[]);
    let subscriber = world.subscriber(&["--connections", "3"]);
    subscriber.until_stored(80);
    subscriber.stop();
}

/// A session with plain subscriptions, as an older subscriber left it, with messages it had not had.
fn from_plain_to_shared(broker: &[&str]) {
    let mut world = World::start(&NO_HOLD);
    let old = world.subscriber(&["--subscription", "plain"]);
    world.publish(300);
    old.until_stored(300);
    old.stop();
    world.publish(500);
    world.kill_and_restart_broker(broker);
    world.publish(100);
    let new = world.subscriber(&[]);
    new.until_stored(600);
    world.until_nothing_waits();
    new.stop();
    // It is a member now, and nothing else.
    let again = world.subscriber(&[]);
    world.publish(200);
    again.until_stored(200);
    poll::until_equal("nothing in flight", PATIENCE, &0, || {
        Ok(again.metric("subscriber_in_flight_records"))
    })
    .unwrap();
    assert_eq!(again.metric("subscriber_duplicate_total"), 0);
    again.stop();
}

#[test]
fn what_an_older_plain_session_had_not_had_is_stored() {
    from_plain_to_shared(&[]);
}

#[test]
fn what_an_older_plain_session_had_not_had_is_stored_without_holding_too() {
    from_plain_to_shared(&NO_HOLD);
}
