//! From an accepted socket to a connected client: CONNECT, takeover, session, CONNACK.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use super::intake::Input;
use super::outbound::{Outbound, Takes};
use super::{Front, Source, read};
use crate::protocol::control::{self, Connect, ConnectError};
use crate::protocol::frame::{Split, split};
use crate::session::{self, Session, delivery::Delivery};
use crate::share::Shares;
use crate::takeover::Claim;

/// Why a connection did not come to be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the client closed the connection before its CONNECT")]
    Closed,
    #[error("no CONNECT came in time")]
    Timeout,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("another connection with the same client id came, or the broker is stopping")]
    Cancelled,
}

/// A connected client.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) connect: Connect,
    pub(super) client_id: Arc<str>,
    pub(super) claim: Claim,
    pub(super) source: Source,
    pub(super) shares: Shares,
    pub(super) out: Outbound,
}

/// Reads the first packet, which must be CONNECT.
pub(super) async fn connect<R: AsyncRead + Unpin>(
    front: &Front,
    reader: &mut R,
    input: &mut Input,
) -> Result<Connect, Refusal> {
    let first = async {
        loop {
            match split(input.unread(), front.max_packet_bytes) {
                Ok(Split::Frame(frame)) => {
                    let connect = control::connect(&frame);
                    let size = frame.size;
                    input.took(size, true);
                    return Ok(connect?);
                }
                Ok(Split::Incomplete(_)) => {}
                Err(violation) => return Err(ConnectError::from(violation).into()),
            }
            match read(reader, input).await {
                Ok(0) | Err(_) => return Err(Refusal::Closed),
                Ok(_) => {}
            }
        }
    };
    let limited = tokio::time::timeout(front.connect_timeout, first).await;
    limited.unwrap_or(Err(Refusal::Timeout))
}

/// Takes the client id, opens the session and prepares the CONNACK.
pub(super) async fn admit(
    front: &Front,
    connect: Connect,
    end: &CancellationToken,
) -> Result<Admitted, Refusal> {
    let client_id: Arc<str> = if connect.client_id.is_empty() {
        let number = front.assigned_ids.fetch_add(1, Ordering::Relaxed);
        format!("auto-{}-{number}", front.started_us).into()
    } else {
        connect.client_id.as_str().into()
    };
    let claim = tokio::select! {
        claim = front.claims.claim(&client_id, end.clone()) => claim,
        () = end.cancelled() => return Err(Refusal::Cancelled),
    };
    let mut out = Outbound::new(Takes {
        version: connect.version,
        window: front.window,
        packet_bytes: usize::MAX,
        aliases: 0,
        clock: Arc::clone(&front.clock),
    });
    let (source, shares, session_present) = if connect.clean_session {
        if session::discard(&front.log, &client_id) {
            front.metrics.sessions.dec();
        }
        let shares = Shares::begin(&front.groups, &client_id, false);
        (Source::Live(front.fanout.subscriber()), shares, false)
    } else {
        tokio::select! {
            opened = open(front, &client_id) => opened?,
            () = end.cancelled() => return Err(Refusal::Cancelled),
        }
    };
    control::put_accepted(out.answers(), session_present);
    Ok(Admitted {
        connect,
        client_id,
        claim,
        source,
        shares,
        out,
    })
}

async fn open(front: &Front, client_id: &Arc<str>) -> Result<(Source, Shares, bool), ConnectError> {
    let resumed = Session::resume(&front.log, client_id, front.recovered).map_err(|error| {
        tracing::error!(%error, client_id = &**client_id, "a session cannot be read; its client is refused");
        ConnectError::Unavailable
    })?;
    let present = resumed.is_some();
    let (session, unsent) = if let Some(resumed) = resumed {
        resumed
    } else {
        if front.metrics.sessions.get() >= front.max_sessions {
            return Err(ConnectError::Unavailable);
        }
        front.metrics.sessions.inc();
        (Session::begin(&front.log, client_id), 0)
    };
    let shares = if present {
        Shares::resume(&front.groups, client_id)
    } else {
        Shares::begin(&front.groups, client_id, true)
    };
    let mut delivery = Delivery::new(&front.log, session, unsent);
    // This sync is also the one that the shared subscriptions want before anything is sent.
    let begun = delivery.begin().await;
    begun.map_err(|_| ConnectError::Unavailable)?;
    Ok((Source::Persistent(Box::new(delivery)), shares, present))
}
