//! The life of a connected client: the loop, its events, and what is left behind.

use std::future::Future;
use std::io;
use std::num::NonZeroU16;
use std::ops::Range;
use std::pin::pin;

use futures_util::FutureExt as _;
use ingest_log::LogError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::farewell::retain;
use super::flush::write;
use super::intake::{self, Taken, Terms};
use super::{
    Connection, End, MAX_PENDING_BATCHES, MAX_PENDING_MESSAGES, Pending, Source, read, withdrawn,
};
use crate::access::Refused;
use crate::metrics::What;
use crate::protocol::control::{self, Control};
use crate::protocol::frame::{Split, split};
use crate::protocol::v5::{answers, reason};
use crate::protocol::{Version, Violation, publish};

/// Most reads in search of the last word of a client that was taken over.
const LAST_READS: usize = 16;

/// What a connection waited for.
enum Event {
    Read(io::Result<usize>),
    /// How many bytes, and whether they have left.
    Wrote(io::Result<(usize, bool)>),
    /// The client was not read for long enough.
    Rested,
    Appended(Result<Pending, LogError>),
    Committed(Result<Range<u64>, LogError>),
    Fetched(Result<bool, LogError>),
    /// The journal has what the first gate waits for.
    Opened(Result<Range<u64>, LogError>),
}

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    /// Serves the client until the connection ends, and says why it does.
    pub(super) async fn run(&mut self, end: &CancellationToken) -> End {
        let mut cancelled = pin!(end.cancelled());
        let mut stopping = false;
        // What the client was granted once may be denied by now.
        let lost = withdrawn(&self.permit, &self.source, &self.shares);
        if !lost.is_empty()
            && let Err(error) = self.withdraw(&lost).await
        {
            return End::Log(error);
        }
        let mut timer = pin!(sleep_until(self.pace.next_check()));
        loop {
            if self.may_handle()
                && let Some(control) = self.control.take()
            {
                let handled = match control {
                    Control::Disconnect {
                        reason,
                        session_expiry,
                    } => {
                        self.ending = Some(self.part(reason, session_expiry));
                        Ok(())
                    }
                    other => select! {
                        handled = self.handle(other) => handled,
                        () = &mut cancelled => Err(self.cancelled()),
                    },
                };
                if let Err(end) = handled {
                    return end;
                }
            }
            self.advance();
            if let Err(end) = self.end_turn() {
                return end;
            }
            if self.may_handle() && self.control.is_some() {
                continue;
            }
            if self.is_done() {
                return self.ending.take().unwrap_or(End::Closed);
            }
            let step = select! {
                event = self.event() => self.on(event),
                () = &mut timer => {
                    timer.as_mut().reset(self.pace.next_check());
                    self.pace.overdue().map_or(Ok(()), Err)
                }
                () = &mut cancelled, if !stopping => match self.cancelled() {
                    End::Stopped => {
                        stopping = true;
                        self.ending.get_or_insert(End::Stopped);
                        Ok(())
                    }
                    end => Err(self.last_word().unwrap_or(end)),
                },
            };
            if let Err(end) = step {
                // What was decided before stays the reason.
                return self.ending.take().unwrap_or(end);
            }
        }
    }

    /// Tells whether the packet that waits may be handled. A subscription is to find what its own client had retained
    /// before, and that is so once it is durable.
    fn may_handle(&self) -> bool {
        let finds = matches!(self.control, Some(Control::Subscribe(..)));
        let retains = |pending: &Pending| !pending.retained.is_empty();
        self.appending.is_none() && !(finds && self.pending.iter().any(retains))
    }

    /// Tells why the connection's token was cancelled.
    fn cancelled(&self) -> End {
        if self.front.intake.is_cancelled() {
            End::Stopped
        } else {
            End::TakenOver
        }
    }

    /// Does what needs no waiting: takes what was read, makes deliveries.
    fn advance(&mut self) {
        if self.permit.is_stale() {
            self.renew();
        }
        while self.takes() && self.input.is_fresh() {
            self.take();
        }
        if self.ending.is_none() {
            self.out.pump_retained();
            self.shares_first = !self.shares_first;
            if self.shares_first {
                self.shares.pump(&mut self.out);
            }
            self.source.pump(&mut self.out);
            if !self.shares_first {
                self.shares.pump(&mut self.out);
            }
        }
        let delivered = self.out.take_delivered();
        if delivered > 0 {
            self.front.metrics.delivered.inc_by(delivered);
        }
        let output_waits = !self.out.unwritten().is_empty() || !self.flushed;
        let (listens, ends) = (self.takes(), self.ending.is_some());
        self.pace.observe(listens, output_waits, ends);
    }

    /// Hands what this turn changed to the journal, and keeps back what depends on it.
    fn end_turn(&mut self) -> Result<(), End> {
        let turn = std::mem::take(&mut self.out.turn);
        if let Some(gate) = turn.end(&self.front.state, &self.client_id)? {
            if self.gates.is_empty() {
                self.out.hold(Some(gate.at));
            }
            self.gates.push_back(gate);
        }
        Ok(())
    }

    /// Lets go of what waited for the journal.
    fn open_gate(&mut self) {
        let Some(gate) = self.gates.pop_front() else {
            return;
        };
        self.out.hold(self.gates.front().map(|next| next.at));
        if !gate.received.is_empty() {
            if let Source::Persistent(delivery) = &mut self.source {
                delivery.notes_places();
            }
            self.source.acknowledge(&gate.received);
            self.source.note_place(&mut self.out);
            let out = &self.out;
            self.shares.received(&gate.received, |n| out.group(n));
            self.out.retained_done(&gate.received);
        }
    }

    /// Holds the client to the users and rules as they are now.
    fn renew(&mut self) {
        let renewed = self.permit.renew();
        let lost = !withdrawn(&self.permit, &self.source, &self.shares).is_empty();
        if renewed.is_err() || lost {
            // What it may still have comes with its next connection.
            self.ending.get_or_insert(End::Revoked);
        }
    }

    /// Tells whether there is room for more from this client.
    fn takes(&self) -> bool {
        self.ending.is_none()
            && self.appending.is_none()
            && self.control.is_none()
            && self.pending.len() < MAX_PENDING_BATCHES
            && self.pending_messages < MAX_PENDING_MESSAGES
            && self.throttled_until.is_none()
            && self.out.has_room()
    }

    /// Tells whether the connection is to end and all that was taken is dealt with.
    fn is_done(&self) -> bool {
        let written = self.out.is_written() && self.flushed;
        let answered = written || matches!(self.ending, Some(End::Closed));
        self.ending.is_some() && self.appending.is_none() && self.pending.is_empty() && answered
    }

    async fn event(&mut self) -> Event {
        let (reads, ends) = (self.takes(), self.ending.is_some());
        let has_room = !ends && self.out.has_room();
        let delivers = has_room && self.source.is_hungry();
        let shares_deliver = has_room && self.shares.is_hungry(&self.out);
        let window_is_full = self.out.window.is_full();
        let Self {
            reader,
            writer,
            input,
            out,
            source,
            shares,
            appending,
            pending,
            flushed,
            throttled_until,
            gates,
            ..
        } = self;
        let writes = !out.unwritten().is_empty();
        select! {
            result = read(reader, input), if reads => Event::Read(result),
            result = write(writer, out.unwritten()), if writes || !*flushed => Event::Wrote(result),
            Some(()) = maybe(throttled_until.map(|until| Box::pin(sleep_until(until)))) => Event::Rested,
            Some(result) = maybe(appending.as_mut()) => Event::Appended(result),
            Some(result) = maybe(pending.front_mut().map(|p| &mut p.commit)) => Event::Committed(result),
            Some(result) = maybe(gates.front_mut().map(|gate| &mut gate.commit)) => Event::Opened(result),
            result = source.fetch(), if delivers => Event::Fetched(result),
            result = shares.fetch(window_is_full), if shares_deliver => Event::Fetched(result),
            never = std::future::pending() => never,
        }
    }

    fn on(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Read(Ok(0)) => self.ending = Some(End::Closed),
            Event::Read(Ok(count)) => {
                self.pace.heard();
                self.front.metrics.received_bytes.inc_by(count as u64);
            }
            Event::Wrote(Ok((count, flushed))) => {
                self.out.wrote(count);
                self.front.metrics.sent_bytes.inc_by(count as u64);
                self.flushed = flushed;
                self.pace.took();
            }
            Event::Read(Err(error)) | Event::Wrote(Err(error)) => return Err(End::Io(error)),
            Event::Rested => self.throttled_until = None,
            Event::Appended(pending) => {
                self.appending = None;
                let pending = pending.map_err(End::Log)?;
                let seqs = pending.commit.seqs();
                self.appended_to = seqs.end;
                let unreleased = &mut self.inbound.unreleased;
                let accepted = unreleased.accepted(&pending.tracked, &seqs);
                if !accepted.is_empty() && unreleased.is_durable() {
                    self.front.state.note_incoming(&self.client_id, accepted);
                }
                if !pending.packet_ids.is_empty() || !pending.retained.is_empty() {
                    self.pending_messages += pending.packet_ids.len();
                    self.pending_exact += pending.exact.len();
                    self.pending.push_back(pending);
                }
            }
            Event::Committed(seqs) => {
                let seqs = seqs.map_err(End::Log)?;
                if let Some(pending) = self.pending.pop_front() {
                    self.acknowledge(pending, &seqs);
                }
            }
            Event::Opened(opened) => {
                opened.map_err(End::Log)?;
                self.open_gate();
            }
            Event::Fetched(Ok(true)) => {}
            // The log was closed, which comes after intake has stopped.
            Event::Fetched(Ok(false)) => self.ending = Some(End::Stopped),
            Event::Fetched(Err(error)) => return Err(End::Log(error)),
        }
        Ok(())
    }

    /// Takes complete packets, and begins to append what they publish.
    fn take(&mut self) {
        let front = &self.front;
        let terms = Terms {
            version: self.version,
            client_id: &self.client_id,
            received_us: front.clock.now().as_micros(),
            max_packet_bytes: front.max_packet_bytes,
            permit: &self.permit,
            room: self.receive_maximum.saturating_sub(
                self.pending_messages - self.pending_exact + self.inbound.unreleased.len(),
            ),
            ack_before_commit: front.ack_before_commit,
        };
        let Taken {
            batch,
            packet_ids,
            exact,
            tracked,
            counted: _,
            released,
            retained,
            received,
            refused: [denied, topic],
            reasons,
            acknowledged,
            control,
            violation,
        } = intake::take(&mut self.input, &mut self.inbound, &terms, &mut self.out);
        front.metrics.received(received);
        front.metrics.refused(What::PublishDenied, denied);
        front.metrics.refused(What::PublishTopic, topic);
        if let Some(rate) = &mut self.rate {
            rate.take(received.iter().sum());
            self.throttled_until = rate.wait_until();
            front
                .metrics
                .throttled
                .inc_by(u64::from(self.throttled_until.is_some()));
        }
        if !acknowledged.is_empty() {
            self.shares.acknowledge(&acknowledged);
            self.source.acknowledge(&acknowledged);
            self.source.note_place(&mut self.out);
            self.out.retained_done(&acknowledged);
        }
        self.control = control;
        self.ending = violation.map(End::Violation);
        self.release(released);
        let front = &self.front;
        if !batch.is_empty() || !packet_ids.is_empty() {
            let (log, since) = (front.log.clone(), Instant::now());
            let remembers = !tracked.is_empty() || !retained.is_empty();
            let floor = remembers.then(|| front.state.floor());
            let retains = !retained.is_empty();
            let expected = retains.then(|| front.retained.expect(log.next_durable()));
            self.appending = Some(Box::pin(async move {
                Ok(Pending {
                    commit: log.append(batch).await?,
                    packet_ids,
                    exact,
                    tracked,
                    floor,
                    refused: reasons,
                    retained,
                    expected,
                    since,
                })
            }));
        }
    }

    /// Takes PUBREL packets: their ids are free, and the PUBCOMP packets say so once that is durable.
    fn release(&mut self, released: Vec<NonZeroU16>) {
        let durable = self.inbound.unreleased.is_durable();
        if durable && !released.is_empty() {
            self.out.gate();
        }
        for id in released {
            let (is_known, change) = self.inbound.unreleased.release(id);
            self.out.turn.changes.extend(change);
            let [high, low] = id.get().to_be_bytes();
            let out = self.out.answers();
            if is_known || self.version == Version::V311 {
                out.extend_from_slice(&[control::PUBCOMP, 2, high, low]);
            } else {
                let reason = reason::PACKET_ID_NOT_FOUND;
                answers::put_acknowledgement(out, control::PUBCOMP, id.get(), reason, None);
            }
        }
    }

    /// Answers a batch that is durable.
    fn acknowledge(&mut self, pending: Pending, seqs: &Range<u64>) {
        let metrics = &self.front.metrics;
        let mut refused = pending.refused.iter().peekable();
        let mut exact = pending.exact.iter().peekable();
        for (place, packet_id) in pending.packet_ids.iter().enumerate() {
            let is_exact = exact.next_if_eq(&&place).is_some();
            match refused.next_if(|(at, _)| *at == place) {
                Some((_, why)) if self.version == Version::V5 => {
                    let reason = match why {
                        Refused::NotAuthorized => reason::NOT_AUTHORIZED,
                        Refused::TopicName => reason::TOPIC_NAME_INVALID,
                    };
                    let out = self.out.answers();
                    let first = if is_exact {
                        control::PUBREC
                    } else {
                        control::PUBACK
                    };
                    answers::put_acknowledgement(out, first, *packet_id, reason, None);
                }
                // MQTT 3.1.1 cannot say it [MQTT-3.3.5-2].
                _ if is_exact => publish::encode_received(self.out.answers(), *packet_id),
                _ => publish::encode_ack(self.out.answers(), *packet_id),
            }
        }
        self.pending_messages -= pending.packet_ids.len();
        self.pending_exact -= pending.exact.len();
        let taken = pending.packet_ids.len() - pending.refused.len();
        metrics.acknowledged.inc_by(taken as u64);
        metrics
            .commit_seconds
            .observe(pending.since.elapsed().as_secs_f64());
        retain(&self.front, pending.retained, seqs.start);
        drop(pending.expected);
    }

    async fn handle(&mut self, control: Control) -> Result<(), End> {
        match control {
            Control::Subscribe(packet_id, requests) => self.subscribe(packet_id, requests).await,
            Control::Unsubscribe(packet_id, filters) => self.unsubscribe(packet_id, &filters).await,
            // It waits for nothing, so the loop takes it.
            Control::Disconnect { .. } => Ok(()),
        }
    }

    /// Looks for a DISCONNECT in what the client has sent already: what it says of session and will holds, though its
    /// next connection is there before it was read.
    fn last_word(&mut self) -> Option<End> {
        if let Some(Control::Disconnect {
            reason,
            session_expiry,
        }) = self.control.take()
        {
            return Some(self.part(reason, session_expiry));
        }
        for _ in 0..LAST_READS {
            let more = unconstrained(read(&mut self.reader, &mut self.input)).now_or_never();
            if !matches!(more, Some(Ok(count)) if count > 0) {
                break;
            }
        }
        let mut rest = self.input.unread();
        while let Ok(Split::Frame(frame)) = split(rest, self.front.max_packet_bytes) {
            if let Ok(Control::Disconnect {
                reason,
                session_expiry,
            }) = control::control(self.version, &frame)
            {
                return Some(self.part(reason, session_expiry));
            }
            rest = rest.get(frame.size..).unwrap_or_default();
        }
        None
    }

    /// Takes the client's DISCONNECT, and says why the connection ends.
    fn part(&mut self, reason: u8, session_expiry: Option<u32>) -> End {
        if let Some(asked) = session_expiry {
            if self.session_expiry == 0 && asked > 0 {
                return End::Violation(Violation::Protocol);
            }
            self.session_expiry = self.front.expiry.grant(&self.client_id, asked);
        }
        self.wants_will = reason != reason::SUCCESS;
        End::Disconnect
    }
}

/// Waits for what may be absent, as a branch of `select!` that is then skipped.
async fn maybe<F: Future + Unpin>(future: Option<F>) -> Option<F::Output> {
    match future {
        Some(future) => Some(future.await),
        None => None,
    }
}
