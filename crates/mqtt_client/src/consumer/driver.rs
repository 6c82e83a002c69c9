//! The consumer's task: makes one connection after another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, End, Lost};
use super::queue::Queue;
use super::{AckToken, ConsumerOptions, Counters, Link};
use crate::{Backoff, ConnectOptions, TaskResult};

/// Time to connect, the broker's answer included.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection that lasted this long was a good one: the next attempt is made without a long pause. Two
/// processes with one client id push each other out, and must not do so at full speed.
const LASTED: Duration = Duration::from_secs(10);

/// While there is no connection it is said again after so many attempts, a minute or so.
const WARN_EVERY: u32 = 40;

/// What the task and its connections share with the handle.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) options: ConsumerOptions,
    pub(super) queue: Arc<Queue>,
    pub(super) counters: Arc<Counters>,
    pub(super) connected: watch::Sender<bool>,
    pub(super) link: watch::Sender<Link>,
}

impl Drop for Side {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Does a [`super::Consumer`]'s work while it runs.
#[derive(Debug)]
pub struct ConsumerTask {
    side: Side,
    acks: watch::Receiver<AckToken>,
    connection: u64,
    /// The broker has held a session for this client id.
    had_session: bool,
}

impl ConsumerTask {
    pub(super) fn new(side: Side, acks: watch::Receiver<AckToken>) -> Self {
        Self {
            side,
            acks,
            connection: 0,
            had_session: false,
        }
    }

    /// Runs until `stop`, or until the [`super::Consumer`] is dropped. Acks named before `stop` are sent
    /// first; the session and what is unacknowledged stay with the broker.
    ///
    /// # Errors
    /// [`super::SubscriptionError`] when the broker will not deliver what is asked for. A broker that cannot
    /// be reached, or refuses the connection, is waited for.
    pub async fn run(mut self, stop: CancellationToken) -> TaskResult {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let end = self.connection(&stop).await;
            self.side.connected.send_replace(false);
            let lost = match end {
                End::Stopped => return Ok(()),
                End::Hopeless(error) => {
                    self.side.link.send_replace(Link::Down(error.to_string()));
                    return Err(error.into());
                }
                End::Lost(lost) => lost,
            };
            if began.elapsed() >= LASTED {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            if backoff.failures() % WARN_EVERY == 1 {
                tracing::warn!(
                    error = %lost,
                    client_id = self.side.options.connect.client_id,
                    attempts = backoff.failures(),
                    "no connection to the mqtt broker, trying on"
                );
            }
            self.side.link.send_replace(Link::Down(lost.to_string()));
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => return Ok(()),
                () = self.side.queue.abandoned.cancelled() => return Ok(()),
            }
        }
    }

    /// Makes a connection and serves it to its end.
    async fn connection(&mut self, stop: &CancellationToken) -> End {
        self.connection += 1;
        let side = &self.side;
        let connect = &side.options.connect;
        let mut connection = Connection::new(side, &mut self.acks, self.connection);
        let connecting = async {
            // A connection that cannot be read from would be ended by the broker, and its messages sent again.
            side.queue.room().await;
            let made = timeout(CONNECT, async {
                let mut stream = open(connect).await?;
                let session_present = connection.handshake(&mut stream).await?;
                Ok::<_, Lost>((stream, session_present))
            });
            made.await.unwrap_or(Err(Lost::Silent))
        };
        let (stream, session_present) = tokio::select! {
            made = connecting => match made {
                Ok(made) => made,
                Err(lost) => return End::Lost(lost),
            },
            () = stop.cancelled() => return End::Stopped,
            () = side.queue.abandoned.cancelled() => return End::Stopped,
        };
        side.counters.connections.fetch_add(1, Ordering::Relaxed);
        if self.had_session && !session_present {
            tracing::warn!(
                client_id = connect.client_id,
                "the broker has forgotten the session; what it held for it and nobody took is gone"
            );
        }
        self.had_session = true;
        tracing::info!(
            client_id = connect.client_id,
            session_present,
            "mqtt consumer connected"
        );
        connection.serve(stream, stop).await
    }
}

/// Connects, over TLS where that is asked for.
async fn open(connect: &ConnectOptions) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((connect.host.as_str(), connect.port)).await?;
    stream.set_nodelay(true)?;
    Ok(match &connect.tls {
        None => Box::new(stream),
        Some(tls) => Box::new(tls.connect(&connect.host, stream).await?),
    })
}

/// What a connection is read from and written to.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
