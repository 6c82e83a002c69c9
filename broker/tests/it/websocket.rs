//! MQTT over WebSocket: packets across frames, the sub-protocol, bounds, silence, and paho.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::broker::{ListenerSettings, Settings};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::broker::{Broker, LIMIT, until};
use crate::certificates::Authority;
use crate::client;

fn settings() -> Settings {
    Settings {
        listeners: ListenerSettings {
            mqtt_ws_listen: Some("127.0.0.1:0".parse().unwrap()),
            ..ListenerSettings::default()
        },
        ..Settings::default()
    }
}

async fn open(
    address: SocketAddr,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = format!("ws://{address}/mqtt")
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    client_async(request, stream)
        .await
        .map(|(socket, _)| socket)
}

const MQTT: (&str, &str) = ("Sec-WebSocket-Protocol", "mqtt");

async fn send(socket: &mut WebSocketStream<TcpStream>, bytes: &[u8]) {
    let frame = Message::Binary(Bytes::copy_from_slice(bytes));
    socket.send(frame).await.unwrap();
}

/// Receives so many bytes, in however many frames.
async fn receive(socket: &mut WebSocketStream<TcpStream>, count: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < count {
        let frame = tokio::time::timeout(LIMIT, socket.next()).await.unwrap();
        let frame = frame.unwrap().unwrap();
        assert!(frame.is_binary(), "{frame:?}");
        got.extend_from_slice(&frame.into_data());
    }
    got
}

async fn ends(socket: &mut WebSocketStream<TcpStream>) {
    loop {
        match tokio::time::timeout(LIMIT, socket.next()).await.unwrap() {
            None | Some(Err(_)) => return,
            Some(Ok(_)) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_span_frames_and_frames_hold_several() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(dir.path(), settings()).await;
    let mut socket = open(broker.address("mqtt_ws"), &[MQTT]).await.unwrap();
    for byte in client::connect("ws", 2, 0, &[]) {
        send(&mut socket, &[byte]).await;
    }
    assert_eq!(receive(&mut socket, 4).await, [0x20, 2, 0, 0]);
    let publish = |id, payload: &str| client::publish(client::QOS_1, "a", id, payload.as_bytes());
    let large = "x".repeat(200_000);
    let all = [publish(1, "one"), publish(2, &large), publish(3, "three")].concat();
    for piece in all.chunks(70_001) {
        send(&mut socket, piece).await;
    }
    let acknowledged = [1, 2, 3].map(|id| [0x40, 2, 0, id]).concat();
    assert_eq!(receive(&mut socket, 12).await, acknowledged);
    assert_eq!(broker.records()[1].1.len(), 200_000);
    socket
        .send(Message::Ping(Bytes::from_static(b"hi")))
        .await
        .unwrap();
    let pong = tokio::time::timeout(LIMIT, socket.next()).await.unwrap();
    assert_eq!(
        pong.unwrap().unwrap(),
        Message::Pong(Bytes::from_static(b"hi"))
    );
    // What is sent to the client may be larger than a frame, too.
    let mut subscribe = client::text("a");
    subscribe.insert(0, 9);
    subscribe.insert(0, 0);
    subscribe.push(0);
    send(&mut socket, &client::packet(0x82, &subscribe)).await;
    receive(&mut socket, 5).await;
    send(&mut socket, &client::publish(0, "a", 0, large.as_bytes())).await;
    receive(&mut socket, large.len()).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_closed_and_nobody_else_notices() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(
        dir.path(),
        Settings {
            mqtt_connect_timeout: Some(service::HumanDuration::from_secs(2)),
            ..settings()
        },
    )
    .await;
    let address = broker.address("mqtt_ws");
    let mut good = open(address, &[MQTT]).await.unwrap();
    send(&mut good, &client::connect("good", 2, 0, &[])).await;
    receive(&mut good, 4).await;
    for headers in [
        &[][..],
        &[("Sec-WebSocket-Protocol", "chat")],
        &[MQTT, ("Origin", "http://evil")],
    ] {
        let refused = open(address, headers).await;
        assert!(matches!(refused, Err(Error::Http(_))), "{refused:?}");
    }
    let mut text = open(address, &[MQTT]).await.unwrap();
    text.send(Message::text("hello")).await.unwrap();
    ends(&mut text).await;
    let mut large = open(address, &[MQTT]).await.unwrap();
    let frame = Message::Binary(vec![0x10; 1 << 20].into());
    drop(large.send(frame).await);
    ends(&mut large).await;
    // A frame that says it is very long, and nothing of it.
    let mut claims = open(address, &[MQTT]).await.unwrap();
    let head = [
        0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4,
    ];
    claims.get_mut().write_all(&head).await.unwrap();
    ends(&mut claims).await;
    // Unmasked, against the rules of WebSocket.
    let mut unmasked = open(address, &[MQTT]).await.unwrap();
    unmasked
        .get_mut()
        .write_all(&[0x82, 2, 0xc0, 0])
        .await
        .unwrap();
    ends(&mut unmasked).await;
    let mut silent = Vec::new();
    for number in 0..90 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap(),
            // The handshake, and no CONNECT.
            _ => stream = open(address, &[MQTT]).await.unwrap().into_inner(),
        }
        silent.push(stream);
    }
    until("the silent ones are gone", || {
        broker.metric("broker_connections") < 1.5
    })
    .await;
    for stream in &mut silent {
        let mut rest = Vec::new();
        // A reset is an end too.
        drop(stream.read_to_end(&mut rest).await);
    }
    send(&mut good, &[0xc0, 0]).await;
    assert_eq!(receive(&mut good, 2).await, [0xd0, 0]);
    broker.stop().await;
}

/// What paho does: subscribes, publishes, and has it back.
const PAHO: &str = r#"
import sys, threading
import paho.mqtt.client as mqtt
port, version, ca, cert, key, user, password = sys.argv[1:]
got = threading.Event()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho", transport="websockets",
                     protocol=mqtt.MQTTv5 if version == "5" else mqtt.MQTTv311)
client.ws_set_options(path="/mqtt")
if ca:
    client.tls_set(ca_certs=ca, certfile=cert or None, keyfile=key or None)
if user:
    client.username_pw_set(user, password)
refused = []
def connected(client, userdata, flags, reason, properties):
    if reason.is_failure:
        refused.append(str(reason))
        got.set()
    else:
        client.subscribe("paho/#", qos=1)
client.on_connect = connected
client.on_subscribe = lambda client, *rest: client.publish("paho/x", b"y" * 100000, qos=1)
def message(client, userdata, message):
    assert message.payload == b"y" * 100000
    got.set()
client.on_message = message
client.connect("localhost", int(port), keepalive=30)
client.loop_start()
assert got.wait(20), "nothing came"
print(refused[0] if refused else "had it back")
client.disconnect()
client.loop_stop()
"#;

pub(crate) fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    let mut command = Command::new(&python);
    let has = command.args(["-c", "import paho.mqtt.client"]).output();
    if has.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    println!("skipped: there is no Python with paho-mqtt in .venv; run tools/install.sh");
    None
}

async fn paho(python: &Path, arguments: [String; 7]) -> String {
    let mut command = Command::new(python);
    command.args(["-c", PAHO]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn paho_comes_over_websocket_and_tls() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let server = authority.issue("server", "server");
    let mut settings = settings();
    settings.listeners.mqtt_wss_listen = settings.listeners.mqtt_ws_listen;
    settings.listeners.mqtt_tls_cert = Some(server.certificate);
    settings.listeners.mqtt_tls_key = Some(server.key);
    let broker = Broker::start_with(dir.path(), settings).await;
    let ca = dir.path().join("ca.pem").to_str().unwrap().to_owned();
    for (listener, ca) in [("mqtt_ws", ""), ("mqtt_wss", &*ca)] {
        for version in ["4", "5"] {
            let port = broker.address(listener).port().to_string();
            let none = || String::new();
            let arguments = [
                port,
                version.into(),
                ca.into(),
                none(),
                none(),
                none(),
                none(),
            ];
            assert_eq!(
                paho(&python, arguments).await,
                "had it back",
                "{listener} {version}"
            );
        }
    }
    broker.stop().await;
}
