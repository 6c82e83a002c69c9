//! TLS: both versions, clients' certificates, new certificates, and handshakes that never come.

use std::fs;
use std::path::Path;

use ::broker::{AccessSettings, ListenerSettings, Settings};
use tokio::net::TcpStream;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::broker::{Broker, until};
use crate::certificates::{Authority, Files, connect};
use crate::client::{self, Client};
use crate::mosquitto;

fn any() -> service::ListenAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn settings(server: &Files, client_ca: Option<&Path>) -> Settings {
    Settings {
        listeners: ListenerSettings {
            mqtt_tls_listen: Some(any()),
            mqtt_tls_cert: Some(server.certificate.clone()),
            mqtt_tls_key: Some(server.key.clone()),
            mqtt_tls_client_ca: client_ca.map(Path::to_owned),
            ..ListenerSettings::default()
        },
        ..Settings::default()
    }
}

/// Connects in MQTT; tells the return code, or `None` when the connection was closed.
async fn mqtt<S>(client: &mut Client<S>, id: &str) -> Option<u8>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    client.send(&client::connect(id, 2, 0, &[])).await;
    client.receive().await.map(|answer| answer.body[1])
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_carry_mqtt() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let server = authority.issue("server", "server");
    let broker = Broker::start_with(dir.path(), settings(&server, None)).await;
    for (id, version) in [("twelve", &TLS12), ("thirteen", &TLS13)] {
        let connector = authority.client(&[version], None);
        let stream = connect(&connector, broker.address("mqtt_tls"))
            .await
            .unwrap();
        let mut client = Client::from_stream(stream);
        assert_eq!(mqtt(&mut client, id).await, Some(0));
        assert_eq!(client.subscribe(&[("t/#", 1)]).await, [1]);
        // Larger than what TLS keeps at a time.
        let large = "x".repeat(200_000);
        client
            .send(&client::publish(client::QOS_1, "t/a", 7, large.as_bytes()))
            .await;
        let mut got = [
            client.receive().await.unwrap(),
            client.receive().await.unwrap(),
        ];
        got.sort_by_key(|packet| packet.first);
        assert_eq!(got[1].first, 0x40);
        assert_eq!(got[0].body.len(), 2 + 3 + 2 + large.len());
    }
    // Who does not trust the CA, or speaks no TLS, does not come in.
    let other = tempfile::tempdir().unwrap();
    let stranger = Authority::new(other.path(), "ca").client(&[&TLS13], None);
    connect(&stranger, broker.address("mqtt_tls"))
        .await
        .unwrap_err();
    let mut plain = Client::open(broker.address("mqtt_tls")).await;
    plain.send(&client::connect("plain", 2, 0, &[])).await;
    while plain.receive().await.is_some() {}
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_handshake_harms_nobody_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let server = authority.issue("server", "server");
    let broker = Broker::start_with(
        dir.path(),
        Settings {
            mqtt_connect_timeout: Some(service::HumanDuration::from_secs(2)),
            ..settings(&server, None)
        },
    )
    .await;
    let address = broker.address("mqtt_tls");
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // Begins a handshake and says no more.
    for stream in silent.iter().take(50) {
        stream.try_write(&[22, 3, 1, 2, 0, 1]).unwrap();
    }
    let connector = authority.client(&[&TLS13], None);
    let mut client = Client::from_stream(connect(&connector, address).await.unwrap());
    assert_eq!(mqtt(&mut client, "alive").await, Some(0));
    client.publish("a", "b").await;
    until("the silent ones are gone", || {
        broker.metric("broker_connections") < 1.5
    })
    .await;
    assert_eq!(broker.labelled("reason=\"HandshakeTimeout\""), 100);
    client.publish("a", "c").await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_certificates_of_the_ca_come_in_and_their_names_are_users() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let stranger = Authority::new(dir.path(), "stranger");
    let server = authority.issue("server", "server");
    let acl = dir.path().join("acl");
    fs::write(
        &acl,
        "lastmile-acl 1\n[user truck-7]\nallow write deliveries/%u/#\n",
    )
    .unwrap();
    let mut settings = settings(&server, Some(&dir.path().join("ca.pem")));
    settings.access = AccessSettings {
        mqtt_tls_users: Some(true),
        mqtt_acl_file: Some(acl),
        ..AccessSettings::default()
    };
    let broker = Broker::start_with(dir.path(), settings).await;
    let address = broker.address("mqtt_tls");
    let good = authority.issue("good", "truck-7");
    let mut client = Client::from_stream(
        connect(&authority.client(&[&TLS13], Some(&good)), address)
            .await
            .unwrap(),
    );
    assert_eq!(mqtt(&mut client, "c").await, Some(0));
    client.publish("deliveries/truck-7/location", "mine").await;
    client
        .publish("deliveries/truck-8/location", "not mine")
        .await;
    let topics: Vec<_> = broker
        .records()
        .into_iter()
        .map(|(topic, _)| topic)
        .collect();
    assert_eq!(topics, ["deliveries/truck-7/location"]);
    assert_eq!(broker.labelled("what=\"PublishDenied\""), 1);
    let bad = stranger.issue("bad", "truck-7");
    for own in [None, Some(&bad)] {
        // TLS 1.3 tells the client after its handshake.
        if let Ok(stream) = connect(&authority.client(&[&TLS13], own), address).await {
            let mut refused = Client::from_stream(stream);
            let hello = client::connect("c", 2, 0, &[]);
            refused.send_or_fail(&hello).await;
            assert_eq!(refused.receive().await, None);
        }
    }
    // A name needs a certificate: plain TCP has none.
    let mut plain = Client::open(broker.addr()).await;
    assert_eq!(mqtt(&mut plain, "p").await, Some(5));
    client.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_without_a_restart_and_a_wrong_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::new(dir.path(), "first");
    let server = first.issue("server", "server");
    let broker = Broker::start_with(dir.path(), settings(&server, None)).await;
    let address = broker.address("mqtt_tls");
    let old = first.client(&[&TLS13], None);
    let mut staying = Client::from_stream(connect(&old, address).await.unwrap());
    assert_eq!(mqtt(&mut staying, "staying").await, Some(0));
    fs::write(&server.certificate, "nothing").unwrap();
    until("the wrong one was seen", || {
        broker.labelled("taken=\"No\"") > 0
    })
    .await;
    connect(&old, address).await.unwrap();
    let second = Authority::new(dir.path(), "second");
    second.issue("server", "server");
    until("the new one was read", || {
        broker.labelled("taken=\"Yes\"") > 0
    })
    .await;
    connect(&second.client(&[&TLS13], None), address)
        .await
        .unwrap();
    connect(&old, address).await.unwrap_err();
    staying.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_clients_come_over_tls() {
    if !mosquitto::installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let server = authority.issue("server", "server");
    let ca = dir.path().join("ca.pem");
    let broker = Broker::start_with(dir.path(), settings(&server, Some(&ca))).await;
    let own = authority.issue("own", "me");
    let port = broker.address("mqtt_tls").port().to_string();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let base = [
        "-h",
        "localhost",
        "-p",
        &port,
        "-t",
        "m",
        "-q",
        "1",
        "--cafile",
    ];
    let base: Vec<_> = base
        .map(str::to_owned)
        .into_iter()
        .chain([text(&ca)])
        .collect();
    let certificate = [
        "--cert".into(),
        text(&own.certificate),
        "--key".into(),
        text(&own.key),
    ];
    let message = ["-m".to_owned(), "over TLS".to_owned()];
    for (certificate, expected) in [(&certificate[..], true), (&[], false)] {
        let arguments = [&base, certificate, &message].concat();
        let output = mosquitto::run_as("mosquitto_pub", arguments).await;
        assert_eq!(output.status.success(), expected, "{output:?}");
    }
    assert_eq!(broker.records(), [("m".to_owned(), b"over TLS".to_vec())]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_the_last_byte_too() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let server = authority.issue("server", "server");
    let broker = Broker::start_with(dir.path(), settings(&server, None)).await;
    let connector = authority.client(&[&TLS13], None);
    let stream = connect(&connector, broker.address("mqtt_tls")).await;
    let mut slow = Client::from_stream(stream.unwrap());
    slow.send(&client::connect("slow", 0, 0, &[])).await;
    slow.expect(0x20, &[0, 0]).await;
    assert_eq!(slow.subscribe(&[("big", 1)]).await, [1]);
    let mut publisher = broker.client("p", true).await;
    let payload = "x".repeat(200_000);
    // More than the sockets take, so that TLS keeps what has not left; then it says nothing that would wake anyone.
    for _ in 0..60 {
        publisher.publish("big", &payload).await;
    }
    for _ in 0..60 {
        assert_eq!(slow.message().await.payload.len(), payload.len());
    }
    broker.stop().await;
}
