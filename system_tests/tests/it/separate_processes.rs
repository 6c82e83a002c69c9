//! Broker, subscriber and API as processes of their own over one SQLite file: what is published is
//! acknowledged, what is acknowledged is stored once, also when each of them is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use system_tests::http::Http;
use system_tests::kill_loop::{self, Reconciliation};
use system_tests::process::{Launch, Process};
use system_tests::publisher::{self, Burst, Summary};
use system_tests::{binaries, pipeline, poll, ports, python};
use tempfile::TempDir;

const MESSAGES: u64 = 20_000;

/// Messages per second: the kills below fall into the burst.
const RATE: u32 = 5_000;

const PATIENCE: Duration = Duration::from_mins(3);

/// The services that are killed, in the order started.
const SERVICES: [&str; 3] = ["broker", "subscriber", "api"];

/// One data folder, one base of ports, three processes.
struct Services {
    folder: TempDir,
    base: u16,
    processes: Vec<Process>,
    /// Subscriber and API speak TLS to the broker, which asks for their certificate.
    tls: bool,
}

impl Services {
    fn start(tls: bool) -> Self {
        let mut services = Self {
            folder: TempDir::with_prefix("lastmile-services-").unwrap(),
            base: ports::free_base().unwrap(),
            processes: Vec::new(),
            tls,
        };
        certificates(services.folder.path());
        for name in SERVICES {
            let process = services.launch(name);
            services.processes.push(process);
        }
        services.until_subscribed();
        services
    }

    /// Waits for the subscriber's first session, so that what is killed later had begun.
    fn until_subscribed(&self) {
        let admin = Http::new(&format!("127.0.0.1:{}", 9102 + self.base)).unwrap();
        poll::until("the subscription", PATIENCE, || {
            Ok((admin.get("/readyz")?.status == 200).then_some(()))
        })
        .unwrap();
    }

    fn launch(&self, name: &str) -> Process {
        let (process, _ready) = Launch::new(name, self.folder.path())
            .unwrap()
            .arg("--data")
            .arg(self.data())
            .args(["--port-base", &self.base.to_string()])
            .args(self.tls_args(name))
            .start_ready()
            .unwrap();
        process
    }

    fn tls_args(&self, name: &str) -> Vec<String> {
        let file = |name| self.folder.path().join(name).display().to_string();
        let address = format!("127.0.0.1:{}", 8883 + self.base);
        let args = |names: [&str; 4], values: [String; 4]| {
            let pairs = names.into_iter().zip(values);
            pairs
                .flat_map(|(name, value)| [format!("--{name}"), value])
                .collect()
        };
        let (ca, certificate, key) = (file("ca.pem"), file("own.crt"), file("own.key"));
        match name {
            _ if !self.tls => Vec::new(),
            "broker" => args(
                [
                    "mqtt-tls-listen",
                    "mqtt-tls-cert",
                    "mqtt-tls-key",
                    "mqtt-tls-client-ca",
                ],
                [address, certificate, key, ca],
            ),
            _ => args(
                ["broker", "broker-ca", "broker-cert", "broker-key"],
                [format!("mqtts://{address}"), ca, certificate, key],
            ),
        }
    }

    fn kill_and_restart(&mut self, index: usize) {
        self.processes[index].kill().unwrap();
        self.processes[index] = self.launch(SERVICES[index]);
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn http_address(&self) -> String {
        format!("127.0.0.1:{}", 8080 + self.base)
    }
}

/// Writes a CA and a certificate of it that serves everybody.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = params.signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("own.crt"), own.pem()).unwrap();
    fs::write(folder.join("own.key"), key.serialize_pem()).unwrap();
}

#[test]
fn a_burst_is_stored_once_while_each_service_is_killed() {
    stored_once(
        "separate_processes::a_burst_is_stored_once_while_each_service_is_killed",
        false,
    );
}

/// Publisher, subscriber and API each show a certificate.
#[test]
fn a_burst_over_tls_is_stored_once_while_each_service_is_killed() {
    stored_once(
        "separate_processes::a_burst_over_tls_is_stored_once_while_each_service_is_killed",
        true,
    );
}

fn stored_once(test: &str, tls: bool) {
    let Some(python) = python::plain(test) else {
        return;
    };
    let program = binaries::path("publisher").unwrap();
    let mut services = Services::start(tls);
    let ledger = services.folder.path().join("ledger.ndjson");
    let burst = Burst {
        mqtt: if tls {
            format!("mqtts://127.0.0.1:{}", 8883 + services.base)
        } else {
            format!("127.0.0.1:{}", 1883 + services.base)
        },
        messages: MESSAGES,
        connections: 8,
        ledger: Some(ledger.clone()),
        rate: Some(RATE),
    };
    let http = Http::new(&services.http_address()).unwrap();
    let mut load = burst
        .launch(&program, services.folder.path())
        // All but the address, which the burst has.
        .args(services.tls_args("publisher").into_iter().skip(2))
        .start()
        .unwrap();
    for (index, name) in SERVICES.into_iter().enumerate() {
        // Each kill waits until more was stored than before: all parts are at work when it comes.
        let before = pipeline::counts(&http).unwrap().positions;
        poll::until("more to be stored", PATIENCE, || {
            Ok((pipeline::counts(&http)?.positions > before).then_some(()))
        })
        .unwrap();
        assert!(
            load.is_running().unwrap(),
            "the load ended before {name} was killed"
        );
        services.kill_and_restart(index);
    }
    let finished = load.finish(PATIENCE).unwrap().success().unwrap();
    assert_eq!(Summary::read(&finished).unwrap().acked, MESSAGES);
    poll::until_equal("all to be stored", PATIENCE, &MESSAGES, || {
        Ok(pipeline::counts(&http)?.positions)
    })
    .unwrap();

    let api = format!("http://{}", services.http_address());
    publisher::verify(&program, &ledger, &api, services.folder.path())
        .run(PATIENCE)
        .unwrap()
        .success()
        .unwrap();
    for process in services.processes.iter_mut().rev() {
        let status = process.terminate().unwrap();
        assert_eq!(status.code(), Some(0), "{}", process.stderr());
    }
    let store = services.data().join("store.sqlite");
    let found = kill_loop::compare(&python, &ledger, &store, services.folder.path()).unwrap();
    let exact = Reconciliation {
        acked: MESSAGES,
        stored: MESSAGES,
        counted: MESSAGES,
        ..Reconciliation::default()
    };
    assert_eq!(found, exact);
}
