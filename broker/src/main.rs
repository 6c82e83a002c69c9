//! The broker as a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use broker::commands::{self, Command};
use model::topic::INGEST_GROUP;
use serde::{Deserialize, Serialize};
use service::{BoxError, Common, Context, ListenAddr, Problems, Program, admin};

/// The program.
struct Broker;

/// Settings of the process.
#[derive(Debug, Default, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// What to do instead of serving.
    #[command(subcommand)]
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Command>,
    #[command(flatten)]
    broker: broker::Settings,
    /// Address for /healthz, /readyz and /metrics [default: 127.0.0.1:9101]
    #[arg(long, env = "LASTMILE_ADMIN_LISTEN", value_name = "ADDR")]
    admin_listen: Option<ListenAddr>,
}

/// Settings in effect.
#[derive(Debug, Serialize)]
struct Config {
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Command>,
    broker: broker::Config,
    admin_listen: SocketAddr,
}

impl Program for Broker {
    const NAME: &'static str = "broker";
    const ABOUT: &'static str = "\
Durable MQTT 3.1.1 and 5 broker: every acknowledged message is on disk.

A PUBACK leaves after the group commit (fdatasync) that holds the message. Clients with a persistent session \
are served from the log and lose nothing while they are away; clients with a clean session get a live copy. \
For the subscriber program messages are kept from the first one on, also before its first start (--hold-for). \
When the disk has no room, clients are not read until there is; nothing is dropped.

Try it:
  broker --data ./data
  mosquitto_sub -p 1883 -t 'deliveries/#' -q 1 -i me -c
  mosquitto_pub -p 1883 -t deliveries/7/location -q 1 -m '{\"order_id\":1}'
  broker passwd users.txt ann
  broker sessions; broker log; broker check";
    type Settings = Settings;
    type Config = Config;

    fn default_log(settings: &Self::Settings) -> &'static str {
        if settings.command.is_some() {
            return "warn";
        }
        "info,rumqttd=warn"
    }

    fn health_address(config: &Config) -> Option<SocketAddr> {
        Some(config.admin_listen)
    }

    fn resolve(mut settings: Settings, common: &Common) -> Result<Config, Problems> {
        let mut problems = Problems::new();
        // Who runs this program runs the subscriber beside it, sooner or later.
        let hold_for = settings.broker.hold_for;
        settings.broker.hold_for = hold_for.or_else(|| Some(vec![INGEST_GROUP.to_owned()]));
        let admin_listen =
            common.listen_addr("admin_listen", settings.admin_listen, 9101, &mut problems);
        match broker::Config::resolve(&settings.broker, common) {
            Ok(broker) => problems.or(Config {
                command: settings.command,
                broker,
                admin_listen,
            }),
            Err(more) => {
                problems.append(more);
                Err(problems)
            }
        }
    }

    async fn run(config: Config, context: Context) -> Result<(), BoxError> {
        if let Some(command) = config.command {
            return commands::run(command, &config.broker.log_dir, &context).await;
        }
        let admin_addr = admin::bind_and_serve(config.admin_listen, &context).await?;
        let handle = broker::start(config.broker, &context).await?;
        let mut addresses = handle.addresses;
        addresses.push(("admin", admin_addr));
        context.announce_ready(Self::NAME, &addresses);
        context.tasks.stopped().await;
        Ok(())
    }
}

fn main() -> ExitCode {
    service::main::<Broker>()
}
