//! The five services as processes of their own over one database, with as many subscribers and APIs as
//! asked for. Each can be killed, frozen and started again on its data and ports.
//!
//! Everything shares one `--data` folder and one `--port-base`, so the services find each other by their
//! defaults. The first subscriber and the first API have the default ports, further ones spare ports of
//! the base.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::binaries::Built;
use crate::http::Http;
use crate::mongo_server::MongoServer;
use crate::pipeline::{self, Counts};
use crate::process::{Finished, Launch, Process};
use crate::{binaries, mosquitto, poll, ports};

/// Most subscribers, and most APIs: the spare ports are that many.
pub const MOST_REPLICAS: usize = 3;

/// How long counts may stay as they are before nothing more is expected to come.
const QUIET: Duration = Duration::from_secs(20);

/// How long subscribers may take to be ready: one whose database was killed first stores what it holds, and
/// may have to outwait who held it before.
const READY_PATIENCE: Duration = Duration::from_mins(5);

/// How long the offload of a test may take; the development build of its models is slow.
const LAKE_PATIENCE: Duration = Duration::from_mins(5);

/// A process of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The database server.
    Database,
    /// The MQTT broker.
    Broker,
    /// A subscriber, counted from 0.
    Subscriber(usize),
    /// An API, counted from 0.
    Api(usize),
}

/// The executables.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `broker`.
    pub broker: PathBuf,
    /// `subscriber`.
    pub subscriber: PathBuf,
    /// `api`.
    pub api: PathBuf,
    /// `publisher`.
    pub publisher: PathBuf,
}

impl Programs {
    /// What they are called.
    pub const NAMES: [&str; 4] = ["broker", "subscriber", "api", "publisher"];

    /// Returns the development binaries.
    ///
    /// # Errors
    /// When they cannot be built.
    pub fn dev() -> Result<Self> {
        Self::from(binaries::path)
    }

    /// Builds them with a profile; those of `dev` may be ready-made, as [`Programs::dev`] takes them.
    ///
    /// # Errors
    /// When they cannot be built.
    pub fn built(profile: &str) -> Result<Self> {
        Self::of(&binaries::build_all(&Self::NAMES, &[], profile)?)
    }

    /// Takes them from what was built.
    ///
    /// # Errors
    /// When one is missing.
    pub fn of(built: &Built) -> Result<Self> {
        Self::from(|program| built.path(program))
    }

    fn from(path: impl Fn(&str) -> Result<PathBuf>) -> Result<Self> {
        Ok(Self {
            broker: path("broker")?,
            subscriber: path("subscriber")?,
            api: path("api")?,
            publisher: path("publisher")?,
        })
    }
}

/// How subscribers get the numbers that tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replicas {
    /// By `--replica NUMBER`: one that is started again is the one it was.
    #[default]
    Numbered,
    /// By `--replica auto`: the lowest number whose lease is free.
    Leased,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The executables.
    pub programs: Programs,
    /// Number of subscribers, at most [`MOST_REPLICAS`].
    pub subscribers: usize,
    /// How they get their numbers; a single subscriber with one connection has none.
    pub replicas: Replicas,
    /// Connections of each subscriber.
    pub connections: usize,
    /// Number of APIs, at most [`MOST_REPLICAS`].
    pub apis: usize,
    /// Debian's mosquitto instead of our broker.
    pub mosquitto: bool,
    /// Further arguments of the broker.
    pub broker_args: Vec<String>,
    /// Further arguments of each subscriber.
    pub subscriber_args: Vec<String>,
}

impl Options {
    /// Returns one process of each service.
    pub fn new(programs: Programs) -> Self {
        Self {
            programs,
            subscribers: 1,
            replicas: Replicas::default(),
            connections: 1,
            apis: 1,
            mosquitto: false,
            broker_args: Vec::new(),
            subscriber_args: Vec::new(),
        }
    }
}

/// The running services.
#[derive(Debug)]
pub struct Services {
    // First, so that the services are gone before their database is.
    processes: BTreeMap<Part, Process>,
    database: MongoServer,
    folder: TempDir,
    base: u16,
    options: Options,
    https: Vec<Http>,
}

impl Services {
    /// Starts the database and then all services at once; returns when the subscribers are subscribed.
    /// `None`, with `test` reported as skipped, where there is no database.
    ///
    /// # Errors
    /// When a service does not become ready.
    pub fn start(test: &str, options: Options) -> Result<Option<Self>> {
        anyhow::ensure!(
            options.subscribers <= MOST_REPLICAS && options.apis <= MOST_REPLICAS,
            "at most {MOST_REPLICAS} of each"
        );
        let base = ports::free_base()?;
        let port = base + ports::SPARE_PORTS.start;
        let Some(database) = MongoServer::for_test(test, port)? else {
            return Ok(None);
        };
        let mut services = Self {
            processes: BTreeMap::new(),
            database,
            folder: TempDir::with_prefix("lastmile-services-")?,
            base,
            https: Vec::new(),
            options,
        };
        services.https = (0..services.options.apis)
            .map(|number| Http::new(&services.api_address(number)))
            .collect::<Result<_>>()?;
        let parts: Vec<Part> = services.parts().into_iter().skip(1).collect();
        services.start_parts(&parts)?;
        Ok(Some(services))
    }

    /// Returns every part, the database first.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::Database, Part::Broker];
        parts.extend((0..self.options.subscribers).map(Part::Subscriber));
        parts.extend((0..self.options.apis).map(Part::Api));
        parts
    }

    /// Kills parts (SIGKILL), all before any is started again.
    ///
    /// # Errors
    /// When one cannot be reaped, or is not ours to kill.
    pub fn kill(&mut self, parts: &[Part]) -> Result<()> {
        for &part in parts {
            match part {
                Part::Database => self.database.kill()?,
                _ => self.process(part)?.kill()?,
            }
        }
        Ok(())
    }

    /// Starts parts, in this order and without waiting for one before the next is started; returns when all
    /// are ready and all subscribers are subscribed.
    ///
    /// # Errors
    /// When one does not become ready.
    pub fn start_parts(&mut self, parts: &[Part]) -> Result<()> {
        for &part in parts {
            if part == Part::Database {
                self.database.start_again()?;
            } else {
                let process = self.launch(part)?.start()?;
                self.processes.insert(part, process);
            }
        }
        for &part in parts {
            if part != Part::Database && !(self.options.mosquitto && part == Part::Broker) {
                self.process(part)?
                    .ready()
                    .with_context(|| format!("{part:?}"))?;
            }
        }
        self.until_subscribed()
    }

    /// Waits until every subscriber has its session: a foreign broker keeps nothing for one it does not know.
    fn until_subscribed(&mut self) -> Result<()> {
        for number in 0..self.options.subscribers {
            let part = Part::Subscriber(number);
            let admin = Http::new(&self.admin_address(part))?;
            let process = self.process(part)?;
            poll::until("a subscription", READY_PATIENCE, || {
                anyhow::ensure!(
                    process.is_running()?,
                    "{part:?} has ended by itself:\n{}",
                    process.stderr()
                );
                let answer = admin.get("/readyz").ok();
                Ok(answer.filter(|answer| answer.status == 200).map(drop))
            })?;
        }
        Ok(())
    }

    fn launch(&self, part: Part) -> Result<Launch> {
        let Options {
            programs,
            subscribers,
            connections,
            ..
        } = &self.options;
        let folder = self.folder.path();
        let service = |name: &str, number: usize, program: &Path| {
            Launch::of(&format!("{name}-{number}"), program, folder)
                .arg("--data")
                .arg(self.data())
                .args(["--port-base", &self.base.to_string()])
        };
        let launch = match part {
            Part::Database => bail!("the database is no service"),
            Part::Broker if self.options.mosquitto => {
                mosquitto::launch(folder, 1883 + self.base, false)?
            }
            Part::Broker => service("broker", 0, &programs.broker).args(&self.options.broker_args),
            Part::Subscriber(number) => {
                let launch = service("subscriber", number, &programs.subscriber)
                    .args(["--admin-listen", &self.admin_address(part)])
                    .args(["--connections", &connections.to_string()])
                    .args(&self.options.subscriber_args);
                let launch = match self.options.replicas {
                    _ if *subscribers == 1 => launch,
                    Replicas::Numbered => launch.args(["--replica", &number.to_string()]),
                    Replicas::Leased => launch.args(["--replica", "auto"]),
                };
                self.database.reached_by(launch)
            }
            Part::Api(number) => {
                let launch = service("api", number, &programs.api)
                    .args(["--http-listen", &self.api_address(number)]);
                self.database.reached_by(launch)
            }
        };
        Ok(launch)
    }

    /// Returns a running service's process.
    ///
    /// # Errors
    /// When there is none.
    pub fn process(&mut self, part: Part) -> Result<&mut Process> {
        match part {
            Part::Database => self.database.process(),
            _ => self
                .processes
                .get_mut(&part)
                .with_context(|| format!("{part:?} does not run")),
        }
    }

    /// Freezes a part (SIGSTOP) or lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run, or is not ours.
    pub fn freeze(&mut self, part: Part, frozen: bool) -> Result<()> {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        self.process(part)?.signal(signal)
    }

    /// Asks every service to stop (SIGTERM), the broker last, and waits for their end.
    ///
    /// # Errors
    /// When one does not end, or not with 0.
    pub fn stop(&mut self) -> Result<()> {
        for (part, process) in self.processes.iter_mut().rev() {
            let status = process.terminate()?;
            // Mosquitto's own business.
            anyhow::ensure!(
                status.success() || (self.options.mosquitto && *part == Part::Broker),
                "{part:?} ended with {status}:\n{}",
                process.stderr()
            );
        }
        self.processes.clear();
        Ok(())
    }

    /// Returns the database.
    pub fn database(&self) -> &MongoServer {
        &self.database
    }

    /// Returns the folder of data, which `--data` names.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns a folder for logs and files of the test; it goes with the services.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the address of the MQTT listener.
    pub fn mqtt_address(&self) -> String {
        format!("127.0.0.1:{}", 1883 + self.base)
    }

    /// Returns the address of an API.
    pub fn api_address(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.port(8080, 1, number))
    }

    /// Returns the address of a service's health and metrics.
    pub fn admin_address(&self, part: Part) -> String {
        match part {
            Part::Subscriber(number) => {
                format!(
                    "127.0.0.1:{}",
                    self.port(9102, 1 + MOST_REPLICAS - 1, number)
                )
            }
            Part::Api(number) => self.api_address(number),
            Part::Broker | Part::Database => format!("127.0.0.1:{}", 9101 + self.base),
        }
    }

    /// The first of its kind has the default port, the others spare ports from `first_spare` on.
    fn port(&self, default: u16, first_spare: usize, number: usize) -> u16 {
        let mut spare = ports::SPARE_PORTS.skip(first_spare);
        let port = match number {
            0 => default,
            _ => spare.nth(number - 1).unwrap_or(ports::SPARE_PORTS.end),
        };
        self.base + port
    }

    /// Returns the client of an API.
    pub fn http(&self, number: usize) -> Option<&Http> {
        self.https.get(number)
    }

    /// Returns what the first API counts.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn counts(&self) -> Result<Counts> {
        pipeline::counts(self.http(0).context("there is no API")?)
    }

    /// Waits until the first API counts `expected`; while it has no answer it is asked again, gently: some
    /// servers read a whole collection to count it.
    ///
    /// # Errors
    /// When it does not within `patience`.
    pub fn until_counts(&self, expected: Counts, patience: Duration) -> Result<()> {
        let mut last = None;
        let outcome = poll::gently("the stored counts", patience, || {
            last = self.counts().ok();
            Ok((last == Some(expected)).then_some(()))
        });
        outcome.with_context(|| format!("expected {expected:?}, last saw {last:?}"))
    }

    /// Waits until `expected` positions are counted, or until nothing has changed for a long while.
    ///
    /// # Errors
    /// When counts still change after `patience`.
    pub fn until_settled(&self, expected: u64, patience: Duration) -> Result<Counts> {
        let mut last = (Counts::default(), Instant::now());
        poll::gently("the stored counts to settle", patience, || {
            if let Ok(counts) = self.counts() {
                if counts != last.0 {
                    last = (counts, Instant::now());
                }
                let settled = counts.positions >= expected || last.1.elapsed() > QUIET;
                return Ok(settled.then_some(counts));
            }
            Ok(None)
        })
    }

    /// Waits until the subscribers have acknowledged all that our broker holds for them. What a killed one
    /// inserted is counted before that, but is not proven, and so not for the lake, until its messages came again.
    ///
    /// # Errors
    /// When they do not within `patience`.
    pub fn until_acknowledged(&self, patience: Duration) -> Result<()> {
        if self.options.mosquitto {
            return Ok(());
        }
        poll::gently("the last acknowledgements", patience, || {
            let lag = self.metric(Part::Broker, "broker_share_lag_records")?;
            Ok((lag < 1.0).then_some(()))
        })
    }

    /// Reads a number from a service's `/metrics`, labels added up.
    ///
    /// # Errors
    /// When the service does not answer or has no such number.
    pub fn metric(&self, part: Part, name: &str) -> Result<f64> {
        let metrics = Http::new(&self.admin_address(part))?.get("/metrics")?.body;
        let rows = metrics.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        let values = rows.map(|row| Ok(row.rsplit(' ').next().unwrap_or_default().parse()?));
        let values: Vec<f64> = values.collect::<Result<_>>()?;
        anyhow::ensure!(!values.is_empty(), "{part:?} has no metric {name}");
        Ok(values.into_iter().sum())
    }

    /// Runs `lake_ingest --once` from the database into [`Services::lake`].
    ///
    /// # Errors
    /// When it fails.
    pub fn offload(&self) -> Result<Finished> {
        let launch = Launch::new("lake_ingest", self.folder())?
            .arg("--data")
            .arg(self.data())
            .args(["--once", "--summary", "json"]);
        self.database
            .reached_by(launch)
            .run(LAKE_PATIENCE)?
            .success()
    }

    /// Returns the lake's folder.
    pub fn lake(&self) -> PathBuf {
        self.data().join("lake")
    }
}
