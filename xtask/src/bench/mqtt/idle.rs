//! What an idle connection costs in memory.

use std::any::Any;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use system_tests::proc_stat;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::measure::as_f64;
use super::super::median;
use super::{Broker, Kind, client, tls};

/// Connections opened at a time.
const AT_A_TIME: usize = 200;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Idle {
    subject: Kind,
    over: &'static str,
    connections: usize,
    /// Resident memory of the server divided by connections, less what it had before.
    bytes_per_connection: f64,
    resident_mib: f64,
}

/// Returns the medians of the runs of each subject over each way.
pub(super) fn medians(runs: &[Idle]) -> Vec<Idle> {
    let mut all: Vec<Idle> = Vec::new();
    for run in runs {
        let key = |idle: &Idle| (idle.subject, idle.over);
        if all.iter().any(|there| key(there) == key(run)) {
            continue;
        }
        let same = || runs.iter().filter(|other| key(other) == key(run));
        all.push(Idle {
            bytes_per_connection: median(same().map(|idle| idle.bytes_per_connection)),
            resident_mib: median(same().map(|idle| idle.resident_mib)),
            ..run.clone()
        });
    }
    all
}

/// A connection that is kept open.
type Kept = Box<dyn Any + Send>;

/// Opens connections that say nothing, and looks at the server's memory.
pub(super) async fn measure(
    kind: Kind,
    over: &'static str,
    broker: &Broker,
    count: usize,
) -> Result<Idle> {
    ensure!(
        count + 100 < open_files(),
        "{count} connections need as many open files; raise them with `ulimit -n`"
    );
    let address = broker.address(over)?;
    let before = proc_stat::resident_bytes(broker.id())?;
    let mut streams: Vec<Kept> = Vec::with_capacity(count);
    let connector = match over {
        "tls" => Some(tls::connector(broker.folder.path())?),
        _ => None,
    };
    while streams.len() < count {
        let more = AT_A_TIME.min(count - streams.len());
        let opening = (0..more).map(|at| {
            let (address, id) = (address.clone(), format!("idle-{}", streams.len() + at));
            let connector = connector.clone();
            tokio::spawn(async move {
                timeout(PATIENCE, open(connector.as_ref(), over, &address, &id)).await?
            })
        });
        for opened in opening.collect::<Vec<_>>() {
            streams.push(opened.await??);
        }
    }
    let after = proc_stat::resident_bytes(broker.id())?;
    Ok(Idle {
        subject: kind,
        over,
        connections: count,
        bytes_per_connection: as_f64(after.saturating_sub(before)) / as_f64(count as u64),
        resident_mib: as_f64(after) / 1_048_576.0,
    })
}

async fn open(
    connector: Option<&TlsConnector>,
    over: &str,
    address: &str,
    id: &str,
) -> Result<Kept> {
    Ok(match (connector, over) {
        (Some(connector), _) => Box::new(tls::connect(connector, address, id).await?),
        (None, "mqtt") => Box::new(client::connect(address, id, true).await?),
        (None, _) => Box::new(open_websocket(address, id).await?),
    })
}

async fn open_websocket(address: &str, id: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /mqtt HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    ensure!(
        head.starts_with(b"HTTP/1.1 101"),
        "no WebSocket: {}",
        String::from_utf8_lossy(&head)
    );
    // A binary frame of a client, masked with zeros.
    let packet = client::connect_packet(id, true);
    let length = u8::try_from(packet.len()).unwrap_or(u8::MAX);
    ensure!(length < 126, "a short CONNECT");
    let frame = [&[0x82, 0x80 | length, 0, 0, 0, 0], packet.as_slice()].concat();
    stream.write_all(&frame).await?;
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).await?;
    ensure!(answer[2] == 0x20 && answer[5] == 0, "refused: {answer:?}");
    Ok(stream)
}

/// Returns how many files a process started here may open.
fn open_files() -> usize {
    let asked = Command::new("sh").args(["-c", "ulimit -n"]).output();
    let text = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_024)
}
