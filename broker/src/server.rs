//! Starts the broker: the log, the front, the live copy, and what watches them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ingest_log::{Log, LogCondition, LogError, RealDisk};
use service::{
    BindError, BoxError, CancellationToken, ComponentHealth, Context, Stage, Throttle, bind_tcp,
};
use tokio::net::{TcpListener, TcpStream};

use crate::connection::{self, Front};
use crate::fanout::{self, Fanout, RelayError, Timing};
use crate::metrics::{self, Metrics, Reason};
use crate::retained::RetainedStore;
use crate::share::Groups;
use crate::share::hold::{self, Hold};
use crate::takeover::Claims;
use crate::{Config, session};

/// A running broker.
#[derive(Debug, Clone)]
pub struct Handle {
    /// The log: what is appended here is delivered like any published message.
    pub log: Log,
    /// Where MQTT clients connect.
    pub mqtt_addr: SocketAddr,
}

/// Why the broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("MQTT has no listener")]
    Bind(#[from] BindError),
    /// The listener does not tell its address.
    #[error("the listener's address cannot be read")]
    Address(#[source] io::Error),
    /// The log cannot be opened.
    #[error("the ingest log cannot be opened")]
    Log(#[from] LogError),
    /// The embedded router does not start.
    #[error("the live copy cannot be started")]
    Live(#[source] BoxError),
}

impl From<RelayError> for Error {
    fn from(error: RelayError) -> Self {
        Self::Live(error.into())
    }
}

/// How often the log's condition is looked at.
const WATCH: Duration = Duration::from_millis(250);
/// Pause after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the listener, opens the log and starts all tasks.
///
/// The log is closed in [`Stage::Serve`], after everything that reads it was drained.
///
/// # Errors
/// When the address is taken, the log cannot be opened, or the embedded router does not start.
pub async fn start(config: Config, context: &Context) -> Result<Handle, Error> {
    let listener = bind_tcp("MQTT", config.mqtt_listen).await?;
    let mqtt_addr = listener.local_addr().map_err(Error::Address)?;
    let log_config = config.log_config();
    let opened = tokio::task::spawn_blocking(|| Log::open(Arc::new(RealDisk), log_config)).await;
    let (log, report) = opened.map_err(|error| Error::Address(error.into()))??;
    let metrics = Metrics::register(&context.metrics, &log);
    let fanout = Fanout::new(
        config.mqtt_live_queue.as_usize(),
        metrics.fanout_dropped.clone(),
        metrics.live_subscriptions.clone(),
    );
    fanout::start(&fanout, &log, Timing::default(), context)?;
    let sessions = i64::try_from(session::count(&log)).unwrap_or(i64::MAX);
    metrics.sessions.set(sessions);
    let hold = Hold::new(&config.hold_for);
    let groups = Groups::open(&log, report.next, &hold, metrics.shares.clone());
    // No client is accepted yet: nothing is acknowledged that a held group would miss.
    log.cursors().sync().await?;
    metrics::watch_groups(&context.metrics, &groups);
    let (watched, kept) = (groups.clone(), log.clone());
    context.tasks.spawn(Stage::Serve, "share-hold", |stop| {
        hold::watch(watched, kept, stop)
    });
    let front = Arc::new(Front {
        clock: Arc::clone(&context.clock),
        retained: RetainedStore::new(
            config.mqtt_retained_size.as_usize(),
            metrics.retained.clone(),
        ),
        fanout,
        claims: Claims::default(),
        groups,
        intake: context.tasks.token(Stage::Intake),
        recovered: report.next,
        started_us: context.clock.now().as_micros(),
        assigned_ids: AtomicU64::new(0),
        warning: Throttle::new(Duration::from_secs(10)),
        max_packet_bytes: config.mqtt_max_packet_size.as_usize(),
        max_sessions: i64::try_from(config.mqtt_max_sessions).unwrap_or(i64::MAX),
        window: config.mqtt_window,
        connect_timeout: config.mqtt_connect_timeout.0,
        stall_timeout: config.mqtt_stall_timeout.0,
        ack_before_commit: config.ack_before_commit,
        metrics,
        log: log.clone(),
    });
    if config.ack_before_commit {
        tracing::error!(
            "PUBACK leaves before the log's write: this is a test, messages can be lost"
        );
    }
    let health = context.health.component("ingest_log");
    health.ready();
    let watched = log.clone();
    context.tasks.spawn(Stage::Serve, "ingest-log", |stop| {
        watch(watched, health, stop)
    });
    let (limit, tasks) = (config.mqtt_max_connections, context.tasks.clone());
    context
        .tasks
        .spawn(Stage::Intake, "mqtt-listener", move |stop| async move {
            let spawn = |connection| tasks.spawn_child(Stage::Intake, connection);
            accept(front, listener, limit, spawn, stop).await;
            Ok(())
        });
    tracing::info!(%mqtt_addr, sessions, next = report.next, "the MQTT front listens");
    Ok(Handle { log, mqtt_addr })
}

async fn accept<F>(
    front: Arc<Front>,
    listener: TcpListener,
    limit: usize,
    spawn: F,
    stop: CancellationToken,
) where
    F: Fn(futures_util::future::BoxFuture<'static, ()>),
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let open = usize::try_from(front.metrics.connections.get()).unwrap_or_default();
                if open >= limit {
                    front.metrics.rejected(Reason::ConnectionLimit);
                    if let Some(suppressed) = front.warning.permit() {
                        tracing::warn!(%peer, limit, suppressed, "too many connections");
                    }
                    continue;
                }
                front.metrics.connections.inc();
                spawn(Box::pin(serve(Arc::clone(&front), stream, peer)));
            }
            Err(error) => {
                if let Some(suppressed) = front.warning.permit() {
                    tracing::warn!(%error, suppressed, "a connection was not accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(front: Arc<Front>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "nodelay was refused");
    }
    let (reader, writer) = stream.into_split();
    connection::serve(Arc::clone(&front), reader, writer).await;
    front.metrics.connections.dec();
}

/// Reports the log's condition; fails when the log did; closes it at the end.
async fn watch(log: Log, health: ComponentHealth, stop: CancellationToken) -> Result<(), BoxError> {
    let mut pace = tokio::time::interval(WATCH);
    let mut reported = LogCondition::Ok;
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                log.close().await?;
                return Ok(());
            }
            _ = pace.tick() => {}
        }
        let condition = log.status().condition;
        if condition == reported {
            continue;
        }
        match &condition {
            LogCondition::Ok => {
                tracing::info!("the log takes records again");
                health.ready();
            }
            LogCondition::Full(reason) => {
                tracing::error!(%reason, "the log is full; clients are not read until there is room");
                health.not_ready(format!("the log is full: {reason}"));
            }
            LogCondition::Failed(reason) => {
                health.not_ready(format!("the log failed: {reason}"));
                return Err(LogError::Failed {
                    reason: Arc::clone(reason),
                }
                .into());
            }
            LogCondition::Closed => health.not_ready("the log is closed"),
        }
        reported = condition;
    }
}
