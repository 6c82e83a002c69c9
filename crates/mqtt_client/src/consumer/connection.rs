//! One connection of a consumer, from its CONNECT to its end. The codec is rumqttc's.
//!
//! rumqttc's own event loop is not used here, because it flushes after every PUBACK, hands out packets one
//! by one and does not ping while its caller is busy. This one reads what the socket has, hands it over as a
//! whole, and writes all acks that are due at once.
//!
//! Reading stops while the queue is full; acks and pings go on, so that a broker that goes by pings keeps
//! the connection. One that wants its bytes taken ends it some time; the next is made once there is room.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use rumqttc::mqttbytes;
use rumqttc::{ConnAck, Connect, ConnectReturnCode, Login, Packet, PubComp, Publish, QoS, SubAck};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::driver::Side;
use super::subscribing::{self, Next};
use super::{AckToken, Link, Message, SubscriptionError};

/// Bytes read at a time.
const READ: usize = 128 << 10;

/// A read buffer with less than this left is replaced. Messages keep their buffer alive, so one that came
/// alone must not cost a buffer of its own.
const SPARE: usize = 8 << 10;

/// Time for the last acks to leave.
const GOODBYE: Duration = Duration::from_secs(1);

/// How a connection ended.
pub(super) enum End {
    /// As told.
    Stopped,
    /// Another one is to be made.
    Lost(Lost),
    /// Another one would end the same way.
    Hopeless(SubscriptionError),
}

/// Why a connection was lost or not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the broker did not answer in time")]
    Silent,
    #[error("the broker refused the connection: {0:?}")]
    Refused(ConnectReturnCode),
    #[error(
        "the broker sent a packet above the largest taken ({0} bytes), and would send it again; raise \
         the largest packet size"
    )]
    TooLarge(usize),
    #[error("the broker sent what is no MQTT 3.1.1: {0}")]
    Protocol(mqttbytes::Error),
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker closed the connection instead of answering the subscription")]
    ClosedUnanswered,
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.into())
    }
}

/// Writes some bytes; those written last are flushed.
///
/// # Cancel safety
/// What was not written is still in `output`, and a call that finds nothing there flushes.
async fn send<W: AsyncWrite + Unpin>(writer: &mut W, output: &mut BytesMut) -> io::Result<()> {
    if output.has_remaining() {
        writer.write_buf(output).await?;
    }
    if !output.has_remaining() {
        writer.flush().await?;
    }
    Ok(())
}

/// A message that was not acknowledged yet.
struct Unacked {
    index: u64,
    packet_id: u16,
    qos: QoS,
}

/// What one connection knows. Acks name messages by their index, the broker by packet id.
pub(super) struct Connection<'a> {
    side: &'a Side,
    acks: &'a mut watch::Receiver<AckToken>,
    number: u64,
    index: u64,
    input: BytesMut,
    output: BytesMut,
    batch: Vec<Message>,
    unacked: VecDeque<Unacked>,
    /// The broker had the session.
    session_present: bool,
    subscribed: bool,
    /// Something came since the last ping.
    heard: bool,
    pinged: bool,
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        side: &'a Side,
        acks: &'a mut watch::Receiver<AckToken>,
        number: u64,
    ) -> Self {
        Self {
            side,
            acks,
            number,
            index: 0,
            input: BytesMut::with_capacity(READ),
            output: BytesMut::new(),
            batch: Vec::new(),
            unacked: VecDeque::new(),
            session_present: false,
            subscribed: false,
            heard: false,
            pinged: false,
        }
    }

    /// Says CONNECT and waits for its answer; returns whether the broker knows the session.
    pub(super) async fn handshake<S>(&mut self, stream: &mut S) -> Result<bool, Lost>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let options = &self.side.options.connect;
        let mut connect = Connect::new(options.client_id.clone());
        connect.keep_alive = u16::try_from(options.keep_alive.as_secs().max(1)).unwrap_or(u16::MAX);
        connect.clean_session = false;
        connect.login = options.credentials.as_ref().map(|credentials| Login {
            username: credentials.username.clone(),
            password: credentials.password.clone(),
        });
        self.put(&Packet::Connect(connect))?;
        stream.write_all_buf(&mut self.output).await?;
        stream.flush().await?;
        let connack = loop {
            if let Some(packet) = self.next_packet()? {
                break packet;
            }
            if stream.read_buf(&mut self.input).await? == 0 {
                return Err(Lost::Closed);
            }
        };
        match connack {
            Packet::ConnAck(ConnAck {
                session_present,
                code: ConnectReturnCode::Success,
            }) => {
                self.session_present = session_present;
                Ok(session_present)
            }
            Packet::ConnAck(refused) => Err(Lost::Refused(refused.code)),
            _ => Err(Lost::Protocol(mqttbytes::Error::InvalidProtocol)),
        }
    }

    /// Subscribes, then receives and acknowledges until the end.
    pub(super) async fn serve<S>(&mut self, stream: S, stop: &CancellationToken) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let Err(end) = self.work(&mut reader, &mut writer, stop).await else {
            // Acks that were named but not sent would cost redeliveries.
            let goodbye = self.goodbye(&mut reader, &mut writer);
            if !matches!(timeout(GOODBYE, goodbye).await, Ok(Ok(()))) {
                tracing::debug!("the broker did not take the last acknowledgements in time");
            }
            return End::Stopped;
        };
        match end {
            End::Lost(Lost::Closed) if !self.subscribed => Lost::ClosedUnanswered.into(),
            end => end,
        }
    }

    async fn work<R, W>(
        &mut self,
        reader: &mut R,
        writer: &mut W,
        stop: &CancellationToken,
    ) -> Result<(), End>
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        let side = self.side;
        self.put(&subscribing::first(&side.options))?;
        // Half the time, so that one late ping does not end the connection.
        let period = side.options.connect.keep_alive.max(Duration::from_secs(1)) / 2;
        let mut ping = interval_at(Instant::now() + period, period);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What came with the CONNACK.
        self.take_in()?;
        let stopped = stop.cancelled();
        let abandoned = side.queue.abandoned.cancelled();
        tokio::pin!(stopped, abandoned);
        let mut unsent = true;
        loop {
            unsent |= self.output.has_remaining();
            let reading = side.queue.has_room();
            tokio::select! {
                () = &mut stopped => return Ok(()),
                () = &mut abandoned => return Ok(()),
                changed = self.acks.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.acknowledge();
                }
                read = reader.read_buf(&mut self.input), if reading => {
                    if read? == 0 {
                        return Err(Lost::Closed.into());
                    }
                    self.heard = true;
                    self.take_in()?;
                }
                () = side.queue.room(), if !reading => self.heard = true,
                sent = send(writer, &mut self.output), if unsent => {
                    sent?;
                    unsent = self.output.has_remaining();
                }
                _ = ping.tick() => self.ping(reading)?,
            }
        }
    }

    /// Sends the acks that were named, and waits until the broker has them.
    async fn goodbye<R, W>(&mut self, reader: &mut R, writer: &mut W) -> io::Result<()>
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        self.acknowledge();
        // DISCONNECT, of two bytes.
        self.output.put_slice(&[0xE0, 0]);
        writer.write_all_buf(&mut self.output).await?;
        writer.shutdown().await?;
        // To close with bytes unread would reset the connection, and the broker might not see the acks.
        loop {
            self.input.clear();
            self.input.reserve(READ);
            if reader.read_buf(&mut self.input).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Handles every whole packet that was read.
    fn take_in(&mut self) -> Result<(), End> {
        let before = self.index;
        let outcome = loop {
            match self.next_packet() {
                Ok(Some(Packet::Publish(publish))) => self.publish(publish),
                Ok(Some(packet)) => match self.other(packet) {
                    Ok(()) => {}
                    Err(end) => break Err(end),
                },
                Ok(None) => break Ok(()),
                Err(lost) => break Err(lost.into()),
            }
        };
        let received = self.index - before;
        let counter = &self.side.counters.received;
        counter.fetch_add(received, Ordering::Relaxed);
        self.side.queue.push(&mut self.batch);
        outcome
    }

    fn next_packet(&mut self) -> Result<Option<Packet>, Lost> {
        let most = self.side.options.connect.max_packet_size;
        match Packet::read(&mut self.input, most) {
            Ok(packet) => Ok(Some(packet)),
            Err(mqttbytes::Error::InsufficientBytes(missing)) => {
                let spare = self.input.capacity() - self.input.len();
                if spare < missing.max(SPARE) {
                    self.input.reserve(missing.max(READ));
                }
                Ok(None)
            }
            Err(mqttbytes::Error::PayloadSizeLimitExceeded(_)) => Err(Lost::TooLarge(most)),
            Err(error) => Err(Lost::Protocol(error)),
        }
    }

    fn publish(&mut self, publish: Publish) {
        self.index += 1;
        if publish.qos != QoS::AtMostOnce {
            self.unacked.push_back(Unacked {
                index: self.index,
                packet_id: publish.pkid,
                qos: publish.qos,
            });
        }
        self.batch.push(Message {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos.into(),
            retain: publish.retain,
            dup: publish.dup,
            token: AckToken {
                connection: self.number,
                index: self.index,
            },
        });
    }

    fn other(&mut self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::SubAck(suback) => self.answered(&suback),
            Packet::PubRel(release) => Ok(self.put(&Packet::PubComp(PubComp::new(release.pkid)))?),
            _ => Ok(()),
        }
    }

    fn answered(&mut self, suback: &SubAck) -> Result<(), End> {
        let options = &self.side.options;
        let next = subscribing::answered(options, self.session_present, suback);
        match next.map_err(End::Hopeless)? {
            Next::Ask(packet) => self.put(&packet)?,
            Next::Subscribed(packet) => {
                if let Some(packet) = packet {
                    self.put(&packet)?;
                }
                self.subscribed = true;
                self.side.connected.send_replace(true);
                self.side.link.send_replace(Link::Up);
            }
        }
        Ok(())
    }

    /// Writes the acks up to the one named last, in the order received.
    fn acknowledge(&mut self) {
        let through = *self.acks.borrow_and_update();
        if through.connection != self.number {
            return;
        }
        let mut acked = 0;
        while let Some(next) = self
            .unacked
            .pop_front_if(|next| next.index <= through.index)
        {
            // PUBACK or, for QoS 2, PUBREC: two bytes of head and the packet id.
            let head = if next.qos == QoS::ExactlyOnce {
                0x50
            } else {
                0x40
            };
            self.output.put_slice(&[head, 2]);
            self.output.put_u16(next.packet_id);
            acked += 1;
        }
        let counter = &self.side.counters.acked;
        counter.fetch_add(acked, Ordering::Relaxed);
    }

    fn ping(&mut self, reading: bool) -> Result<(), Lost> {
        if self.pinged && !self.heard && reading {
            return Err(Lost::Silent);
        }
        self.pinged = true;
        self.heard = false;
        self.put(&Packet::PingReq)
    }

    fn put(&mut self, packet: &Packet) -> Result<(), Lost> {
        // What is sent here is small; the bound is for what is received.
        packet
            .write(&mut self.output, usize::MAX)
            .map_err(Lost::Protocol)?;
        Ok(())
    }
}
