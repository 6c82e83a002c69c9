//! One life of the broker: everything of it but sockets, threads and the live copy, over a simulated disk.
//!
//! Connections, session state, groups, expiry and the log are the real ones. Commits and the keeper's work happen when
//! the simulation says so.
#![cfg_attr(
    not(test),
    expect(dead_code, reason = "the fuzz target needs a part of it only")
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ingest_log::sim::{Random, SimDisk};
use ingest_log::{Log, LogCondition, LogConfig, RecordBatch, Steps};
use service::{CancellationToken, Clock, Common, Context};
use session_state::Store;
use tokio::io::DuplexStream;

use super::executor::Executor;
use crate::access::{self, Access};
use crate::connection::{Front, serve};
use crate::fanout::Fanout;
use crate::listen::Peer;
use crate::metrics::Metrics;
use crate::retained::Retained;
use crate::server::{self, Parts};
use crate::share::Groups;
use crate::share::hold::Hold;
use crate::{Config, Settings, expiry, session, wills};

/// Small, so that segments end and are deleted all the time.
const SEGMENT_BYTES: u64 = 4 << 10;

/// Turns of a tenth of a second in which connections end when the broker stops.
const STOP_TURNS: usize = 200;

pub(super) struct Node {
    front: Arc<Front>,
    log: Steps,
    journal: Steps,
    tasks: Executor,
    /// Ends what keeps the session state.
    drain: CancellationToken,
}

/// What may be due besides commits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    Log,
    Journal,
}

fn config(dir: &str, held: bool) -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        max_pending_bytes: 64 << 10,
        held,
        ..LogConfig::new(dir)
    }
}

fn text(error: impl std::error::Error + 'static) -> String {
    service::ErrorChain(&error).to_string()
}

impl Node {
    /// Starts the broker on what the disk holds.
    pub(super) fn open(
        disk: &SimDisk,
        clock: &Arc<dyn Clock>,
        settings: &Settings,
    ) -> Result<Self, String> {
        let open =
            |dir, held| Log::open_stepped(Arc::new(disk.clone()), config(dir, held)).map_err(text);
        let (log, mut log_steps, report) = open("log", true)?;
        let (journal, journal_steps, _) = open("state", false)?;
        let state = Store::open(journal, log.clone(), |record| {
            Retained::of_record(record).to_value()
        });
        let state = state.map_err(text)?;
        let config = Config::resolve(settings, &Common::new("simulated"));
        let config = config.map_err(|problems| format!("{problems:?}"))?;
        let context = Context::new(Arc::clone(clock));
        let metrics = Metrics::register(&context.metrics, &log);
        let fanout = Fanout::new(
            1 << 20,
            metrics.fanout_dropped.clone(),
            metrics.live_subscriptions.clone(),
        );
        let sessions = i64::try_from(session::count(&log)).unwrap_or(i64::MAX);
        metrics.sessions.set(sessions);
        let groups = Groups::open(
            &log,
            &state,
            report.next,
            &Hold::default(),
            metrics.shares.clone(),
        );
        log_steps.keep();
        if let LogCondition::Failed(reason) = log.status().condition {
            return Err(reason.to_string());
        }
        let access = Access::open(access::Options {
            passwords: None,
            acl: None,
            certificate_users: false,
            anonymous: true,
            topics: config.limits.topics(),
            patience: config.mqtt_connect_timeout.0,
        });
        let parts = Parts {
            log,
            recovered: report.next,
            state,
            fanout,
            groups,
            access: access.map_err(text)?,
            metrics,
            clock: Arc::clone(clock),
            intake: CancellationToken::new(),
        };
        let front = Arc::new(server::front(&config, parts));
        server::take_up(&front);
        let mut node = Self {
            front,
            log: log_steps,
            journal: journal_steps,
            tasks: Executor::default(),
            drain: CancellationToken::new(),
        };
        node.spawn_tasks();
        Ok(node)
    }

    fn spawn_tasks(&mut self) {
        let (front, drain) = (&self.front, self.drain.clone());
        let kept = server::keep_state(front.state.clone(), drain);
        let expires = expiry::run(Arc::clone(front), front.intake.clone());
        let wills = wills::run(Arc::clone(front), front.intake.clone());
        self.tasks
            .spawn(async { kept.await.map_err(|e| e.to_string()) });
        self.tasks
            .spawn(async { expires.await.map_err(|e| e.to_string()) });
        self.tasks
            .spawn(async { wills.await.map_err(|e| e.to_string()) });
    }

    /// Accepts a connection; returns the client's end, which takes up to `bytes` each way.
    pub(super) fn accept(&mut self, bytes: usize) -> DuplexStream {
        let (near, far) = tokio::io::duplex(bytes);
        let (reader, writer) = tokio::io::split(near);
        let front = Arc::clone(&self.front);
        let peer = Peer {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            certificate: None,
        };
        self.tasks.spawn(async move {
            serve(front, peer, reader, writer).await;
            Ok(())
        });
        far
    }

    pub(super) fn run(&mut self, random: &mut Random) -> Result<(), String> {
        self.tasks.run(random)
    }

    pub(super) fn commit(&mut self, which: Which) {
        match which {
            Which::Log => self.log.commit(),
            Which::Journal => self.journal.commit(),
        };
    }

    pub(super) fn keep(&mut self, which: Which) {
        match which {
            Which::Log => self.log.keep(),
            Which::Journal => self.journal.keep(),
        }
    }

    /// Tells why the process would end now: the real one's tasks fail when a log has.
    pub(super) fn failure(&self) -> Option<String> {
        for log in [&self.front.log, self.front.state.journal()] {
            if let LogCondition::Failed(reason) = log.status().condition {
                return Some(reason.to_string());
            }
        }
        self.tasks.failure().map(str::to_owned)
    }

    /// Returns the end of the log, for the trace.
    pub(super) fn end(&self) -> (u64, u64) {
        let journal = self.front.state.journal();
        (self.front.log.next_durable(), journal.next_durable())
    }

    /// Stops as on SIGTERM: intake first, then what keeps the state, then the log. It may come to nothing, on a disk
    /// that fails.
    pub(super) async fn stop(mut self, random: &mut Random) -> Result<(), String> {
        self.front.intake.cancel();
        // All but the one that keeps the state end; who reads nothing is waited for until it counts as stalled.
        for _ in 0..STOP_TURNS {
            self.turn(random).await?;
            if self.tasks.len() <= 1 {
                break;
            }
        }
        self.drain.cancel();
        for _ in 0..10 {
            self.turn(random).await?;
        }
        self.journal.finish();
        self.tasks.run(random)?;
        let log = self.front.log.clone();
        let mut closing = Executor::default();
        closing.spawn(async move { log.close().await.map_err(text) });
        closing.run(random)?;
        self.log.finish();
        closing.run(random)?;
        if self.tasks.failure().is_none() && self.tasks.len() > 0 {
            let left = self.tasks.len();
            return Err(format!("the broker does not stop: {left} tasks are left"));
        }
        Ok(())
    }

    /// Tells whether the session of a client holds the log.
    pub(super) fn pins(&self, client_id: &str) -> bool {
        let cursor = self
            .front
            .log
            .cursors()
            .get(&format!("session/{client_id}"));
        cursor.is_some_and(|cursor| cursor.pins)
    }

    /// Appends records behind the broker's back, and lets them be durable.
    pub(super) fn append(&mut self, batch: RecordBatch, random: &mut Random) -> Result<(), String> {
        let log = self.front.log.clone();
        let mut appending = Executor::default();
        appending.spawn(async move {
            let commit = log.append(batch).await.map_err(text)?;
            commit.await.map(|_| ()).map_err(text)
        });
        while appending.len() > 0 {
            appending.run(random)?;
            self.commit(Which::Log);
        }
        appending
            .failure()
            .map_or(Ok(()), |why| Err(why.to_owned()))
    }

    /// Returns how many tasks there are: one for each connection, and the broker's own.
    pub(super) fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Returns how many bytes the log took.
    pub(super) fn log_bytes(&self) -> u64 {
        self.front.log.status().bytes
    }

    /// Lets all that waits for the disk happen, and a tenth of a second pass.
    pub(super) async fn turn(&mut self, random: &mut Random) -> Result<(), String> {
        self.tasks.run(random)?;
        for which in [Which::Log, Which::Journal] {
            self.commit(which);
            self.keep(which);
        }
        tokio::time::advance(std::time::Duration::from_millis(100)).await;
        self.tasks.run(random)
    }
}
