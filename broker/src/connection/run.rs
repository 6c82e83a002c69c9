//! The life of a connected client: the loop, its events, and what is left behind.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::pin;

use bytes::Bytes;
use ingest_log::{LogError, RecordBatch, RecordHead};
use service::ErrorChain;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::intake::{self, Taken, Terms};
use super::{
    Connection, End, FAREWELL, Front, MAX_PENDING_BATCHES, MAX_PENDING_MESSAGES, Pending, Source,
    part, read,
};
use crate::metrics::Reason;
use crate::protocol::control::{Control, Will};
use crate::protocol::publish;
use crate::retained::Retained;
use crate::takeover::Claim;

/// What a connection waited for.
enum Event {
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Appended(Result<Pending, LogError>),
    Committed(Result<Range<u64>, LogError>),
    Fetched(Result<bool, LogError>),
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
        let mut timer = pin!(sleep_until(self.pace.next_check()));
        loop {
            if self.appending.is_none()
                && let Some(control) = self.control.take()
            {
                let handled = tokio::select! {
                    handled = self.handle(control) => handled,
                    () = &mut cancelled => Err(self.cancelled()),
                };
                if let Err(end) = handled {
                    return end;
                }
            }
            self.advance();
            if self.appending.is_none() && self.control.is_some() {
                continue;
            }
            if self.is_done() {
                return self.ending.take().unwrap_or(End::Closed);
            }
            let step = tokio::select! {
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
                    end => Err(end),
                },
            };
            if let Err(end) = step {
                // What was decided before stays the reason.
                return self.ending.take().unwrap_or(end);
            }
        }
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
        let output_waits = !self.out.unwritten().is_empty();
        let (listens, ends) = (self.takes(), self.ending.is_some());
        self.pace.observe(listens, output_waits, ends);
    }

    /// Tells whether there is room for more from this client.
    fn takes(&self) -> bool {
        self.ending.is_none()
            && self.appending.is_none()
            && self.control.is_none()
            && self.pending.len() < MAX_PENDING_BATCHES
            && self.pending_messages < MAX_PENDING_MESSAGES
            && self.out.has_room()
    }

    /// Tells whether the connection is to end and all that was taken is dealt with.
    fn is_done(&self) -> bool {
        let answered = self.out.unwritten().is_empty() || matches!(self.ending, Some(End::Closed));
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
            ..
        } = self;
        let writes = !out.unwritten().is_empty();
        tokio::select! {
            result = read(reader, input), if reads => Event::Read(result),
            result = writer.write(out.unwritten()), if writes => Event::Wrote(result),
            Some(result) = maybe(appending.as_mut()) => Event::Appended(result),
            Some(result) = maybe(pending.front_mut().map(|p| &mut p.commit)) => Event::Committed(result),
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
            Event::Wrote(Ok(count)) => {
                self.out.wrote(count);
                self.pace.took();
            }
            Event::Read(Err(error)) | Event::Wrote(Err(error)) => return Err(End::Io(error)),
            Event::Appended(pending) => {
                self.appending = None;
                let pending = pending.map_err(End::Log)?;
                self.appended_to = pending.commit.seqs().end;
                if !pending.packet_ids.is_empty() || !pending.retained.is_empty() {
                    self.pending_messages += pending.packet_ids.len();
                    self.pending.push_back(pending);
                }
            }
            Event::Committed(seqs) => {
                let seqs = seqs.map_err(End::Log)?;
                if let Some(pending) = self.pending.pop_front() {
                    self.acknowledge(pending, &seqs);
                }
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
            ack_before_commit: front.ack_before_commit,
        };
        let Taken {
            batch,
            packet_ids,
            retained,
            received,
            acknowledged,
            control,
            violation,
        } = intake::take(&mut self.input, &terms, &mut self.out);
        front.metrics.received(received);
        if !acknowledged.is_empty() {
            self.shares.acknowledge(&acknowledged);
            self.source.acknowledge(&acknowledged);
        }
        self.control = control;
        self.ending = violation.map(End::Violation);
        if !batch.is_empty() {
            let (log, since) = (front.log.clone(), Instant::now());
            self.appending = Some(Box::pin(async move {
                Ok(Pending {
                    commit: log.append(batch).await?,
                    packet_ids,
                    retained,
                    since,
                })
            }));
        }
    }

    /// Answers a batch that is durable.
    fn acknowledge(&mut self, pending: Pending, seqs: &Range<u64>) {
        let metrics = &self.front.metrics;
        for packet_id in &pending.packet_ids {
            publish::encode_ack(self.out.answers(), *packet_id);
        }
        self.pending_messages -= pending.packet_ids.len();
        metrics.acknowledged.inc_by(pending.packet_ids.len() as u64);
        metrics
            .commit_seconds
            .observe(pending.since.elapsed().as_secs_f64());
        retain(&self.front, pending.retained, seqs.start);
    }

    async fn handle(&mut self, control: Control) -> Result<(), End> {
        match control {
            Control::Subscribe(packet_id, requests) => self.subscribe(packet_id, requests).await,
            Control::Unsubscribe(packet_id, filters) => self.unsubscribe(packet_id, &filters).await,
            Control::Disconnect => {
                self.ending = Some(End::Disconnect);
                Ok(())
            }
        }
        .map_err(End::Log)
    }

    /// Leaves everything in order: session, retained messages, will, claim, and the socket.
    pub(super) async fn finish(mut self, reason: &End, will: Option<Will>, claim: Claim) {
        let front = &self.front;
        self.report(reason);
        drop(self.shares);
        if let Source::Persistent(delivery) = self.source {
            delivery.end();
        }
        let left = async {
            while let Some(pending) = self.pending.pop_front() {
                if !pending.retained.is_empty()
                    && let Ok(seqs) = pending.commit.await
                {
                    retain(front, pending.retained, seqs.start);
                }
            }
            if let Some(will) = will.filter(|_| !matches!(reason, End::Disconnect | End::Stopped)) {
                publish_will(front, &self.client_id, will).await;
            }
        };
        if timeout(FAREWELL, left).await.is_err() {
            tracing::debug!("the connection ended before all was left in order");
        }
        drop(claim);
        if matches!(reason, End::Stopped | End::Violation(_)) {
            part(&mut self.reader, &mut self.writer, &[]).await;
        }
    }

    fn report(&self, reason: &End) {
        let metrics = &self.front.metrics;
        let client_id = &*self.client_id;
        let rejected = match reason {
            End::Disconnect | End::Closed | End::Io(_) | End::Stopped | End::Log(_) => None,
            End::Violation(violation) => Some(Reason::from(*violation)),
            End::KeepAlive => Some(Reason::KeepAlive),
            End::Stalled => Some(Reason::Stalled),
            End::TakenOver => Some(Reason::TakenOver),
        };
        let reason = ErrorChain(reason);
        tracing::debug!(client_id, %reason, "connection ended");
        if let Some(rejected) = rejected {
            metrics.rejected(rejected);
            if let Some(suppressed) = self.front.warning.permit() {
                tracing::warn!(client_id, %reason, suppressed, "a connection was closed");
            }
        }
    }
}

/// Waits for what may be absent, as a branch of `select!` that is then skipped.
async fn maybe<F: Future + Unpin>(future: Option<F>) -> Option<F::Output> {
    match future {
        Some(future) => Some(future.await),
        None => None,
    }
}

/// Keeps retained messages of a batch that is durable from `first` on.
fn retain(front: &Front, messages: Vec<(u64, Retained)>, first: u64) {
    for (place, message) in messages {
        front.retained.set(Retained {
            seq: first + place,
            ..message
        });
    }
}

async fn publish_will(front: &Front, client_id: &str, will: Will) {
    let mut batch = RecordBatch::new();
    let received_us = front.clock.now().as_micros();
    let head = RecordHead {
        // The record says how it is delivered, and delivery knows 0 and 1.
        qos: will.qos.min(1),
        retain: will.retain,
        received_us,
        topic: &will.topic,
        client_id,
        properties: &[],
    };
    let appended = match batch.push(&head, &will.payload) {
        Ok(()) => front.log.append(batch).await,
        Err(error) => Err(error),
    };
    let committed = match appended {
        Ok(commit) => commit.await,
        Err(error) => Err(error),
    };
    match committed {
        Ok(seqs) if will.retain => front.retained.set(Retained {
            topic: will.topic.into(),
            payload: will.payload,
            qos: will.qos.min(1),
            properties: Bytes::new(),
            received_us,
            seq: seqs.start,
        }),
        Ok(_) => {}
        Err(error) => tracing::warn!(error = %ErrorChain(&error), "a will was not published"),
    }
}
