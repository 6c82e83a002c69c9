//! What an idle connection costs the process, in plain TCP, WebSocket and TLS.
//!
//! A thousand of each (of TLS a fifth); `LASTMILE_TEST_IDLE=10000` makes ten thousand, which wants as many open files
//! in each of the two processes.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::io::{DuplexStream, duplex, split};
use tokio::net::TcpStream;
use tokio_rustls::rustls::version::TLS13;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::certificates::{Authority, connect};
use crate::client::{self, Client};
use crate::kill::Process;

/// Connections that pay for what is needed once.
const FIRST: usize = 50;

fn count() -> usize {
    let given = std::env::var("LASTMILE_TEST_IDLE").ok();
    given.map_or(1000, |count| count.parse().unwrap())
}

fn resident_bytes(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let mut lines = status.lines();
    let line = lines.find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// Connects so many clients and returns the bytes that each costs the broker; the first and the last must live.
async fn cost<S, F>(process: &Process, what: &str, count: usize, open: impl Fn() -> F) -> usize
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Client<S>>,
{
    let mut idle = Vec::with_capacity(FIRST + count);
    let mut before = 0;
    for number in 0..FIRST + count {
        if number == FIRST {
            before = resident_bytes(process);
        }
        let mut client = open().await;
        let id = format!("{what}-{number}");
        client.send(&client::connect(&id, 2, 0, &[])).await;
        client.expect(0x20, &[0, 0]).await;
        idle.push(client);
    }
    let each = resident_bytes(process).saturating_sub(before) / count;
    println!("{what}: {each} bytes per idle connection at {count} connections");
    let (mut busy, _) = Client::connect(process.addr, "busy", true).await;
    busy.publish("a", "b").await;
    for client in idle.iter_mut().step_by(97) {
        client.expect_quiet().await;
    }
    each
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_cost_little_and_hold_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let server = authority.issue("server", "server");
    // A process for each: what one has freed would be given to the next.
    let start = |what: &str, rest: &[&str]| {
        let listen = format!("--mqtt-{what}-listen");
        let own = if what == "tcp" {
            vec![]
        } else {
            vec![&*listen, "127.0.0.1:0"]
        };
        Process::start(&dir.path().join(what), &[&own, rest].concat())
    };
    let process = start("tcp", &[]);
    let plain = || Client::open(process.addr);
    let plain = cost(&process, "tcp", count(), plain).await;
    process.kill();
    let process = start("ws", &[]);
    let web = || async {
        let address = process.address("mqtt_ws");
        let mut request = format!("ws://{address}/").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, _) = client_async(request, stream).await.unwrap();
        Client::from_stream(framed(socket.into_inner()))
    };
    let web = cost(&process, "websocket", count(), web).await;
    process.kill();
    let (certificate, key) = (&server.certificate, &server.key);
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let process = start(
        "tls",
        &["--mqtt-tls-cert", certificate, "--mqtt-tls-key", key],
    );
    let connector = authority.client(&[&TLS13], None);
    let tls = || async {
        let stream = connect(&connector, process.address("mqtt_tls")).await;
        Client::from_stream(stream.unwrap())
    };
    let tls = cost(&process, "tls", count() / 5, tls).await;
    process.kill();
    assert!(plain < 30_000, "{plain}");
    assert!(web < 50_000, "{web}");
    assert!(tls < 100_000, "{tls}");
}

/// The client's side of WebSocket, as little of it as idle clients need: small frames, and a mask of zeros.
fn framed(stream: TcpStream) -> DuplexStream {
    let (near, far) = duplex(1024);
    tokio::spawn(async move {
        let (mut read, mut write) = stream.into_split();
        let (mut from, mut to) = split(far);
        let sends = async {
            let mut bytes = [0; 120];
            while let Ok(count @ 1..) = from.read(&mut bytes).await {
                let length = u8::try_from(count).unwrap();
                let head = [0x82, 0x80 | length, 0, 0, 0, 0];
                let frame = [&head, &bytes[..count]].concat();
                if write.write_all(&frame).await.is_err() {
                    break;
                }
            }
        };
        let receives = async {
            let mut head = [0; 2];
            while read.read_exact(&mut head).await.is_ok() {
                let mut body = vec![0; usize::from(head[1])];
                read.read_exact(&mut body).await.unwrap();
                to.write_all(&body).await.unwrap();
            }
        };
        tokio::join!(sends, receives);
    });
    near
}
