//! The life of one TCP connection.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::socket::Socket;
use super::{SendOptions, Sender};
use crate::message::TimeText;
use crate::source::Next;
use crate::stats::Totals;
use crate::wire::{self, Incoming, Unexpected};

/// Time to connect and be accepted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What the broker is told; it may drop us after 1.5 times this in silence.
const KEEP_ALIVE_S: u16 = 60;
/// In silence a ping is sent after this.
const PING_AFTER: Duration = Duration::from_secs(20);
/// Bytes are collected up to about this before they are written.
const OUTPUT_BYTES: usize = 64 * 1024;
/// PUBACKs are read in portions of this: 4,096 of them.
const INPUT_BYTES: usize = 16 * 1024;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("TLS with the broker is not possible: {0}")]
    Tls(#[source] io::Error),
    #[error("the broker closed the connection")]
    Closed,
    #[error("no answer within {}s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout,
    #[error("the broker refused the connection ({})", refusal(*.0))]
    Refused(u8),
    #[error("{0}")]
    Unexpected(#[from] Unexpected),
    #[error("the broker acknowledged packet {0}, which was not sent")]
    Unsolicited(u16),
    #[error("no PUBACK for {}s", .0.as_secs())]
    Silent(Duration),
}

fn refusal(code: u8) -> String {
    let text = match code {
        1 => "protocol version",
        2 => "client id",
        3 => "server unavailable",
        4 => "bad user name or password",
        5 => "not authorised",
        other => return format!("code {other}"),
    };
    text.to_owned()
}

/// How the use of a connection ended.
pub(super) enum End {
    /// All is sent and acknowledged.
    Finished,
    Lost(Lost),
}

/// An accepted connection and its buffers.
#[derive(Debug)]
pub(super) struct Link {
    socket: Socket,
    output: Vec<u8>,
    /// How much of `output` was written.
    written: usize,
    input: Box<[u8]>,
    /// How much of `input` is a packet that is not whole yet.
    kept: usize,
    times: TimeText,
    last_read: Instant,
    last_write: Instant,
}

impl Link {
    pub(super) async fn connect(options: &SendOptions, client_id: &str) -> Result<Self, Lost> {
        let connecting = async {
            let mut socket = Socket::connect(options).await?;
            let mut connect = Vec::new();
            let credentials = options.credentials.as_ref();
            wire::write_connect(&mut connect, client_id, credentials, KEEP_ALIVE_S);
            socket.write_all(&connect).await?;
            let mut answer = [0; 4];
            if let Err(error) = socket.read_exact(&mut answer).await {
                return Err(match error.kind() {
                    io::ErrorKind::InvalidData => Lost::Tls(error),
                    _ => Lost::Closed,
                });
            }
            match wire::read(&answer)? {
                Some((Incoming::ConnAck { code: 0 }, _)) => Ok(socket),
                Some((Incoming::ConnAck { code }, _)) => Err(Lost::Refused(code)),
                _ => Err(Lost::Unexpected(Unexpected(answer[0]))),
            }
        };
        let socket = timeout(CONNECT_TIMEOUT, connecting).await;
        let socket = socket.map_err(|_| Lost::ConnectTimeout)??;
        let now = Instant::now();
        Ok(Self {
            socket,
            output: Vec::with_capacity(2 * OUTPUT_BYTES),
            written: 0,
            input: vec![0; INPUT_BYTES].into_boxed_slice(),
            kept: 0,
            times: TimeText::default(),
            last_read: now,
            last_write: now,
        })
    }

    fn has_output(&self) -> bool {
        self.written < self.output.len() || self.socket.has_unsent()
    }

    /// Writes what the socket takes.
    fn write(&mut self, now: Instant) -> Result<(), Lost> {
        self.socket.try_flush()?;
        while self.written < self.output.len() {
            match self.socket.try_write(&self.output[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.last_write = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }
}

impl Sender {
    /// Uses an accepted connection to its end.
    pub(super) async fn serve(&mut self, mut link: Link) -> End {
        self.window.begin_connection();
        if self.window.is_empty() {
            self.waiting_since = None;
        }
        loop {
            let pause = match self.step(&mut link) {
                Ok(Some(pause)) => pause,
                Ok(None) => {
                    wire::write_disconnect(&mut link.output);
                    // All is acknowledged: how the goodbye fares does not matter.
                    drop(link.socket.close(&link.output).await);
                    return End::Finished;
                }
                Err(lost) => return End::Lost(lost),
            };
            let stopping = self.around.stop.is_cancelled();
            tokio::select! {
                ready = link.socket.ready(link.has_output()) => {
                    if let Err(error) = ready {
                        return End::Lost(error.into());
                    }
                }
                () = sleep_until(pause.until) => {}
                () = self.source.wait(), if pause.for_source => {}
                () = self.around.stop.cancelled(), if !stopping => {}
            }
            // Other connections share the thread.
            tokio::task::consume_budget().await;
        }
    }

    /// Does all that can be done without waiting; `None` when nothing is left to do.
    fn step(&mut self, link: &mut Link) -> Result<Option<Pause>, Lost> {
        self.read(link)?;
        let now = Instant::now();
        let mut pause = self.fill(link, now);
        link.write(now)?;
        if link.has_output() {
            // The socket is full: it says when it is not.
            pause.until = now + PING_AFTER;
        }
        self.check_patience(link, now)?;
        if self.stopped() && self.window.is_empty() && !link.has_output() {
            return Ok(None);
        }
        let idle_since = link.last_write.max(link.last_read);
        if now - idle_since > PING_AFTER && !link.has_output() {
            wire::write_ping(&mut link.output);
            link.write(now)?;
        }
        pause.until = pause
            .until
            .min(now + PING_AFTER.min(self.around.options.give_up / 3));
        Ok(Some(pause))
    }

    /// Fails when PUBACKs are owed for too long. A third of the patience goes into a connection that says
    /// nothing at all, the rest into others.
    fn check_patience(&self, link: &Link, now: Instant) -> Result<(), Lost> {
        let owed = self.waiting_since.filter(|_| !self.window.is_empty());
        let Some(waited) = owed.map(|since| now - since) else {
            return Ok(());
        };
        let give_up = self.around.options.give_up;
        let dead = waited > give_up / 3 && now - link.last_read > give_up / 3;
        if dead || waited > give_up {
            Err(Lost::Silent(waited))
        } else {
            Ok(())
        }
    }

    /// Writes messages to the output: first what an earlier connection left, then new ones.
    fn fill(&mut self, link: &mut Link, now: Instant) -> Pause {
        let mut pause = Pause {
            until: now + PING_AFTER,
            for_source: false,
        };
        if link.has_output() {
            return pause;
        }
        let options = &self.around.options;
        let window = if options.acknowledged {
            options.window
        } else {
            usize::MAX
        };
        let wall_ms = self.around.clock.now().as_micros() / 1_000;
        let (mut published, mut resent) = (0, 0);
        while link.output.len() < OUTPUT_BYTES {
            if self.window.all_sent() {
                if self.window.len() >= window
                    || self.source_done
                    || self.around.stop.is_cancelled()
                {
                    break;
                }
                match self.source.next(now, wall_ms) {
                    Next::Message(message, _) if !options.acknowledged => {
                        wire::write_publish(
                            &mut link.output,
                            &message,
                            None,
                            false,
                            &mut link.times,
                        );
                        published += 1;
                        continue;
                    }
                    Next::Message(message, intended) => self.window.push(message, intended),
                    Next::At(due) => {
                        pause.until = due;
                        break;
                    }
                    Next::Wait => {
                        pause.for_source = true;
                        break;
                    }
                    Next::Done => {
                        self.source_done = true;
                        break;
                    }
                }
            }
            let Some((message, id)) = self.window.next_to_send() else {
                break;
            };
            let dup = message.written.is_some();
            message.written.get_or_insert(now);
            wire::write_publish(
                &mut link.output,
                &message.message,
                Some(id),
                dup,
                &mut link.times,
            );
            if dup {
                resent += 1;
            } else {
                published += 1;
            }
        }
        if !self.window.is_empty() {
            self.waiting_since.get_or_insert(now);
        }
        if link.output.len() >= OUTPUT_BYTES {
            // There may be more; come back as soon as this is written.
            pause.until = now;
        }
        Totals::add(&self.around.totals.published, published);
        Totals::add(&self.around.totals.resent, resent);
        pause
    }

    /// Reads what has come.
    fn read(&mut self, link: &mut Link) -> Result<(), Lost> {
        loop {
            let count = match link.socket.try_read(&mut link.input[link.kept..]) {
                Ok(0) => return Err(Lost::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let whole = link.kept + count;
            link.last_read = Instant::now();
            let used = self.take(&link.input[..whole], link.last_read)?;
            link.input.copy_within(used..whole, 0);
            link.kept = whole - used;
            if whole < INPUT_BYTES {
                return Ok(());
            }
        }
    }

    /// Takes all whole packets and returns how long they were.
    fn take(&mut self, input: &[u8], now: Instant) -> Result<usize, Lost> {
        let mut local = self.around.local.borrow_mut();
        let (mut used, mut acked) = (0, 0);
        while let Some((packet, length)) = wire::read(&input[used..])? {
            used += length;
            let Incoming::PubAck { packet_id } = packet else {
                continue;
            };
            let known = self.window.ack(packet_id, |message| {
                let from_written = now - message.written.unwrap_or(now);
                local.latencies.record(now - message.intended, from_written);
                local.ledger.acked(&message.message);
                acked += 1;
            });
            if !known {
                return Err(Lost::Unsolicited(packet_id));
            }
        }
        drop(local);
        if acked > 0 {
            self.waiting_since = (!self.window.is_empty()).then_some(now);
            Totals::add(&self.around.totals.acked, acked);
        }
        Ok(used)
    }
}

/// How long there is nothing to do.
struct Pause {
    until: Instant,
    /// The source will say when it has more.
    for_source: bool,
}
