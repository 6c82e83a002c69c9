//! From an accepted socket to a connected client: CONNECT, takeover, session, CONNACK.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use session_state::{Client, KEPT};
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use super::exactly_once::Unreleased;
use super::intake::Input;
use super::outbound::{Outbound, Takes};
use super::subscriptions::MAX_QOS;
use super::{Front, Source, publish_will, read};
use crate::access::{Denied, Login, Permit};
use crate::listen::Peer;
use crate::protocol::Version;
use crate::protocol::control::{self, Connect, ConnectError};
use crate::protocol::frame::{Split, split};
use crate::protocol::v5::answers::{self, Accepted};
use crate::retained::Retained;
use crate::sabotage::{Step, leaves_out};
use crate::session::{self, Session, delivery::Delivery, window::Origin};
use crate::share::Shares;
use crate::takeover::Claim;

/// Why a connection did not come to be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the client closed the connection before its CONNECT")]
    Closed,
    #[error("no CONNECT came in time")]
    Timeout,
    /// With the size of the largest packet the client takes, as far as that is known.
    #[error("{1}")]
    Connect(Version, ConnectError, usize),
    #[error("another connection with the same client id came, or the broker is stopping")]
    Cancelled,
}

/// A connected client.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) connect: Connect,
    pub(super) client_id: Arc<str>,
    pub(super) permit: Permit,
    pub(super) claim: Claim,
    pub(super) source: Source,
    pub(super) shares: Shares,
    pub(super) out: Outbound,
    pub(super) unreleased: Unreleased,
    /// What was known of it before.
    pub(super) known: Client,
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
                    let version = control::version_of(frame.body);
                    let connect = control::connect(&frame).map_err(|error| {
                        Refusal::Connect(version, error, control::limit_of(frame.body))
                    });
                    let size = frame.size;
                    input.took(size, true);
                    return connect;
                }
                Ok(Split::Incomplete(_)) => {}
                Err(violation) => {
                    // What is there of it may tell the version: behind type and length.
                    let body = input.unread().get(1..).unwrap_or_default();
                    let length = body.iter().take(4).position(|byte| byte & 0x80 == 0);
                    let body = length.and_then(|at| body.get(at + 1..)).unwrap_or_default();
                    let version = control::version_of(body);
                    return Err(Refusal::Connect(version, violation.into(), usize::MAX));
                }
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
    peer: &Peer,
    mut connect: Connect,
    end: &CancellationToken,
) -> Result<Admitted, Refusal> {
    let version = connect.version;
    let packet_bytes = connect.packet_bytes;
    let refused = |error| Refusal::Connect(version, error, packet_bytes);
    let client_id: Arc<str> = if connect.client_id.is_empty() {
        let number = front.assigned_ids.fetch_add(1, Ordering::Relaxed);
        format!("auto-{}-{number}", front.started_us).into()
    } else {
        connect.client_id.as_str().into()
    };
    // Before the claim: who is not let in ends nobody's connection.
    let permit = select! {
        permit = judge(front, peer, &connect, &client_id) => permit.map_err(refused)?,
        () = end.cancelled() => return Err(Refusal::Cancelled),
    };
    let claim = select! {
        claim = front.claims.claim(&client_id, end.clone()) => claim,
        () = end.cancelled() => return Err(Refusal::Cancelled),
    };
    let mut takes = Takes {
        version,
        window: front.window.min(usize::from(connect.receive_maximum)),
        packet_bytes: connect.packet_bytes,
        aliases: connect.aliases,
        clock: Arc::clone(&front.clock),
        durable: false,
    };
    let asked_expiry = connect.session_expiry;
    connect.session_expiry = front.expiry.grant(&client_id, asked_expiry);
    front.expiry.cancel(&client_id);
    let ends = connect.clean_start || front.has_expired(&client_id);
    settle_will(front, &client_id, ends)
        .await
        .map_err(refused)?;
    if ends {
        let existed = session::exists(&front.log, &client_id);
        front.end_session(&client_id);
        if existed && front.log.cursors().sync().await.is_err() {
            return Err(refused(ConnectError::Unavailable));
        }
    }
    let expiry = connect.session_expiry;
    // What was noted before must not come back, nor must what is taken up be lost again.
    let known = settled(front, &client_id).await.map_err(refused)?;
    takes.durable = expiry > 0 || session::exists(&front.log, &client_id);
    let (source, mut shares, session_present) =
        if expiry > 0 || session::exists(&front.log, &client_id) {
            let opened = open(front, &client_id, expiry, &known, end).await;
            opened.map_err(refused)?.ok_or(Refusal::Cancelled)?
        } else {
            let shares = Shares::begin(&front.groups, &client_id, false);
            let live = front.fanout.subscriber(&client_id);
            (Source::Live(live), shares, false)
        };
    hold_will(front, &client_id, &connect)
        .await
        .map_err(refused)?;
    let mut out = Outbound::new(takes);
    accept(
        front,
        &client_id,
        &mut connect,
        &mut out,
        (asked_expiry, session_present),
    );
    let unreleased = Unreleased::new(out.is_durable(), Some(&known));
    if out.is_durable() {
        restore(&mut out, &mut shares, &source, &known, &permit);
    }
    Ok(Admitted {
        connect,
        client_id,
        permit,
        claim,
        source,
        shares,
        out,
        unreleased,
        known,
    })
}

/// Deals with the will of an earlier connection: it is for nothing when its session goes on, and due when that `ends`.
async fn settle_will(front: &Front, client_id: &str, ends: bool) -> Result<(), ConnectError> {
    if let Some((will, is_due)) = front.wills.take(client_id) {
        let goes = ends || is_due || leaves_out(Step::WillVoid);
        if goes && !publish_will(front, client_id, will).await {
            return Err(ConnectError::Unavailable);
        }
        drop(front.wills.drop_of(client_id));
    }
    Ok(())
}

/// Waits until the will is durable.
async fn hold_will(front: &Front, client_id: &str, connect: &Connect) -> Result<(), ConnectError> {
    let Some(will) = &connect.will else {
        return Ok(());
    };
    let wait = will.delay.min(connect.session_expiry);
    let noted = front.wills.hold(client_id, will, wait);
    let noted = noted.map_err(|_| ConnectError::Unavailable)?;
    noted.await.map_err(|_| ConnectError::Unavailable)?;
    Ok(())
}

/// Answers a CONNECT that is accepted; with MQTT 5 the keep-alive may become another.
fn accept(
    front: &Front,
    client_id: &str,
    connect: &mut Connect,
    out: &mut Outbound,
    (asked_expiry, session_present): (u32, bool),
) {
    if connect.version == Version::V311 {
        return control::put_accepted(out.answers(), session_present);
    }
    let response_information = response_topic(front, connect, client_id);
    let mut accepted = accepted(front, client_id, connect);
    let expiry = connect.session_expiry;
    accepted.session_present = session_present;
    accepted.session_expiry = (expiry != asked_expiry).then_some(expiry);
    let size = answers::accepted_size(&accepted);
    // Who cannot take that is not told; all else was found to fit.
    accepted.response_information = response_information
        .as_deref()
        .filter(|information| size + information.len() + 4 <= connect.packet_bytes);
    answers::put_accepted(out.answers(), &accepted);
    connect.keep_alive = accepted.keep_alive.unwrap_or(connect.keep_alive);
}

/// Returns what the CONNACK says that does not depend on the session.
fn accepted<'a>(front: &Front, client_id: &'a str, connect: &Connect) -> Accepted<'a> {
    let asked = connect.keep_alive;
    let keep_alive = match front.max_keep_alive {
        Some(most) if asked == 0 => most,
        Some(most) => asked.min(most),
        None => asked,
    };
    Accepted {
        receive_maximum: front.receive_maximum,
        maximum_qos: Some(MAX_QOS).filter(|qos| *qos < 2),
        packet_bytes: u32::try_from(front.max_packet_bytes).unwrap_or(u32::MAX),
        assigned_client_id: connect.client_id.is_empty().then_some(client_id),
        aliases: front.topic_aliases,
        keep_alive: Some(keep_alive).filter(|seconds| *seconds != asked),
        ..Accepted::default()
    }
}

/// Tells whether the client takes packets as large as the CONNACK that accepts it.
fn fits(front: &Front, client_id: &str, connect: &Connect) -> bool {
    let mut accepted = accepted(front, client_id, connect);
    let (asked, granted) = (
        connect.session_expiry,
        front.expiry.grant(client_id, connect.session_expiry),
    );
    accepted.session_expiry = (granted != asked).then_some(granted);
    answers::accepted_size(&accepted) <= connect.packet_bytes
}

/// Finds out who the client is, and whether it may come in and leave its will.
async fn judge(
    front: &Front,
    peer: &Peer,
    connect: &Connect,
    client_id: &str,
) -> Result<Permit, ConnectError> {
    if connect.version == Version::V5 && !fits(front, client_id, connect) {
        return Err(ConnectError::PacketSize);
    }
    let login = Login {
        client_id,
        user: connect.username.as_deref(),
        password: connect.password.as_deref(),
        certificate: peer.certificate.as_deref(),
    };
    let permit = front.access.admit(login).await?;
    let will = connect.will.as_ref();
    if will.is_some_and(|will| permit.may_publish(&will.topic).is_err()) {
        return Err(ConnectError::NotAuthorized);
    }
    Ok(permit)
}

impl From<Denied> for ConnectError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Credentials => Self::Credentials,
            Denied::NotAuthorized => Self::NotAuthorized,
            Denied::ClientId => Self::ClientId,
            Denied::Busy => Self::Unavailable,
        }
    }
}

/// Returns where a client that wants to know is to expect responses. A client id that is no part of a topic has
/// no such place.
fn response_topic(front: &Front, connect: &Connect, client_id: &str) -> Option<String> {
    let fits = !client_id.contains(['+', '#']);
    (connect.wants_response && fits).then(|| format!("{}/{client_id}", front.response_topic))
}

/// Waits until all is durable that is known of a client, and returns it. What is known of a session that is gone is
/// cleared.
async fn settled(front: &Front, client_id: &str) -> Result<Client, ConnectError> {
    let unavailable = |_| ConnectError::Unavailable;
    if front.state.client(client_id).is_none() {
        return Ok(Client::default());
    }
    if !session::exists(&front.log, client_id) {
        front.state.clear(client_id).map_err(unavailable)?;
    }
    let barrier = front.state.change(client_id, &[]);
    let barrier = barrier.map_err(unavailable)?;
    barrier.await.map_err(|_| ConnectError::Unavailable)?;
    let known = front.state.client(client_id).unwrap_or_default();
    // A message that is accepted and not durable cannot be answered when it is sent again.
    let newest = known.incoming.values().map(|incoming| incoming.seq).max();
    if let Some(newest) = newest.filter(|newest| *newest >= front.log.next_durable()) {
        let durable = front.log.reader(newest).next_chunk(1).await;
        durable.map_err(|_| ConnectError::Unavailable)?;
    }
    Ok(known)
}

/// Takes up what the connection before left open; PUBREL goes again at once. What the client may not read any more is
/// done with.
fn restore(
    out: &mut Outbound,
    shares: &mut Shares,
    source: &Source,
    known: &Client,
    permit: &Permit,
) {
    let (mut left, mut numbers) = (BTreeMap::new(), Vec::new());
    for (&id, outgoing) in &known.outgoing {
        let seq = outgoing.seq;
        let origin = match &*outgoing.group {
            "" => Origin::Session { seq },
            KEPT => Origin::Retained { seq },
            name => {
                let number = match numbers.iter().find(|(known, _)| *known == name) {
                    Some((_, number)) => *number,
                    None => shares.number_of(name),
                };
                numbers.push((name, number));
                out.name_group(number, name);
                Origin::Share { number, seq }
            }
        };
        left.insert(id, (origin, outgoing.received));
    }
    out.window.restore(&left);
    if let Source::Persistent(delivery) = source {
        out.window.restore_once(delivery.once());
    }
    for (&id, (origin, received)) in &left {
        if *received {
            out.put_pubrel(id);
            continue;
        }
        let outgoing = &known.outgoing[&id];
        let goes_again = match *origin {
            Origin::Session { seq } => seq >= known.reading.place,
            Origin::Share { number, seq } => {
                let group = &outgoing.group;
                permit.may_subscribe(&format!("$share/{group}"))
                    && shares.send_again(group, number, seq, id)
            }
            Origin::Retained { seq } => {
                let message = outgoing.message.as_ref();
                let message = message.and_then(|message| Retained::from_sent(seq, message));
                let message = message.filter(|message| permit.may_subscribe(&message.topic));
                let is_there = message.is_some();
                if let Some(message) = message {
                    out.restore_retained(message, id);
                }
                is_there
            }
            Origin::Memory => false,
        };
        if !goes_again {
            // It is done with, whatever became of its PUBREC.
            out.take_pubrec(id, true);
        }
    }
}

/// Goes on with the session of a client or begins one; it outlives the connection by `expiry` seconds. `None` when
/// `end` was cancelled before that was durable.
async fn open(
    front: &Front,
    client_id: &Arc<str>,
    expiry: u32,
    known: &Client,
    end: &CancellationToken,
) -> Result<Option<(Source, Shares, bool)>, ConnectError> {
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
    let left = front.unfinished.take(client_id);
    let replay = front.groups.replay();
    let mut delivery = Delivery::new(&front.log, replay, session, unsent, known, &left);
    // This sync is also the one that the shared subscriptions want before anything is sent.
    select! {
        begun = delivery.begin(expiry) => begun.map_err(|_| ConnectError::Unavailable)?,
        () = end.cancelled() => {
            // It says already that the client is connected, and nobody else would say that it left.
            let now_us = front.clock.now().as_micros();
            delivery.end(now_us, expiry);
            let end = front.expiry.end_of(client_id, expiry, now_us);
            front.expiry.schedule(client_id, end);
            return Ok(None);
        }
    }
    let source = Source::Persistent(Box::new(delivery));
    Ok(Some((source, shares, present)))
}
