//! TLS against a Mosquitto that asks for a client's certificate.

use std::fs;
use std::path::{Path, PathBuf};

use mqtt_client::{
    ConnectOptions, Consumer, ConsumerOptions, Link, LiveConsumer, LiveOptions, Publisher,
    PublisherOptions, Qos, Tls, TlsError, TlsFiles,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::mosquitto::Mosquitto;
use crate::{connect, connected, within};

/// A CA, a server's certificate and a client's.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than its certificates have, or OpenSSL takes them for self-signed.
        params.distinguished_name.push(DnType::CommonName, "CA");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        for name in ["server", "client"] {
            let hosts = ["127.0.0.1".to_owned()];
            let params = CertificateParams::new(hosts).unwrap();
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            fs::write(folder.path().join(format!("{name}.crt")), certificate.pem()).unwrap();
            fs::write(
                folder.path().join(format!("{name}.key")),
                key.serialize_pem(),
            )
            .unwrap();
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            ca: Some(self.file("ca.pem")),
            own: Some((self.file("client.crt"), self.file("client.key"))),
        }
    }

    fn mosquitto(&self, test: &str) -> Option<Mosquitto> {
        let [ca, certificate, key] = ["ca.pem", "server.crt", "server.key"]
            .map(|name| self.file(name).display().to_string());
        Mosquitto::start_with(
            test,
            &format!(
                "cafile {ca}\ncertfile {certificate}\nkeyfile {key}\nrequire_certificate true\n"
            ),
        )
    }
}

fn over(port: u16, id: &str, files: &TlsFiles) -> ConnectOptions {
    ConnectOptions {
        tls: Some(Tls::open(files).unwrap()),
        ..connect(port, id)
    }
}

#[tokio::test]
async fn every_client_speaks_tls() {
    let certificates = Certificates::new();
    let Some(mosquitto) = certificates.mosquitto("every_client_speaks_tls") else {
        return;
    };
    let over = |id: &str| over(mosquitto.port, id, &certificates.files());
    let mut tasks = JoinSet::new();
    let (mut consumer, task) = Consumer::new(ConsumerOptions::new(over("c"), ["t/#"]));
    tasks.spawn(task.run(CancellationToken::new()));
    let (mut live, task) = LiveConsumer::new(LiveOptions::new(over("l"), ["t/#"]));
    tasks.spawn(task.run(CancellationToken::new()));
    let (publisher, task) = Publisher::new(PublisherOptions::new(over("p")));
    tasks.spawn(task.run(CancellationToken::new()));
    connected(consumer.connected()).await;
    connected(live.connected()).await;
    // Many TLS records each.
    for number in 0..20_u8 {
        let payload = vec![number; 100_000];
        let receipt = publisher.publish("t/1", payload.clone(), Qos::AtLeastOnce);
        within("receipt", receipt.await.unwrap()).await.unwrap();
        let message = within("message", consumer.next()).await.unwrap();
        assert_eq!(message.payload, payload);
        consumer.ack_through(message.token);
        assert_eq!(within("live", live.next()).await.unwrap().payload, payload);
    }
}

/// What a client that is refused says of the broker.
async fn refusal(connect: ConnectOptions) -> String {
    let (consumer, task) = Consumer::new(ConsumerOptions::new(connect, ["t"]));
    let mut tasks = JoinSet::new();
    tasks.spawn(task.run(CancellationToken::new()));
    let mut link = consumer.link();
    let is_told = |link: &Link| !matches!(link, Link::Down(why) if why.is_empty() || why.contains("not connected"));
    let link = within("refusal", link.wait_for(is_told))
        .await
        .unwrap()
        .clone();
    assert_ne!(link, Link::Up);
    if let Link::Down(why) = link {
        why
    } else {
        String::new()
    }
}

#[tokio::test]
async fn strangers_are_refused_and_say_why() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let Some(mosquitto) = certificates.mosquitto("strangers_are_refused_and_say_why") else {
        return;
    };
    let port = mosquitto.port;
    let unknown = TlsFiles {
        ca: others.files().ca,
        ..certificates.files()
    };
    let why = refusal(over(port, "c", &unknown)).await;
    assert!(why.contains("certificate"), "{why}");
    let elsewhere = ConnectOptions {
        host: "localhost".to_owned(),
        ..over(port, "c", &certificates.files())
    };
    let why = refusal(elsewhere).await;
    assert!(why.contains("certificate"), "{why}");
    // The broker refuses these two, and TLS 1.3 lets it say so after the handshake.
    let nameless = TlsFiles {
        own: None,
        ..certificates.files()
    };
    let foreign = TlsFiles {
        own: others.files().own,
        ..certificates.files()
    };
    for files in [nameless, foreign] {
        refusal(over(port, "c", &files)).await;
    }
    refusal(connect(port, "c")).await;
}

#[test]
fn files_that_are_none_are_named() {
    let certificates = Certificates::new();
    let broken = |path: &Path| {
        fs::write(path, "no pem").unwrap();
        path.to_owned()
    };
    let [ca, key] = ["broken.pem", "broken.key"].map(|name| broken(&certificates.file(name)));
    let whole = certificates.files();
    let (certificate, _) = whole.own.clone().unwrap();
    for (files, named) in [
        (
            TlsFiles {
                ca: Some(ca),
                ..whole.clone()
            },
            "broken.pem",
        ),
        (
            TlsFiles {
                ca: Some(certificates.file("none")),
                ..whole.clone()
            },
            "none",
        ),
        (
            TlsFiles {
                own: Some((certificate, key)),
                ..whole.clone()
            },
            "broken.key",
        ),
    ] {
        let error = Tls::open(&files).unwrap_err();
        assert!(matches!(error, TlsError::Pem { .. }), "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    let mixed = (
        certificates.file("client.crt"),
        certificates.file("server.key"),
    );
    let files = TlsFiles {
        own: Some(mixed),
        ..whole
    };
    assert!(matches!(Tls::open(&files), Err(TlsError::Pair(_))));
}
