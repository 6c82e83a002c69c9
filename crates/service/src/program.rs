//! A binary's way from its arguments to its exit code.

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::settings::{self, Common, CommonSettings};
use crate::{BoxError, Context, ErrorChain, Problems, SystemClock, Tasks};
use crate::{health_check, settings_table, telemetry};

/// What a binary is.
pub trait Program {
    /// Its name, for example `broker`.
    const NAME: &'static str;
    /// What `--help` says first.
    const ABOUT: &'static str;
    /// What may be set: every field an `Option`, with a flag and an environment variable. Parts of a
    /// composed program are nested structs, flattened for clap and sections in the file.
    type Settings: Args + Serialize + DeserializeOwned;
    /// What holds once defaults are applied and everything is checked.
    type Config: Serialize;

    /// Returns what it logs unless told otherwise.
    ///
    /// Name a chatty dependency here, as in `info,rumqttd=warn`. What runs once for a person at a terminal
    /// should answer `warn`: its output is its summary.
    fn default_log(_settings: &Self::Settings) -> &'static str {
        "info"
    }

    /// Returns where a running process of these settings answers `/readyz`: what `--healthcheck` asks. `None`
    /// when it answers nowhere.
    fn health_address(_config: &Self::Config) -> Option<SocketAddr> {
        None
    }

    /// Applies defaults and checks everything, without touching network or disk.
    ///
    /// # Errors
    /// All that is wrong.
    fn resolve(settings: Self::Settings, common: &Common) -> Result<Self::Config, Problems>;

    /// Does the work.
    ///
    /// A service binds its listeners, spawns its components through [`Context::tasks`], calls
    /// [`Context::announce_ready`] and then either returns `Ok` or waits for [`crate::Tasks::stopped`]; the
    /// process lives until a signal or a failure. A program that announces nothing works once: the process
    /// ends, successfully, when this returns `Ok`. It should watch [`crate::Tasks::stopped`] to end early on
    /// a signal.
    ///
    /// An error that is a [`Problems`] says that what was asked cannot be done with these settings: exit
    /// code 2, as when [`Program::resolve`] finds them. Any other error is exit code 1.
    fn run(
        config: Self::Config,
        context: Context,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

#[derive(Parser)]
struct Cli<S: Args> {
    #[command(flatten)]
    common: CommonSettings,
    #[command(flatten)]
    start: StartOptions,
    #[command(flatten)]
    settings: S,
}

/// What is not a setting: where settings come from, and what to do instead of running.
#[derive(Debug, Args)]
struct StartOptions {
    /// File with settings (TOML), named as the long flags with `_` for `-`
    #[arg(
        long,
        env = "LASTMILE_CONFIG",
        value_name = "FILE",
        global = true,
        help_heading = "Common options"
    )]
    config: Option<PathBuf>,
    /// Check all settings and end: 0 when they are right, 2 when not
    #[arg(long, global = true, help_heading = "Common options")]
    check_config: bool,
    /// Print the settings in effect as TOML, without secrets, and end
    #[arg(long, global = true, help_heading = "Common options")]
    print_config: bool,
    /// Ask the process that runs with these settings whether it is ready, and end: 0 when it is, 1 when not,
    /// with the reason. Takes at most 3 seconds
    #[arg(long, global = true, help_heading = "Common options")]
    healthcheck: bool,
    /// Print a Markdown table of the settings, and end
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "own", value_name = "WHICH")]
    print_settings_table: Option<settings_table::Which>,
}

/// What `--version` says.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("LASTMILE_REVISION"),
    ")"
);

/// Usage or configuration is wrong.
const USAGE: u8 = 2;

/// Runs a program; see the crate's documentation for the life of a process and its exit codes.
pub fn main<P: Program>() -> ExitCode {
    let cli = match parse::<P>() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // Nothing is left to do when not even the help text can be written.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let start = cli.start;
    if let Some(which) = start.print_settings_table {
        return print(&settings_table::markdown(&command::<P>(), which));
    }
    let (common, config) = match configure::<P>(cli.common, cli.settings, start.config.as_deref()) {
        Ok(configured) => configured,
        Err(problems) => {
            complain(&format!("{}: wrong settings\n{problems}", P::NAME));
            // Whoever asks for health knows two answers.
            return ExitCode::from(if start.healthcheck { 1 } else { USAGE });
        }
    };
    if start.print_config {
        return print_config(&common, &config);
    }
    if start.check_config {
        return ExitCode::SUCCESS;
    }
    if start.healthcheck {
        return healthcheck(P::NAME, P::health_address(&config));
    }
    telemetry::init(EnvFilter::new(&common.log), common.log_format);
    telemetry::abort_on_panic();
    let shown = settings::effective(&common, &config)
        .ok()
        .and_then(|table| serde_json::to_string(&table).ok());
    tracing::info!(
        service = P::NAME,
        version = crate::VERSION,
        revision = crate::REVISION,
        config = shown.unwrap_or_default(),
        "starting"
    );
    match runtime(P::NAME, common.worker_threads) {
        Ok(runtime) => {
            // Never shut down: everything worth waiting for is awaited by name, and tasks that others are taken
            // away from panic (the MongoDB driver's farewell to its server does). The process ends right after.
            let runtime = ManuallyDrop::new(runtime);
            runtime.block_on(live::<P>(config, &common))
        }
        Err(error) => {
            tracing::error!(%error, "the runtime cannot be started");
            ExitCode::FAILURE
        }
    }
}

fn parse<P: Program>() -> Result<Cli<P::Settings>, clap::Error> {
    let command = without_empty_variables(command::<P>());
    let mut matches = hide_env_values(command).try_get_matches()?;
    Cli::from_arg_matches_mut(&mut matches)
}

fn command<P: Program>() -> clap::Command {
    Cli::<P::Settings>::command()
        .name(P::NAME)
        .about(P::ABOUT)
        .version(LONG_VERSION)
        .after_help(
            "Settings are taken from the flag, else the environment variable (an empty one counts as not set), \
             else the file, else the default.\n\
             Exit codes: 0 stopped by a signal or done, 1 failed, 2 wrong usage or settings.",
        )
}

/// Takes an empty variable for one that is not set: what starts containers often can only pass a value on,
/// not leave it out.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |argument: &clap::Arg| {
        let value = argument.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|argument| {
            if is_empty(&argument) {
                argument.env(None::<&'static str>)
            } else {
                argument
            }
        })
        .mut_subcommands(without_empty_variables)
}

/// Keeps `--help` from showing what the environment holds: it may be a password.
fn hide_env_values(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| argument.hide_env_values(true))
        .mut_subcommands(hide_env_values)
}

fn configure<P: Program>(
    common: CommonSettings,
    settings: P::Settings,
    file: Option<&Path>,
) -> Result<(Common, P::Config), Problems> {
    let (common, settings) = settings::layer(common, settings, file)?;
    let mut problems = Problems::new();
    let common = Common::resolve(common, P::default_log(&settings), &mut problems);
    if let Err(error) = EnvFilter::try_new(&common.log) {
        problems.add(
            "log",
            format!("is no filter ({error}); give for example info"),
        );
    }
    match P::resolve(settings, &common) {
        Ok(config) => problems.or((common, config)),
        Err(more) => {
            problems.append(more);
            Err(problems)
        }
    }
}

fn print_config<C: Serialize>(common: &Common, config: &C) -> ExitCode {
    match settings::effective(common, config).and_then(|table| toml::to_string(&table)) {
        Ok(text) => print(&text),
        Err(error) => {
            complain(&format!("the settings cannot be printed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("the settings cannot be printed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Asks the running process whether it is ready.
fn healthcheck(name: &str, address: Option<SocketAddr>) -> ExitCode {
    let answer = match address {
        Some(address) => health_check::ask(address),
        None => Err("serves no health endpoint with these settings".to_owned()),
    };
    match answer {
        Ok(()) => print("ready\n"),
        Err(reason) => {
            complain(&format!("{name}: {reason}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes to stderr for people, before there is a log.
fn complain(text: &str) {
    // There is no other place to complain to.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

fn runtime(name: &'static str, worker_threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(worker_threads)
        .thread_name(format!("{name}-worker"))
        .enable_all()
        .build()
}

/// SIGTERM and SIGINT, whichever comes.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Runs until a signal, a failure or the end of the work, then stops stage by stage.
async fn live<P: Program>(config: P::Config, common: &Common) -> ExitCode {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals cannot be received");
            return ExitCode::FAILURE;
        }
    };
    let context = Context::new(Arc::new(SystemClock));
    let tasks = context.tasks.clone();
    let health = context.health.clone();
    let mut run = Box::pin(report(P::run(config, context)));
    let mut outcome = None;
    loop {
        tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "stopping");
                break;
            }
            () = tasks.failed() => break,
            ended = &mut run, if outcome.is_none() => {
                outcome = Some(ended);
                // A service that announced itself has components that go on.
                if ended.is_err() || !health.is_announced() {
                    break;
                }
            }
        }
    }
    let rest_of_run = async {
        match outcome {
            Some(outcome) => outcome,
            None => run.await,
        }
    };
    let stopped = tokio::select! {
        stopped = stop(&tasks, rest_of_run, common.stop_timeout.as_duration()) => stopped,
        name = signals.next() => {
            let running = tasks.still_running();
            tracing::warn!(signal = name, %running, "second signal, ending at once");
            Err(Failed::Work)
        }
    };
    match stopped {
        Ok(()) if tasks.take_failures().is_empty() => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(Failed::Usage) => ExitCode::from(USAGE),
        Ok(()) | Err(Failed::Work) => {
            tracing::error!("ended with a failure");
            ExitCode::FAILURE
        }
    }
}

/// Something failed and was logged where it did.
#[derive(Debug, Clone, Copy)]
enum Failed {
    /// The work itself.
    Work,
    /// What was asked for cannot be done with these settings.
    Usage,
}

/// Logs the error a program ended with.
async fn report(run: impl Future<Output = Result<(), BoxError>>) -> Result<(), Failed> {
    run.await.map_err(|error| {
        tracing::error!(error = %ErrorChain(error.as_ref()), "failed");
        if error.is::<Problems>() {
            Failed::Usage
        } else {
            Failed::Work
        }
    })
}

/// Stops every stage while the program's own future comes to its end; both may take `limit`.
async fn stop(
    tasks: &Tasks,
    rest_of_run: impl Future<Output = Result<(), Failed>>,
    limit: Duration,
) -> Result<(), Failed> {
    let rest_of_run = tokio::time::timeout(limit, rest_of_run);
    let (stopped, run) = tokio::join!(tasks.stop(limit), rest_of_run);
    let stopped = stopped.map_err(|error| {
        tracing::error!(%error, "not everything stopped in time");
        Failed::Work
    });
    let run = run.unwrap_or_else(|_| {
        tracing::error!("still at work at the end of the time to stop");
        Err(Failed::Work)
    });
    stopped.and(run)
}
