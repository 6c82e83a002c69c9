//! Runs the connections: some threads, each with its own runtime and its share of the connections.
//!
//! A connection stays on its thread, so nothing on the way of a message is locked. The caller's runtime
//! only shows the progress and listens for the stop.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use service::{Clock, Context};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::ledger::{Ledger, LedgerBuffer};
use crate::progress::Progress;
use crate::sender::{Local, Outcome, SendOptions, Sender, Surroundings};
use crate::source::Source;
use crate::stats::{Latencies, Totals};

/// The ledger is written at least this often.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// Progress is shown this often.
const SHOW_EVERY: Duration = Duration::from_millis(100);

/// What to run.
pub(crate) struct Job {
    pub(crate) options: SendOptions,
    /// One per connection.
    pub(crate) sources: Vec<Source>,
    pub(crate) threads: usize,
    pub(crate) ledger: Option<Arc<Ledger>>,
    /// How long a stop waits for outstanding acknowledgements.
    pub(crate) stop_patience: Duration,
    /// Messages to come, where that is known.
    pub(crate) expected: Option<u64>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) totals: Arc<Totals>,
    pub(crate) latencies: Latencies,
    pub(crate) unacked: u64,
    /// Connections that gave up before their source was empty.
    pub(crate) incomplete: u64,
    pub(crate) elapsed: Duration,
}

/// Sends everything, until it is acknowledged, given up, or the process is told to stop.
pub(crate) async fn run(job: Job, context: &Context) -> io::Result<Report> {
    let started = Instant::now();
    let totals = Arc::new(Totals::default());
    let (stop, abandon) = (CancellationToken::new(), CancellationToken::new());
    let options = Arc::new(job.options);
    let connections = job.sources.len() as u64;
    let threads = job.threads.clamp(1, job.sources.len().max(1));
    let mut shares: Vec<Vec<(u64, Source)>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, source) in job.sources.into_iter().enumerate() {
        shares[index % threads].push((index as u64, source));
    }
    let mut results = JoinSet::new();
    for (number, share) in shares.into_iter().enumerate() {
        let thread = Thread {
            options: Arc::clone(&options),
            totals: Arc::clone(&totals),
            ledger: job.ledger.clone(),
            clock: Arc::clone(&context.clock),
            stop: stop.clone(),
            abandon: abandon.clone(),
        };
        let (sender, receiver) = oneshot::channel();
        thread::Builder::new()
            .name(format!("sender-{number}"))
            .spawn(move || {
                if sender.send(thread.run(share)).is_err() {
                    tracing::debug!("nobody waits for the sender any more");
                }
            })?;
        results.spawn(receiver);
    }

    let mut progress = Progress::new(job.expected, options.acknowledged, connections);
    let mut report = Report {
        totals,
        latencies: Latencies::new(),
        unacked: 0,
        incomplete: 0,
        elapsed: Duration::ZERO,
    };
    let mut ticks = interval(SHOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let patience_over = async {
        stop.cancelled().await;
        sleep(job.stop_patience).await;
    };
    tokio::pin!(patience_over);
    loop {
        tokio::select! {
            result = results.join_next() => match result {
                Some(Ok(Ok(result))) => report.add(&result?),
                Some(_) => return Err(io::Error::other("a sender thread ended early")),
                None => break,
            },
            _ = ticks.tick() => progress.show(&report.totals, started.elapsed()),
            () = context.tasks.stopped(), if !stop.is_cancelled() => {
                progress.say("stopping: waiting for outstanding acknowledgements");
                stop.cancel();
            }
            () = &mut patience_over, if !abandon.is_cancelled() => abandon.cancel(),
        }
    }
    progress.finish(&report.totals, started.elapsed());
    report.elapsed = started.elapsed();
    Ok(report)
}

impl Report {
    fn add(&mut self, thread: &ThreadResult) {
        self.latencies.add(&thread.latencies);
        for outcome in &thread.outcomes {
            self.unacked += outcome.unacked;
            self.incomplete += u64::from(!outcome.complete);
        }
    }

    /// Tells whether everything that was to be sent was sent and acknowledged.
    pub(crate) fn succeeded(&self) -> bool {
        self.unacked == 0 && self.incomplete == 0
    }

    pub(crate) fn published(&self) -> u64 {
        self.totals.published.load(Ordering::Relaxed)
    }
}

/// What one thread needs.
struct Thread {
    options: Arc<SendOptions>,
    totals: Arc<Totals>,
    ledger: Option<Arc<Ledger>>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    abandon: CancellationToken,
}

struct ThreadResult {
    latencies: Latencies,
    outcomes: Vec<Outcome>,
}

impl Thread {
    fn run(self, share: Vec<(u64, Source)>) -> io::Result<ThreadResult> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let local = Rc::new(RefCell::new(Local {
            latencies: Latencies::new(),
            ledger: LedgerBuffer::new(self.ledger),
        }));
        let around = Surroundings {
            options: self.options,
            totals: self.totals,
            local: Rc::clone(&local),
            clock: self.clock,
            stop: self.stop,
            abandon: self.abandon,
        };
        let outcomes = LocalSet::new().block_on(&runtime, async move {
            let mut senders = JoinSet::new();
            for (index, source) in share {
                senders.spawn_local(Sender::new(around.clone(), index, source).run());
            }
            let mut outcomes = Vec::new();
            let mut flushes = interval(FLUSH_EVERY);
            loop {
                tokio::select! {
                    ended = senders.join_next() => match ended {
                        Some(ended) => outcomes.push(ended.unwrap_or_default()),
                        None => break,
                    },
                    _ = flushes.tick() => around.local.borrow_mut().ledger.flush(),
                }
            }
            outcomes
        });
        local.borrow_mut().ledger.flush();
        let latencies = Rc::into_inner(local).map(|local| local.into_inner().latencies);
        let latencies = latencies.unwrap_or_else(Latencies::new);
        Ok(ThreadResult {
            latencies,
            outcomes,
        })
    }
}
