//! One task per connection: reads, appends, acknowledges, delivers.
//!
//! Invariants: a PUBACK is written only after the commit that holds its message has resolved, and in the order
//! of publishing; at most one append waits for room, and while it waits nothing is read; commits wait in a
//! queue that is bounded in batches and messages, and at the bound nothing is read either, so that TCP holds the
//! client back. A broken rule closes this connection and no other.
//!
//! Generic over the byte stream: TLS and WebSocket come as other streams, MQTT 5 as another reading of packets.

mod exactly_once;
mod farewell;
mod flush;
mod handshake;
mod intake;
pub(crate) mod outbound;
mod pace;
mod run;
mod subscriptions;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::task::ready;
use std::time::Duration;

use ingest_log::{Commit, Log, LogError};
use service::{Clock, Throttle};
use session_state::{Floor, Store};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::exactly_once::Gate;
pub(crate) use self::farewell::publish_will;
use self::handshake::{Admitted, Refusal};
use self::intake::{Inbound, Input};
use self::outbound::Outbound;
use self::pace::Pace;
use crate::access::{Access, Permit, Refused};
use crate::expiry::Expiry;
use crate::fanout::{Fanout, LiveSubscriber};
use crate::limits::Rate;
use crate::listen::Peer;
use crate::metrics::{Metrics, Reason};
use crate::protocol::control::{self, Control, Will};
use crate::protocol::{Version, Violation};
use crate::retained::{Expected, Retained, RetainedStore};
use crate::session;
use crate::session::delivery::Delivery;
use crate::session::unfinished::Unfinished;
use crate::session::window::Origin;
use crate::share::{Groups, Shares};
use crate::sys::Sys;
use crate::takeover::{Claim, Claims};
use crate::wills::Wills;

/// Most bytes read at once.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// Most batches of a connection that wait for their commit.
const MAX_PENDING_BATCHES: usize = 256;
/// Most messages of a connection that wait for their commit: MQTT has no more packet ids.
const MAX_PENDING_MESSAGES: usize = 65_535;
/// Time for what is left to do when a connection ends, and again for the client to take its last words.
const FAREWELL: Duration = Duration::from_secs(1);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) log: Log,
    /// What is remembered of clients besides messages.
    pub(crate) state: Store,
    /// What is remembered of them in memory only.
    pub(crate) unfinished: Unfinished,
    /// Keeps the journal's mark below messages of connections that ended before these were durable.
    pub(crate) left_behind: Mutex<Vec<Floor>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) fanout: Fanout,
    pub(crate) retained: RetainedStore,
    /// The statistics.
    pub(crate) sys: Sys,
    pub(crate) claims: Claims,
    pub(crate) groups: Groups,
    pub(crate) access: Access,
    pub(crate) expiry: Expiry,
    pub(crate) wills: Wills,
    /// Most QoS 1 and 2 messages that a client of MQTT 5 may have on their way.
    pub(crate) receive_maximum: u16,
    /// Most topic aliases that a client may set.
    pub(crate) topic_aliases: u16,
    /// Longest keep-alive in seconds that a client of MQTT 5 gets.
    pub(crate) max_keep_alive: Option<u16>,
    /// Where clients that ask are told to expect responses.
    pub(crate) response_topic: String,
    /// Messages per second that one client may publish.
    pub(crate) message_rate: Option<u32>,
    pub(crate) max_subscriptions: usize,
    /// Cancelled when intake is to stop.
    pub(crate) intake: CancellationToken,
    /// End of the log when this process began.
    pub(crate) recovered: u64,
    /// When this process began, in microseconds since the epoch; part of assigned client ids.
    pub(crate) started_us: i64,
    pub(crate) assigned_ids: AtomicU64,
    pub(crate) warning: Throttle,
    pub(crate) max_packet_bytes: usize,
    pub(crate) max_sessions: i64,
    pub(crate) window: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) ack_before_commit: bool,
}

impl Front {
    /// Ends the session of a client, whose id is claimed: nothing of it is left.
    pub(crate) fn end_session(&self, client_id: &str) {
        self.expiry.cancel(client_id);
        if session::discard(&self.log, client_id) {
            self.metrics.sessions.dec();
        }
        self.groups.forget(client_id);
        drop(self.unfinished.take(client_id));
        if let Err(error) = self.state.clear(client_id) {
            // Who connects next with this client id waits for the journal, and is refused if that fails.
            tracing::warn!(client_id, %error, "what was kept of a session could not be cleared");
        }
    }

    /// Tells whether a client that is away has a session whose time is over.
    pub(crate) fn has_expired(&self, client_id: &str) -> bool {
        let Some((asked, left_us)) = session::expiry(&self.log, client_id) else {
            return false;
        };
        let left_us = left_us.unwrap_or(self.started_us);
        let end = self.expiry.end_of(client_id, asked, left_us);
        end.is_some_and(|end| end <= self.clock.now().as_micros())
    }
}

/// Where deliveries come from that are this client's alone.
#[derive(Debug)]
enum Source {
    Persistent(Box<Delivery>),
    Live(LiveSubscriber),
}

impl Source {
    fn has(&self, filter: &str) -> bool {
        match self {
            Self::Persistent(delivery) => delivery.has(filter),
            Self::Live(live) => live.has(filter),
        }
    }

    fn subscriptions(&self) -> usize {
        match self {
            Self::Persistent(delivery) => delivery.subscriptions(),
            Self::Live(live) => live.subscriptions(),
        }
    }

    fn filters(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Persistent(delivery) => Box::new(delivery.filters()),
            Self::Live(live) => Box::new(live.filters()),
        }
    }

    fn is_hungry(&self) -> bool {
        match self {
            Self::Persistent(delivery) => delivery.is_hungry(),
            Self::Live(live) => live.is_hungry(),
        }
    }

    /// Takes acknowledgements; others' are left alone.
    fn acknowledge(&mut self, acknowledged: &[Origin]) {
        let Self::Persistent(delivery) = self else {
            return;
        };
        for origin in acknowledged {
            if let Origin::Session { seq } = origin {
                delivery.acknowledge(*seq);
            }
        }
        delivery.keep_place();
    }

    /// Tells the journal how far all is done with, where it is to know.
    fn note_place(&mut self, out: &mut Outbound) {
        if let Self::Persistent(delivery) = self {
            out.turn.changes.extend(delivery.place_change());
        }
    }

    fn pump(&mut self, out: &mut Outbound) {
        match self {
            Self::Persistent(delivery) => {
                delivery.keep_retained(out);
                delivery.pump(out);
            }
            Self::Live(live) => live.pump(out),
        }
    }

    /// Waits for messages; `false` when there will be no more.
    async fn fetch(&mut self) -> Result<bool, LogError> {
        match self {
            Self::Persistent(delivery) => delivery.fetch().await,
            Self::Live(live) => {
                live.fetch().await;
                Ok(true)
            }
        }
    }
}

/// Returns the subscriptions that the rules do not grant, or no longer.
fn withdrawn(permit: &Permit, source: &Source, shares: &Shares) -> Vec<String> {
    let own = source.filters().map(str::to_owned);
    let mut filters: Vec<_> = own.chain(shares.filters()).collect();
    filters.retain(|filter| !permit.may_subscribe(filter));
    filters
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client disconnected")]
    Disconnect,
    #[error("the client closed the connection")]
    Closed,
    #[error("the connection failed")]
    Io(#[source] io::Error),
    #[error(transparent)]
    Violation(Violation),
    #[error("nothing came within one and a half keep-alive intervals")]
    KeepAlive,
    #[error("the client did not take what was sent")]
    Stalled,
    #[error("another connection with the same client id came")]
    TakenOver,
    #[error("the client is not authorised any more")]
    Revoked,
    #[error("the broker is stopping")]
    Stopped,
    #[error("the log takes no more")]
    Log(#[source] LogError),
    #[error("the journal takes no more")]
    State(#[source] session_state::Error),
}

impl From<session_state::Error> for End {
    fn from(error: session_state::Error) -> Self {
        Self::State(error)
    }
}

/// A batch whose commit is awaited.
#[derive(Debug)]
struct Pending {
    commit: Commit,
    packet_ids: Vec<u16>,
    /// Which of them are of QoS 2, by place.
    exact: Vec<usize>,
    /// Messages with QoS 2 and their places.
    tracked: Vec<(u64, NonZeroU16)>,
    /// Keeps the journal's mark below this batch.
    floor: Option<Floor>,
    /// Which of them were refused, by place, and why.
    refused: Vec<(usize, Refused)>,
    retained: Vec<(u64, Retained)>,
    /// Makes subscriptions wait for them.
    expected: Option<Expected>,
    since: Instant,
}

type Appending = Pin<Box<dyn Future<Output = Result<Pending, LogError>> + Send>>;

/// A connected client.
struct Connection<R, W> {
    front: Arc<Front>,
    version: Version,
    client_id: Arc<str>,
    permit: Permit,
    /// How fast the client may publish, where that is bounded, and until when it is not read.
    rate: Option<Rate>,
    throttled_until: Option<Instant>,
    reader: R,
    writer: W,
    input: Input,
    inbound: Inbound,
    out: Outbound,
    /// Seconds the session is to outlive the connection.
    session_expiry: u32,
    /// Most QoS 1 and 2 messages the client may have on their way.
    receive_maximum: usize,
    /// Whether answers may say their reasons in words, and how large they may be.
    wants_reasons: bool,
    /// Whether the client ended the connection and wants its will published all the same.
    wants_will: bool,
    /// Whether all that the writer took has left.
    flushed: bool,
    source: Source,
    shares: Shares,
    /// Whether the shared subscriptions are to send first: neither side takes the whole window each time.
    shares_first: bool,
    appending: Option<Appending>,
    pending: VecDeque<Pending>,
    pending_messages: usize,
    /// How many of them are of QoS 2.
    pending_exact: usize,
    /// Bytes of the output that wait for the journal, in order.
    gates: VecDeque<Gate>,
    /// Sequence behind the last record of this connection.
    appended_to: u64,
    /// A packet that waits until what came before it is appended.
    control: Option<Control>,
    /// Set when the connection is to end once what was taken is appended, committed and answered.
    ending: Option<End>,
    pace: Pace,
}

/// Serves a connection until it ends.
///
/// A connection is idle for most of its life: how it begins and ends has a future of its own each, so that the room
/// for it is not kept meanwhile.
pub(crate) async fn serve<R, W>(front: Arc<Front>, peer: Peer, reader: R, writer: W)
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let end = front.intake.child_token();
    if let Some(begun) = Box::pin(begin(front, peer, reader, writer, &end)).await {
        let (mut connection, will, claim) = begun;
        let reason = connection.run(&end).await;
        Box::pin(connection.finish(&reason, will, claim)).await;
    }
}

/// Lets a client in, or refuses it.
async fn begin<R, W>(
    front: Arc<Front>,
    peer: Peer,
    mut reader: R,
    mut writer: W,
    end: &CancellationToken,
) -> Option<(Box<Connection<R, W>>, Option<Will>, Claim)>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let mut input = Input::default();
    let connect = select! {
        connect = handshake::connect(&front, &mut reader, &mut input) => connect,
        () = end.cancelled() => Err(Refusal::Cancelled),
    };
    let admitted = match connect {
        Ok(connect) => handshake::admit(&front, &peer, connect, end).await,
        Err(refusal) => Err(refusal),
    };
    let Admitted {
        connect,
        client_id,
        permit,
        claim,
        source,
        shares,
        out,
        unreleased,
        known,
    } = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            refuse(&front, &mut reader, &mut writer, refusal).await;
            return None;
        }
    };
    tracing::debug!(
        client_id = &*client_id,
        user = permit.user(),
        address = %peer.address,
        clean = connect.clean_start,
        "connected"
    );
    let pace = Pace::new(connect.keep_alive, front.stall_timeout);
    let mut connection = Box::new(Connection {
        rate: front.message_rate.map(Rate::new),
        throttled_until: None,
        permit,
        flushed: true,
        version: connect.version,
        session_expiry: connect.session_expiry,
        receive_maximum: match connect.version {
            Version::V311 => usize::MAX,
            Version::V5 => usize::from(front.receive_maximum),
        },
        inbound: Inbound::new(
            match connect.version {
                Version::V311 => 0,
                Version::V5 => front.topic_aliases,
            },
            unreleased,
        ),
        wants_reasons: connect.wants_reasons,
        wants_will: false,
        front,
        client_id,
        reader,
        writer,
        input,
        out,
        source,
        shares,
        shares_first: false,
        appending: None,
        pending: VecDeque::new(),
        pending_messages: 0,
        pending_exact: 0,
        gates: VecDeque::new(),
        appended_to: 0,
        control: None,
        ending: None,
        pace,
    });
    connection.resume_retained(&known);
    Some((connection, connect.will, claim))
}

async fn refuse<R, W>(front: &Front, reader: &mut R, writer: &mut W, refusal: Refusal)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut answer = Vec::new();
    match &refusal {
        Refusal::Closed | Refusal::Cancelled => {}
        Refusal::Timeout => front.metrics.rejected(Reason::ConnectTimeout),
        Refusal::Connect(version, error, limit) => {
            front.metrics.rejected(*error);
            control::put_refusal(*version, &mut answer, *error, *limit);
            if let Some(suppressed) = front.warning.permit() {
                tracing::warn!(%error, suppressed, "a client was refused");
            }
        }
    }
    tracing::debug!(reason = %refusal, "refused");
    if !answer.is_empty() {
        part(reader, writer, &answer).await;
    }
}

/// Writes the last words, says that there will be no more, and waits a little for the client to close.
///
/// A socket closed over unread bytes is reset, and then the client may never see what it was sent last.
async fn part<R, W>(reader: &mut R, writer: &mut W, words: &[u8])
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let farewell = async {
        writer.write_all(words).await?;
        writer.shutdown().await?;
        let mut unheard = Input::default();
        while read(reader, &mut unheard).await? > 0 {
            unheard.discard();
        }
        io::Result::Ok(())
    };
    if let Ok(Err(error)) = timeout(FAREWELL, farewell).await {
        tracing::debug!(%error, "the socket was gone already");
    }
}

thread_local! {
    /// Where bytes arrive before they are a connection's: idle connections hold no buffer.
    static ARRIVALS: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// Reads once into `input`; 0 means that the client closed.
///
/// # Cancel safety
/// Yes.
async fn read<R: AsyncRead + Unpin>(reader: &mut R, input: &mut Input) -> io::Result<usize> {
    poll_fn(|context| {
        ARRIVALS.with_borrow_mut(|arrivals| {
            let mut buffer = ReadBuf::new(arrivals);
            ready!(Pin::new(&mut *reader).poll_read(context, &mut buffer))?;
            input.add(buffer.filled());
            Ok(buffer.filled().len()).into()
        })
    })
    .await
}
