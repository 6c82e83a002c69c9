//! Starts the broker: the log, the front, the live copy, and what watches them.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ingest_log::{Log, LogError, OpenReport, RealDisk};
use service::{BindError, BoxError, CancellationToken, Clock, Context, Stage, Throttle};
use session_state::Store;

use crate::access::{self, Access, FileError};
use crate::condition;
use crate::connection::Front;
use crate::expiry::{self, Expiry};
use crate::fanout::{self, Fanout, RelayError, Timing};
use crate::listen::tls::{Tls, TlsError};
use crate::listen::{Listeners, reload};
use crate::metrics::{self, Metrics};
use crate::retained::{Retained, RetainedStore};
use crate::session::unfinished::Unfinished;
use crate::share::Groups;
use crate::share::hold::{self, Hold};
use crate::sys::{self, Sys};
use crate::takeover::Claims;
use crate::wills::{self, Wills};
use crate::{Config, session};

/// A running broker.
#[derive(Debug, Clone)]
pub struct Handle {
    /// The log: what is appended here is delivered like any published message.
    pub log: Log,
    /// Where MQTT clients connect over plain TCP.
    pub mqtt_addr: SocketAddr,
    /// Every listener's name and address.
    pub addresses: Vec<(&'static str, SocketAddr)>,
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
    /// The users or the rules cannot be read.
    #[error("who may connect cannot be read")]
    Access(#[from] FileError),
    /// TLS has no usable certificate.
    #[error("TLS cannot be served")]
    Tls(#[from] TlsError),
    /// What is remembered of clients cannot be taken up.
    #[error("the session state cannot be taken up")]
    State(#[source] session_state::Error),
    /// The embedded router does not start.
    #[error("the live copy cannot be started")]
    Live(#[source] BoxError),
}

impl From<RelayError> for Error {
    fn from(error: RelayError) -> Self {
        Self::Live(error.into())
    }
}

/// How often the session state is digested: so much of the log is read again after a crash.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// Binds the listeners, reads who may connect, opens the log and starts all tasks.
///
/// The log is closed in [`Stage::Serve`], after everything that reads it was drained.
///
/// # Errors
/// When an address is taken, a file is wrong, the log cannot be opened, or the embedded router does not start.
pub async fn start(config: Config, context: &Context) -> Result<Handle, Error> {
    let listeners = Listeners::bind(&config).await?;
    let addresses = listeners.addresses().map_err(Error::Address)?;
    let mqtt_addr = addresses
        .first()
        .map_or(config.mqtt_listen, |(_, address)| *address);
    let (access, tls) = doors(&config).await?;
    let (log, report, state) = open_logs(&config).await?;
    let metrics = Metrics::register(&context.metrics, &log);
    let fanout = Fanout::new(
        config.mqtt_live_queue.as_usize(),
        metrics.fanout_dropped.clone(),
        metrics.live_subscriptions.clone(),
    );
    fanout::start(&fanout, &log, Timing::default(), context)?;
    let sessions = i64::try_from(session::count(&log)).unwrap_or(i64::MAX);
    metrics.sessions.set(sessions);
    let groups = open_groups(&config, (&log, &state), report.next, &metrics, context).await?;
    let front = Arc::new(front(
        &config,
        Parts {
            log: log.clone(),
            recovered: report.next,
            state,
            fanout,
            groups,
            access: access.clone(),
            metrics,
            clock: Arc::clone(&context.clock),
            intake: context.tasks.token(Stage::Intake),
        },
    ));
    if config.ack_before_commit {
        tracing::error!(
            "PUBACK leaves before the log's write: this is a test, messages can be lost"
        );
    }
    keep(&front, context);
    reload::watch(
        reloaded(access, tls.clone()),
        front.metrics.clone(),
        context,
    );
    listeners.serve(&front, tls, context);
    tracing::info!(
        ?addresses,
        sessions,
        next = report.next,
        "the MQTT front listens"
    );
    Ok(Handle {
        log,
        mqtt_addr,
        addresses,
    })
}

/// What a front is made over.
pub(crate) struct Parts {
    pub(crate) log: Log,
    /// End of the log when it was opened.
    pub(crate) recovered: u64,
    pub(crate) state: Store,
    pub(crate) fanout: Fanout,
    pub(crate) groups: Groups,
    pub(crate) access: Access,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    /// Cancelled when intake is to stop.
    pub(crate) intake: CancellationToken,
}

/// Makes what all connections share.
pub(crate) fn front(config: &Config, parts: Parts) -> Front {
    let Parts {
        log,
        recovered,
        state,
        fanout,
        groups,
        access,
        metrics,
        clock,
        intake,
    } = parts;
    Front {
        wills: Wills::new(&state),
        state,
        left_behind: Mutex::default(),
        unfinished: Unfinished::default(),
        retained: RetainedStore::new(
            config.mqtt_retained_size.as_usize(),
            metrics.retained.clone(),
        ),
        sys: Sys::new(config.mqtt_sys_interval.0),
        fanout,
        claims: Claims::default(),
        groups,
        access,
        expiry: Expiry::new(
            config.sessions.max_session_expiry(),
            config.sessions.mqtt_pinned.clone(),
        ),
        receive_maximum: config.sessions.mqtt_receive_maximum,
        topic_aliases: config.sessions.mqtt_topic_aliases,
        max_keep_alive: config.sessions.mqtt_max_keep_alive,
        response_topic: config.sessions.mqtt_response_topic.clone(),
        message_rate: config.limits.mqtt_max_message_rate,
        max_subscriptions: config.limits.mqtt_max_subscriptions,
        intake,
        recovered,
        started_us: clock.now().as_micros(),
        clock,
        assigned_ids: AtomicU64::new(0),
        warning: Throttle::new(Duration::from_secs(10)),
        max_packet_bytes: config.mqtt_max_packet_size.as_usize(),
        max_sessions: i64::try_from(config.mqtt_max_sessions).unwrap_or(i64::MAX),
        window: config.mqtt_window,
        connect_timeout: config.mqtt_connect_timeout.0,
        stall_timeout: config.mqtt_stall_timeout.0,
        ack_before_commit: config.ack_before_commit,
        metrics,
        log,
    }
}

/// Takes up retained messages, and when sessions end.
pub(crate) fn take_up(front: &Front) {
    for (topic, kept) in front.state.retained() {
        let retained = Retained::from_value(&topic, kept.seq, &kept.value);
        if !retained.is_some_and(|retained| front.retained.set(retained)) {
            let topic = &*topic;
            tracing::warn!(topic, "a retained message was not taken up");
        }
    }
    expiry::open(front);
}

/// Digests the session state, publishes wills, ends sessions whose time is over, and watches the log.
fn keep(front: &Arc<Front>, context: &Context) {
    take_up(front);
    let willing = Arc::clone(front);
    context
        .tasks
        .spawn(Stage::Intake, "wills", |stop| wills::run(willing, stop));
    sys::start(front, context);
    let state = front.state.clone();
    context.tasks.spawn(Stage::Drain, "session-state", |stop| {
        keep_state(state, stop)
    });
    let (expiring, watched) = (Arc::clone(front), front.log.clone());
    context
        .tasks
        .spawn(Stage::Intake, "session-expiry", |stop| {
            expiry::run(expiring, stop)
        });
    let health = context.health.component("ingest_log");
    health.ready();
    context.tasks.spawn(Stage::Serve, "ingest-log", |stop| {
        condition::watch(watched, health, stop)
    });
}

/// Takes up the groups of shared subscriptions, and begins those that are to be held.
///
/// No client is accepted yet: nothing is acknowledged that a held group would miss.
async fn open_groups(
    config: &Config,
    (log, state): (&Log, &Store),
    recovered: u64,
    metrics: &Metrics,
    context: &Context,
) -> Result<Groups, Error> {
    let hold = Hold::new(&config.hold_for);
    let groups = Groups::open(log, state, recovered, &hold, metrics.shares.clone());
    log.cursors().sync().await?;
    metrics::watch_groups(&context.metrics, &groups);
    let (watched, kept) = (groups.clone(), log.clone());
    context.tasks.spawn(Stage::Serve, "share-hold", |stop| {
        hold::watch(watched, kept, stop)
    });
    Ok(groups)
}

/// Opens the log, and takes up what is remembered of clients besides messages.
async fn open_logs(config: &Config) -> Result<(Log, OpenReport, Store), Error> {
    let (messages, journal) = (config.log_config(), config.state_config());
    let opened = tokio::task::spawn_blocking(move || {
        let (log, report) = Log::open(Arc::new(RealDisk), messages)?;
        let (journal, _) = Log::open(Arc::new(RealDisk), journal)?;
        let state = Store::open(journal, log.clone(), |record| {
            Retained::of_record(record).to_value()
        });
        Ok((log, report, state.map_err(Error::State)?))
    });
    opened.await.map_err(|error| Error::Address(error.into()))?
}

/// Writes what the state has noted, again and again; closes its journal at the end.
pub(crate) async fn keep_state(state: Store, stop: CancellationToken) -> Result<(), BoxError> {
    let mut pace = tokio::time::interval(CHECKPOINT);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        select! {
            () = stop.cancelled() => return Ok(state.close().await?),
            _ = pace.tick() => {}
        }
        // Ended all the same when the stop comes: on a full disk it would wait for ever.
        select! {
            kept = state.checkpoint() => kept?,
            () = stop.cancelled() => {}
        }
    }
}

/// Reads who may connect, and what TLS shows them.
async fn doors(config: &Config) -> Result<(Access, Option<Arc<Tls>>), Error> {
    let options = access::Options {
        passwords: config.access.mqtt_password_file.clone(),
        acl: config.access.mqtt_acl_file.clone(),
        certificate_users: config.access.mqtt_tls_users,
        anonymous: config.access.mqtt_allow_anonymous,
        topics: config.limits.topics(),
        patience: config.mqtt_connect_timeout.0,
    };
    let files = config.listeners.tls_files();
    let read = move || {
        let access = Access::open(options)?;
        let tls = files.map(Tls::open).transpose()?;
        Ok((access, tls.map(Arc::new)))
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| Error::Address(error.into()))?
}

/// Tells which files are read again when they change.
fn reloaded(access: Access, tls: Option<Arc<Tls>>) -> Vec<reload::Source> {
    let mut sources = vec![reload::Source {
        name: "users and rules",
        files: access.files(),
        reload: Box::new(move || Ok(access.reload()?)),
    }];
    sources.extend(tls.map(|tls| reload::Source {
        name: "certificates",
        files: tls.files(),
        reload: Box::new(move || Ok(tls.reload()?)),
    }));
    sources
}
