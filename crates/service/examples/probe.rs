//! The smallest service: what a `main.rs` looks like, and what the tests of the spine start.
//!
//! It has one component in each stage, tells on stdout when each stops, and misbehaves on request.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use service::{
    BoxError, ByteSize, Common, Context, HumanDuration, ListenAddr, Problems, Program, Secret,
    Stage, admin,
};

struct Probe;

/// What may be set.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Where health and metrics are served [default: 127.0.0.1:9199]
    #[arg(long, env = "LASTMILE_PROBE_LISTEN")]
    probe_listen: Option<ListenAddr>,
    /// A password
    #[arg(long, env = "PROBE_PASSWORD")]
    password: Option<Secret<String>>,
    /// How to misbehave
    #[arg(long)]
    misbehave: Option<Misbehaviour>,
    #[command(flatten)]
    queue: QueueSettings,
}

/// A part of its own: flags beside the others, a section in the file.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct QueueSettings {
    /// Size of the queue [default: 1MiB]
    #[arg(long, env = "LASTMILE_QUEUE_BYTES")]
    queue_bytes: Option<ByteSize>,
    /// Longest wait [default: 250ms]
    #[arg(long, env = "LASTMILE_QUEUE_WAIT")]
    queue_wait: Option<HumanDuration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Misbehaviour {
    /// Work once and end.
    Once,
    /// Fail before it is ready.
    FailToStart,
    /// A component ends by itself.
    End,
    /// A component fails.
    Fail,
    /// A task panics.
    Panic,
    /// A thread panics.
    PanicThread,
    /// A component does not stop.
    Hang,
    /// A component is never ready.
    Unready,
}

#[derive(Debug, Serialize)]
struct Config {
    probe_listen: SocketAddr,
    password: Option<Secret<String>>,
    misbehave: Option<Misbehaviour>,
    queue: QueueConfig,
}

#[derive(Debug, Serialize)]
struct QueueConfig {
    queue_bytes: ByteSize,
    queue_wait: HumanDuration,
}

impl Program for Probe {
    const NAME: &'static str = "probe";
    const ABOUT: &'static str = "Shows what the spine does";
    type Settings = Settings;
    type Config = Config;

    fn health_address(config: &Config) -> Option<SocketAddr> {
        Some(config.probe_listen)
    }

    fn resolve(settings: Settings, common: &Common) -> Result<Config, Problems> {
        let mut problems = Problems::new();
        let probe_listen =
            common.listen_addr("probe_listen", settings.probe_listen, 9199, &mut problems);
        let queue_bytes = settings.queue.queue_bytes.unwrap_or(ByteSize::mib(1));
        if queue_bytes.as_u64() == 0 {
            problems.add("queue.queue_bytes", "is 0; give at least 1");
        }
        let queue_wait = settings
            .queue
            .queue_wait
            .unwrap_or(HumanDuration::from_millis(250));
        if queue_wait > HumanDuration::from_secs(60) {
            problems.add("queue.queue_wait", "is above a minute; give less");
        }
        problems.or(Config {
            probe_listen,
            password: settings.password,
            misbehave: settings.misbehave,
            queue: QueueConfig {
                queue_bytes,
                queue_wait,
            },
        })
    }

    async fn run(config: Config, context: Context) -> Result<(), BoxError> {
        let misbehave = config.misbehave;
        match misbehave {
            Some(Misbehaviour::Once) => return Ok(()),
            Some(Misbehaviour::FailToStart) => {
                return Err(io::Error::other("the probe has no battery").into());
            }
            _ => {}
        }
        let health = context.health.component("intake");
        let address = admin::bind_and_serve(config.probe_listen, &context).await?;
        context.tasks.spawn(Stage::Serve, "serve", async |token| {
            token.cancelled().await;
            say("serve stopped")
        });
        context
            .tasks
            .spawn_thread(Stage::Drain, "drain", move |token| {
                if misbehave == Some(Misbehaviour::PanicThread) {
                    assert!(token.is_cancelled(), "the thread was told to panic");
                }
                tokio::runtime::Builder::new_current_thread()
                    .build()?
                    .block_on(token.cancelled());
                if misbehave == Some(Misbehaviour::Hang) {
                    std::thread::park();
                }
                say("drain stopped")
            });
        context
            .tasks
            .spawn(Stage::Intake, "intake", async move |token| {
                match misbehave {
                    Some(Misbehaviour::End) => return Ok(()),
                    Some(Misbehaviour::Fail) => {
                        return Err(io::Error::other("the probe fell").into());
                    }
                    Some(Misbehaviour::Panic) => {
                        assert!(token.is_cancelled(), "the task was told to panic");
                    }
                    _ => {}
                }
                token.cancelled().await;
                say("intake stopped")
            });
        if misbehave == Some(Misbehaviour::Unready) {
            health.not_ready("the probe has no battery");
        } else {
            health.ready();
        }
        context.announce_ready(Self::NAME, &[("http", address)]);
        Ok(())
    }
}

fn say(text: &str) -> Result<(), BoxError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(())
}

fn main() -> ExitCode {
    service::main::<Probe>()
}
