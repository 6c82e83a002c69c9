//! One connection to the broker: a pipelined MQTT 3.1.1 publisher of our own.
//!
//! Why not rumqttc, which serves the other rooms: it makes one system call for every message and costs
//! 4 to 8 µs of CPU each, while this generator shares its machine with what it measures. Here a wake-up
//! reads all PUBACKs that came, fills the window again and writes all of it at once. It is small because a
//! publisher needs six packets of MQTT only.
//!
//! Invariant: a message taken from the source stays in the window until its PUBACK. A new connection
//! first sends the whole window again, in order, marked DUP where it was sent before.
//!
//! Bound: the window ([`SendOptions::window`]); the source is not asked while it is full. QoS 0 has no
//! window: what is lost with a connection is lost.

mod connection;
mod socket;
mod window;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mqtt_client::{Backoff, Credentials, Tls};
use service::Clock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ledger::LedgerBuffer;
use crate::source::Source;
use crate::stats::{Latencies, Totals};
use connection::{End, Link, Lost};
use window::Window;

/// How connections send.
#[derive(Debug, Clone)]
pub(crate) struct SendOptions {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) tls: Option<Tls>,
    /// Beginning of every client id.
    pub(crate) client_prefix: String,
    /// Wait for PUBACKs (QoS 1) or not (QoS 0).
    pub(crate) acknowledged: bool,
    /// Most unacknowledged messages of a connection.
    pub(crate) window: usize,
    /// Without a PUBACK for this long, while one is owed, a connection gives up.
    pub(crate) give_up: Duration,
    /// Negative control of the tests: forgets the window with the connection.
    #[cfg(debug_assertions)]
    pub(crate) forget_on_reconnect: bool,
}

/// What the connections of one thread share.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) latencies: Latencies,
    pub(crate) ledger: LedgerBuffer,
}

/// What a connection needs from outside.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) options: Arc<SendOptions>,
    pub(crate) totals: Arc<Totals>,
    pub(crate) local: Rc<RefCell<Local>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Cancelled when no new messages are to be sent.
    pub(crate) stop: CancellationToken,
    /// Cancelled when outstanding acknowledgements are no longer to be waited for.
    pub(crate) abandon: CancellationToken,
}

/// One connection with its source and its window.
#[derive(Debug)]
pub(crate) struct Sender {
    around: Surroundings,
    client_id: String,
    source: Source,
    source_done: bool,
    window: Window,
    /// Since when a PUBACK, or a connection at all, is owed.
    waiting_since: Option<Instant>,
}

impl Sender {
    pub(crate) fn new(around: Surroundings, index: u64, source: Source) -> Self {
        let client_id = format!("{}-{index}", around.options.client_prefix);
        Self {
            around,
            client_id,
            source,
            source_done: false,
            window: Window::default(),
            waiting_since: None,
        }
    }

    /// Sends until the source is empty or the stop, and all is acknowledged; or gives up.
    pub(crate) async fn run(mut self) -> Outcome {
        let abandon = self.around.abandon.clone();
        tokio::select! {
            () = self.send_all() => {}
            () = abandon.cancelled() => {}
        }
        Outcome {
            unacked: self.window.unacked(),
            complete: self.stopped(),
        }
    }

    async fn send_all(&mut self) {
        let mut backoff = Backoff::default();
        self.waiting_since = Some(Instant::now());
        loop {
            let acked_before = self.window.acked();
            let lost = match Link::connect(&self.around.options, &self.client_id).await {
                Ok(link) => match self.use_link(link).await {
                    End::Finished => return,
                    End::Lost(lost) => lost,
                },
                Err(lost) => lost,
            };
            if self.window.acked() > acked_before {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            if backoff.failures() == 1 {
                tracing::warn!(client_id = self.client_id, error = %lost, "connection lost, reconnecting");
            }
            let since = *self.waiting_since.get_or_insert_with(Instant::now);
            if since.elapsed() + delay > self.around.options.give_up || lost.is_final() {
                tracing::error!(client_id = self.client_id, error = %lost, "gave up");
                return;
            }
            if self.stopped() && self.window.is_empty() {
                return;
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn use_link(&mut self, link: Link) -> End {
        let totals = Arc::clone(&self.around.totals);
        Totals::add(&totals.connected, 1);
        let end = self.serve(link).await;
        totals
            .connected
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        if matches!(end, End::Lost(_)) {
            Totals::add(&totals.reconnects, 1);
            #[cfg(debug_assertions)]
            if self.around.options.forget_on_reconnect {
                self.window = Window::default();
            }
        }
        end
    }

    fn stopped(&self) -> bool {
        self.source_done || self.around.stop.is_cancelled()
    }
}

/// How a connection's work ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// Messages sent at least once, or about to be, and not acknowledged; those still in the source do not
    /// count.
    pub(crate) unacked: u64,
    /// The source was emptied or stopped, rather than left standing.
    pub(crate) complete: bool,
}

impl Lost {
    /// Tells whether trying again cannot help.
    fn is_final(&self) -> bool {
        matches!(self, Self::Refused(2 | 4 | 5) | Self::Tls(_))
    }
}
