//! A client as cheap as can be, so that the broker is what is measured: MQTT 3.1.1, QoS 1, a window per connection.
//!
//! Publishers make their packets in one buffer per turn and read acknowledgements by the block. Subscribers acknowledge
//! by the block, too. Latencies are counted from when a message was meant to be sent.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// How long the other side may be silent.
const PATIENCE: Duration = Duration::from_mins(1);
/// Bytes of a payload.
pub(super) const PAYLOAD_BYTES: usize = 200;
/// One acknowledgement of so many is timed.
const TIMED: u64 = 16;

/// A CONNECT; a session outlives its connection unless it is `clean`.
pub(in crate::bench) fn connect_packet(id: &str, clean: bool) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x04".to_vec();
    body.extend_from_slice(&[u8::from(clean) << 1, 0, 0]);
    put_text(&mut body, id);
    packet(0x10, &body)
}

pub(in crate::bench) fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub(in crate::bench) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let low = (rest & 0x7f).to_le_bytes()[0];
        rest >>= 7;
        if rest == 0 {
            bytes.push(low);
            break;
        }
        bytes.push(low | 0x80);
    }
    bytes.extend_from_slice(body);
    bytes
}

/// Opens a connection and waits for its CONNACK.
pub(super) async fn connect(address: &str, id: &str, clean: bool) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&connect_packet(id, clean)).await?;
    let mut answer = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await??;
    ensure!(answer[0] == 0x20 && answer[3] == 0, "refused: {answer:?}");
    Ok(stream)
}

/// Subscribes to `bench/#` with QoS 1.
pub(super) async fn subscribe(stream: &mut TcpStream) -> Result<()> {
    let mut body = vec![0, 1];
    put_text(&mut body, "bench/#");
    body.push(1);
    stream.write_all(&packet(0x82, &body)).await?;
    let mut answer = [0; 5];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await??;
    ensure!(answer[0] == 0x90 && answer[4] == 1, "refused: {answer:?}");
    Ok(())
}

/// What one publisher does.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) number: u32,
    pub(super) messages: u64,
    /// Messages on their way at most.
    pub(super) window: u64,
    /// Messages per second; as fast as possible without.
    pub(super) rate: Option<f64>,
}

/// Publishes over a connection, and returns latencies in microseconds.
pub(super) async fn publish(mut stream: TcpStream, load: Load) -> Result<Vec<u32>> {
    let mut body = Vec::new();
    put_text(&mut body, &format!("bench/{}", load.number));
    let id_at_body = body.len();
    body.extend_from_slice(&[0; 2]);
    body.resize(body.len() + PAYLOAD_BYTES, b'x');
    let template = packet(0x32, &body);
    let id_at = template.len() - body.len() + id_at_body;

    let began = Instant::now();
    let (mut sent, mut acked, mut out) = (0_u64, 0_u64, Vec::new());
    let (mut turns, mut latencies) = (VecDeque::new(), Vec::new());
    let mut incoming = vec![0; 16 << 10];
    let mut kept = 0;
    while acked < load.messages {
        let allowed = load.allowed(began.elapsed()).min(acked + load.window);
        if sent < allowed {
            out.clear();
            let meant = load.meant(began, sent);
            turns.push_back((allowed, meant));
            while sent < allowed {
                let id = u16::try_from(sent % 65_535 + 1).unwrap_or(1);
                let at = out.len() + id_at;
                out.extend_from_slice(&template);
                out[at..at + 2].copy_from_slice(&id.to_be_bytes());
                sent += 1;
            }
            stream.write_all(&out).await?;
        }
        let next = load.meant(began, sent);
        let waits = load.rate.is_some() && sent < load.messages && sent < acked + load.window;
        let count = tokio::select! {
            read = timeout(PATIENCE, stream.read(&mut incoming[kept..])) => read.context("no answer")??,
            () = sleep_until(next), if waits => continue,
        };
        ensure!(count > 0, "the broker closed the connection");
        let end = kept + count;
        for ack in incoming[..end].chunks_exact(4) {
            ensure!(ack[..2] == [0x40, 2], "no PUBACK: {ack:?}");
            while turns.front().is_some_and(|(until, _)| *until <= acked) {
                turns.pop_front();
            }
            if acked.is_multiple_of(TIMED)
                && let Some((_, meant)) = turns.front()
            {
                let micros = meant.elapsed().as_micros();
                latencies.push(u32::try_from(micros).unwrap_or(u32::MAX));
            }
            acked += 1;
        }
        kept = end % 4;
        incoming.copy_within(end - kept..end, 0);
    }
    stream.write_all(&[0xe0, 0]).await?;
    Ok(latencies)
}

impl Load {
    /// Returns how many messages may be sent by now.
    fn allowed(&self, elapsed: Duration) -> u64 {
        match self.rate {
            Some(rate) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a number of messages, and the bound follows"
                )]
                let due = (elapsed.as_secs_f64() * rate) as u64 + 1;
                due.min(self.messages)
            }
            None => self.messages,
        }
    }

    /// Returns when a message is meant to be sent.
    fn meant(&self, began: Instant, message: u64) -> Instant {
        match self.rate {
            Some(rate) => began + Duration::from_secs_f64(super::as_f64(message) / rate),
            None => Instant::now(),
        }
    }
}

/// Takes messages and acknowledges them until there were so many.
pub(super) async fn consume(mut stream: TcpStream, messages: u64) -> Result<()> {
    let mut incoming = Vec::with_capacity(256 << 10);
    let (mut taken, mut acks) = (0, Vec::new());
    while taken < messages {
        let read = timeout(PATIENCE, stream.read_buf(&mut incoming)).await;
        let count = read.with_context(|| format!("{taken} of {messages} came"))??;
        ensure!(count > 0, "the broker closed the connection");
        acks.clear();
        let mut at = 0;
        while let Some((id, size)) = message(&incoming[at..])? {
            at += size;
            taken += 1;
            acks.extend_from_slice(&[0x40, 2]);
            acks.extend_from_slice(&id.to_be_bytes());
        }
        incoming.drain(..at);
        stream.write_all(&acks).await?;
    }
    stream.write_all(&[0xe0, 0]).await?;
    Ok(())
}

/// Reads the PUBLISH at the beginning of `bytes`: its packet id and size.
fn message(bytes: &[u8]) -> Result<Option<(u16, usize)>> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    ensure!(first >> 4 == 3, "no PUBLISH: {first:#x}");
    let (mut length, mut at) = (0_usize, 1);
    loop {
        let Some(&byte) = bytes.get(at) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if at > 4 {
            bail!("a malformed length");
        }
    }
    let Some(body) = bytes.get(at..at + length) else {
        return Ok(None);
    };
    let number = |at: usize| {
        let bytes = body.get(at..at + 2).context("a short PUBLISH")?;
        Ok::<_, anyhow::Error>(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let id = number(2 + usize::from(number(0)?))?;
    Ok(Some((id, at + length)))
}
