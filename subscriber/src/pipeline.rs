//! The pipeline: decode a batch while the one before is being written.
//!
//! A message that comes alone is stored at once. Of many a batch goes out at most once in the configured time,
//! and the next one gathers meanwhile: what makes batches large is how much comes, not how long anything waits.
//!
//! Bound: one batch being written and one being gathered, each within the configured number and bytes
//! (one piece beyond, at most). At the bound the source is not asked, so it holds the rest.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use formats::{Decoded, Message};
use model::{Position, Record, UtcMicros};
use service::{BoxError, CancellationToken, Clock};
use store::SourceCursor;
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::Config;
use crate::counters::Counters;
use crate::metrics::Metrics;
use crate::source::{Piece, Source};
use crate::store_batch::{BatchWriter, Failed};

/// Positions of a stored batch, for who watches live.
pub(crate) type LiveSender = broadcast::Sender<Arc<Vec<Position>>>;

/// What all pipelines of a subscriber share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) counters: Counters,
    pub(crate) metrics: Metrics,
    pub(crate) live: LiveSender,
    pub(crate) clock: Arc<dyn Clock>,
    /// Confirms before it stores, which loses messages: the negative control of the kill tests.
    pub(crate) confirm_first: bool,
}

/// A batch being gathered, and the messages it came from.
struct Draft<P> {
    pieces: Vec<P>,
    decoded: Decoded,
    /// Items in it, valid or not.
    items: u64,
    bytes: usize,
    /// When the broker took its oldest message.
    oldest: Option<UtcMicros>,
}

impl<P: Piece> Draft<P> {
    fn new() -> Self {
        Self {
            pieces: Vec::new(),
            decoded: Decoded::default(),
            items: 0,
            bytes: 0,
            oldest: None,
        }
    }

    fn add(&mut self, piece: P, shared: &Shared) {
        let (mut items, rejects_before) = (0, self.decoded.rejects.len());
        piece.each(&mut |message| {
            items += formats::decode(message, &mut self.decoded) as u64;
            let oldest = self.oldest.get_or_insert(message.received_time);
            *oldest = message.received_time.min(*oldest);
        });
        for reject in self.decoded.rejects.iter().skip(rejects_before) {
            shared.metrics.reject(reject.defect.reason);
        }
        shared.counters.receive(items);
        shared.metrics.receive(items);
        self.items += items;
        self.bytes += piece.bytes();
        self.pieces.push(piece);
    }

    fn is_full(&self, config: &Config) -> bool {
        self.items >= config.batch_records as u64 || self.bytes >= config.batch_bytes.as_usize()
    }
}

type Writing = Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>>;

/// Runs until the source has nothing left, or until going on would lose data.
pub(crate) async fn run<S: Source>(
    mut source: S,
    writer: Arc<BatchWriter>,
    shared: Shared,
) -> Result<(), BoxError> {
    let config = shared.config.clone();
    let mut draft = Draft::new();
    let mut writing: Option<Writing> = None;
    // When the next batch may go out before it is full.
    let mut due = Instant::now();
    let mut ended = false;
    loop {
        let is_due = ended || draft.is_full(&config) || due <= Instant::now();
        if writing.is_none() && is_due && !draft.pieces.is_empty() {
            let batch = std::mem::replace(&mut draft, Draft::new());
            due = Instant::now() + config.batch_age.as_duration();
            writing = Some(Box::pin(write(batch, Arc::clone(&writer), shared.clone())));
            continue;
        }
        if ended && writing.is_none() {
            return Ok(());
        }
        tokio::select! {
            biased;
            outcome = finished(&mut writing) => {
                writing = None;
                match outcome {
                    Ok(()) => {}
                    Err(Failed::Stopped) => {
                        tracing::warn!(
                            in_flight = shared.counters.snapshot().in_flight,
                            "stopped while the store is unavailable; the source keeps what is not stored"
                        );
                        return Ok(());
                    }
                    Err(Failed::Broken(error)) => return Err(error),
                }
            }
            piece = source.next(), if !ended && !draft.is_full(&config) => match piece? {
                Some(piece) => {
                    if shared.confirm_first {
                        piece.confirm();
                    }
                    draft.add(piece, &shared);
                    // Decoding is work; others on this thread get their turn.
                    tokio::task::yield_now().await;
                }
                None => ended = true,
            },
            () = tokio::time::sleep_until(due), if writing.is_none() && !draft.pieces.is_empty() => {}
        }
    }
}

async fn finished(writing: &mut Option<Writing>) -> Result<(), Failed> {
    match writing {
        Some(writing) => writing.await,
        None => pending().await,
    }
}

/// Stores a batch, then confirms it to its source, then shows it to who watches.
async fn write<P: Piece>(
    draft: Draft<P>,
    writer: Arc<BatchWriter>,
    shared: Shared,
) -> Result<(), Failed> {
    let began = Instant::now();
    let Draft {
        pieces,
        decoded,
        items,
        oldest,
        ..
    } = draft;
    // Taken before the store takes the records; only when somebody watches.
    let positions = (shared.live.receiver_count() > 0).then(|| live(&decoded.records));
    let cursor: Option<SourceCursor> = pieces.last().and_then(Piece::cursor);
    let appended = {
        let mut messages: Vec<Message<'_>> = Vec::new();
        for piece in &pieces {
            piece.each(&mut |message| messages.push(message));
        }
        writer.store(decoded, &messages, cursor).await?
    };
    shared.counters.settle(items, appended);
    shared.metrics.settle(items, appended);
    if let Some(last) = pieces.last() {
        last.confirm();
    }
    if let Some(positions) = positions.filter(|positions| !positions.is_empty()) {
        // Without a receiver there is nobody to miss it.
        drop(shared.live.send(Arc::new(positions)));
    }
    shared
        .metrics
        .batch_seconds
        .observe(began.elapsed().as_secs_f64());
    if let Some(oldest) = oldest {
        let lag_us = shared.clock.now().as_micros() - oldest.as_micros();
        let lag = std::time::Duration::from_micros(u64::try_from(lag_us).unwrap_or(0));
        shared.metrics.lag_seconds.observe(lag.as_secs_f64());
    }
    Ok(())
}

fn live(records: &[Record]) -> Vec<Position> {
    records
        .iter()
        .filter_map(Record::position)
        .cloned()
        .collect()
}

/// Runs `work` and, beside it, `each` every `interval`; and `each` a last time when the work is done.
pub(crate) async fn with_upkeep<F, E, Fut>(
    work: F,
    interval: std::time::Duration,
    each: E,
) -> Result<(), BoxError>
where
    F: Future<Output = Result<(), BoxError>>,
    E: Fn() -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    let done = CancellationToken::new();
    let worked = async {
        let outcome = work.await;
        done.cancel();
        outcome
    };
    let kept = async {
        while done
            .run_until_cancelled(tokio::time::sleep(interval))
            .await
            .is_some()
        {
            each().await?;
        }
        Ok(())
    };
    tokio::try_join!(worked, kept)?;
    each().await
}
