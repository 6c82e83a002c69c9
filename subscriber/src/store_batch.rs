//! Stores one batch, whatever it takes: again while the store is unavailable, item by item when the
//! store refuses one, and never silently less than all of it.

use std::sync::Arc;
use std::time::Duration;

use formats::{Decoded, Message};
use model::reject::Defect;
use model::{Record, Reject, RejectReason};
use mqtt_client::Backoff;
use service::{BoxError, CancellationToken, ErrorChain, Throttle};
use store::{Appended, Batch, ErrorKind, SourceCursor, StoreError, Writer};
use tokio::time::Instant;

use crate::members::Member;
use crate::metrics::Metrics;

/// One warning per this long while the store is unavailable.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// A store that has not answered for this long is called away, though it may still answer.
const SLOW: Duration = Duration::from_secs(5);

/// Time a call may still take once the process is to stop.
const LAST_CALL: Duration = Duration::from_secs(5);

/// The counting law was broken by the store: some of a batch is neither stored nor known nor rejected.
#[derive(Debug, thiserror::Error)]
#[error(
    "the store accounts for {accounted} of {sent} items, so some may be lost; nothing of the batch was \
     confirmed"
)]
pub(crate) struct Unaccounted {
    accounted: u64,
    sent: u64,
}

/// Why a batch was not stored.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The store stayed unavailable until the stop; the source still has it all.
    Stopped,
    /// Going on would lose or damage data.
    Broken(BoxError),
}

/// Stores batches.
pub(crate) struct BatchWriter {
    store: Arc<dyn Writer>,
    stop: CancellationToken,
    health: Member,
    metrics: Metrics,
    warning: Throttle,
}

impl BatchWriter {
    pub(crate) fn new(
        store: Arc<dyn Writer>,
        stop: CancellationToken,
        health: Member,
        metrics: Metrics,
    ) -> Self {
        Self {
            store,
            stop,
            health,
            metrics,
            warning: Throttle::new(WARNING_INTERVAL),
        }
    }

    /// Stores `decoded`, which came from `messages`; those are decoded again when a batch is to be sent again.
    pub(crate) async fn store(
        &self,
        decoded: Decoded,
        messages: &[Message<'_>],
        cursor: Option<SourceCursor>,
    ) -> Result<Appended, Failed> {
        match self.append(decoded, messages, cursor.clone()).await {
            Ok(appended) => Ok(appended),
            Err(Refused::Invalid(_)) => {
                let appended = self.store_apart(messages).await?;
                // All of it is stored; what is left is the place, which depends on all of it.
                let done = self.append(Decoded::default(), &[], cursor).await;
                done.map_err(Refused::into_failed)?;
                Ok(appended)
            }
            Err(refused) => Err(refused.into_failed()),
        }
    }

    /// Halves the messages until those the store refuses stand alone.
    async fn store_apart(&self, messages: &[Message<'_>]) -> Result<Appended, Failed> {
        let mut appended = Appended::default();
        let mut parts = vec![messages];
        while let Some(part) = parts.pop() {
            match self.append(decode(part), part, None).await {
                Ok(more) => add(&mut appended, more),
                Err(Refused::Invalid(error)) => match part {
                    [] => return Err(Refused::Invalid(error).into_failed()),
                    [message] => add(&mut appended, self.store_items(*message).await?),
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        // The first half is stored first.
                        parts.extend([second, first]);
                    }
                },
                Err(refused) => return Err(refused.into_failed()),
            }
        }
        Ok(appended)
    }

    /// Stores the items of one message one by one; those refused become dead letters with the message's bytes.
    async fn store_items(&self, message: Message<'_>) -> Result<Appended, Failed> {
        let decoded = decode(&[message]);
        let mut appended = Appended::default();
        for (record, item) in decoded.records.into_iter().zip(0..) {
            let again = record.clone();
            let one = || one_record(again.clone());
            let outcome = self.append_with(one_record(record), &one, None).await;
            let more = match outcome {
                Err(Refused::Invalid(error)) => {
                    let reject = refused_item(message, item, &error);
                    self.metrics.reject(reject.defect.reason);
                    self.store_letter(reject).await?
                }
                outcome => outcome.map_err(Refused::into_failed)?,
            };
            add(&mut appended, more);
        }
        for reject in decoded.rejects {
            add(&mut appended, self.store_letter(reject).await?);
        }
        Ok(appended)
    }

    async fn store_letter(&self, reject: Reject) -> Result<Appended, Failed> {
        let again = reject.clone();
        let one = move || one_reject(again.clone());
        self.append_with(one_reject(reject), &one, None)
            .await
            .map_err(Refused::into_failed)
    }

    async fn append(
        &self,
        decoded: Decoded,
        messages: &[Message<'_>],
        cursor: Option<SourceCursor>,
    ) -> Result<Appended, Refused> {
        self.append_with(decoded, &|| decode(messages), cursor)
            .await
    }

    /// Sends a batch until the store answers for good.
    async fn append_with(
        &self,
        mut decoded: Decoded,
        again: &(dyn Fn() -> Decoded + Sync),
        cursor: Option<SourceCursor>,
    ) -> Result<Appended, Refused> {
        let mut backoff = Backoff::default();
        loop {
            let sent = (decoded.records.len() + decoded.rejects.len()) as u64;
            let batch = Batch {
                records: decoded.records,
                rejects: decoded.rejects,
                cursor: cursor.clone(),
            };
            let Some(answer) = self.answer(self.store.append(batch)).await else {
                return Err(Refused::Stopped);
            };
            let error = match answer {
                Ok(appended) => {
                    if backoff.failures() > 0 {
                        tracing::info!(failures = backoff.failures(), "the store is back");
                    }
                    self.health.ready();
                    let accounted = appended.stored + appended.duplicate + appended.rejected;
                    if accounted != sent {
                        return Err(Refused::Broken(Box::new(Unaccounted { accounted, sent })));
                    }
                    return Ok(appended);
                }
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::Unavailable | ErrorKind::Conflict => {}
                ErrorKind::Invalid => return Err(Refused::Invalid(error)),
                ErrorKind::Data | ErrorKind::Internal => {
                    return Err(Refused::Broken(Box::new(error)));
                }
            }
            self.metrics.store_retries.inc();
            self.away(&ErrorChain(&error).to_string());
            if self.stop.is_cancelled() {
                return Err(Refused::Stopped);
            }
            // The stop ends the pause, and one more try is made after it.
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
            decoded = again();
        }
    }

    /// Waits for the store's answer, and says so when that takes long; `None` when the process is to stop
    /// and no answer came. A stopped server keeps its connections open and says nothing.
    async fn answer<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let began = Instant::now();
        let last_call = async {
            self.stop.cancelled().await;
            tokio::time::sleep(LAST_CALL).await;
        };
        tokio::pin!(call, last_call);
        loop {
            tokio::select! {
                answer = &mut call => return Some(answer),
                () = &mut last_call => return None,
                () = tokio::time::sleep(SLOW) => {
                    self.away(&format!("no answer for {} s", began.elapsed().as_secs()));
                }
            }
        }
    }

    fn away(&self, error: &str) {
        self.health.not_ready(error);
        if let Some(suppressed) = self.warning.permit() {
            tracing::warn!(
                error,
                suppressed,
                "the store is unavailable; nothing of the batch is acknowledged until it is stored"
            );
        }
    }
}

enum Refused {
    Invalid(StoreError),
    Stopped,
    Broken(BoxError),
}

impl Refused {
    /// For where nothing smaller can be tried.
    fn into_failed(self) -> Failed {
        match self {
            Self::Invalid(error) => Failed::Broken(Box::new(error)),
            Self::Stopped => Failed::Stopped,
            Self::Broken(error) => Failed::Broken(error),
        }
    }
}

fn decode(messages: &[Message<'_>]) -> Decoded {
    let mut decoded = Decoded::default();
    for message in messages {
        formats::decode(*message, &mut decoded);
    }
    decoded
}

fn one_record(record: Record) -> Decoded {
    Decoded {
        records: vec![record],
        rejects: Vec::new(),
    }
}

fn one_reject(reject: Reject) -> Decoded {
    Decoded {
        records: Vec::new(),
        rejects: vec![reject],
    }
}

fn refused_item(message: Message<'_>, item: u32, error: &StoreError) -> Reject {
    let detail = format!("valid, and yet the store refuses it: {}", ErrorChain(error));
    Reject {
        defect: Defect::new(RejectReason::InvalidField, detail),
        topic: message.topic.into(),
        payload: message.payload.into(),
        received_time: message.received_time,
        item,
        log_seq: message.log_seq,
    }
}

fn add(sum: &mut Appended, more: Appended) {
    sum.stored += more.stored;
    sum.duplicate += more.duplicate;
    sum.rejected += more.rejected;
}
