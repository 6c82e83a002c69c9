//! Clients as cheap as can be: HTTP/1.1 over one kept connection, and a device that watches for its own positions.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use system_tests::poll;

use crate::bench::mqtt::client::{connect_packet, packet, put_text};

/// How long the other side may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two probes, so that each finds the pipeline as the load has it and not as the one before left it.
const BETWEEN_PROBES: Duration = Duration::from_millis(10);
/// When and where the watcher is, for ever: its counter tells its positions apart.
const PROBE: &str = "bench-probe";

fn open(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Gets last locations over one connection.
#[derive(Debug)]
pub(super) struct Reader {
    stream: TcpStream,
    incoming: Vec<u8>,
    host: String,
}

impl Reader {
    pub(super) fn connect(address: &str) -> Result<Self> {
        Ok(Self {
            stream: open(address)?,
            incoming: Vec::new(),
            host: address.to_owned(),
        })
    }

    /// Reads one order after the other, each when it is due, and returns latencies in microseconds.
    ///
    /// They count from when a read was due, if the answer before it was late, so that nothing slow hides what
    /// waited for it; else from when this thread awoke, which is not the server's doing.
    pub(super) fn read<'a>(
        mut self,
        orders: impl Iterator<Item = &'a String>,
        start: Instant,
        every: Duration,
    ) -> Result<Vec<u32>> {
        let (mut due, mut latencies) = (start, Vec::new());
        for order in orders {
            let wait = due.saturating_duration_since(Instant::now());
            let from = if wait.is_zero() {
                due
            } else {
                poll::pause(wait);
                Instant::now()
            };
            let body = self.last_location(order)?;
            ensure!(
                contains(body, format!("\"order_id\":\"{order}\"").as_bytes()),
                "the answer for order {order} is {}",
                String::from_utf8_lossy(body)
            );
            latencies.push(micros(from));
            due += every;
        }
        Ok(latencies)
    }

    /// Gets the last location of an order: the body, empty where there is none.
    fn last_location(&mut self, order: &str) -> Result<&[u8]> {
        let request = format!(
            "GET /api/v1/orders/{order}/location HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\r\n",
            self.host
        );
        self.stream.write_all(request.as_bytes())?;
        self.incoming.clear();
        let (head, length) = loop {
            self.receive()?;
            if let Some(head) = find(&self.incoming, b"\r\n\r\n") {
                let text = std::str::from_utf8(&self.incoming[..head])?;
                break (head + 4, content_length(text)?);
            }
        };
        while self.incoming.len() < head + length {
            self.receive()?;
        }
        ensure!(
            self.incoming.len() == head + length,
            "more came than one answer"
        );
        Ok(&self.incoming[head..])
    }

    fn receive(&mut self) -> Result<()> {
        let mut block = [0; 4 << 10];
        let count = self.stream.read(&mut block)?;
        ensure!(count > 0, "the server closed the connection");
        self.incoming.extend_from_slice(&block[..count]);
        Ok(())
    }
}

/// Returns the length of the body; that of an order without a location counts as none.
fn content_length(head: &str) -> Result<usize> {
    let status = head.split(' ').nth(1).unwrap_or_default();
    ensure!(status == "200" || status == "404", "refused: {head}");
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .with_context(|| format!("no content-length in {head}"))?;
    Ok(value.trim().parse()?)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    find(text, part).is_some()
}

fn micros(from: Instant) -> u32 {
    u32::try_from(from.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// Publishes positions with QoS 1 and asks for them until they are what is answered.
#[derive(Debug)]
pub(super) struct Watcher {
    mqtt: TcpStream,
    reader: Reader,
    sent: u64,
}

impl Watcher {
    pub(super) fn connect(mqtt: &str, http: &str) -> Result<Self> {
        let mut stream = open(mqtt)?;
        stream.write_all(&connect_packet(PROBE, true))?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        ensure!(answer[0] == 0x20 && answer[3] == 0, "refused: {answer:?}");
        Ok(Self {
            mqtt: stream,
            reader: Reader::connect(http)?,
            sent: 0,
        })
    }

    /// Returns microseconds from before each publication to the end of the first answer that has it.
    pub(super) fn watch(&mut self, probes: u32) -> Result<Vec<u32>> {
        let mut latencies = Vec::new();
        for _ in 0..probes {
            poll::pause(BETWEEN_PROBES);
            self.sent += 1;
            let publication = publication(self.sent);
            let wanted = format!("\"seq\":{},", self.sent);
            let from = Instant::now();
            self.mqtt.write_all(&publication)?;
            while !contains(self.reader.last_location(PROBE)?, wanted.as_bytes()) {
                ensure!(
                    from.elapsed() < PATIENCE,
                    "position {} was not found",
                    self.sent
                );
            }
            latencies.push(micros(from));
            let mut ack = [0; 4];
            self.mqtt.read_exact(&mut ack)?;
            ensure!(ack[..2] == [0x40, 2], "no PUBACK: {ack:?}");
        }
        Ok(latencies)
    }
}

/// A position as a PUBLISH with QoS 1.
fn publication(seq: u64) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, &format!("deliveries/{PROBE}/location"));
    body.extend_from_slice(&[0, 1]);
    let payload = format!(
        "{{\"order_id\":\"{PROBE}\",\"deliverer_id\":\"{PROBE}\",\"delivery_state\":\"on_the_way\",\
         \"event_time\":\"2026-01-01T00:00:00Z\",\"seq\":{seq},\"lat\":52.37,\"lon\":4.89}}"
    );
    body.extend_from_slice(payload.as_bytes());
    packet(0x32, &body)
}
