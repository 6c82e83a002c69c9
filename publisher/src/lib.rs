//! The publisher: simulates a delivery fleet, replays recorded events, loads a broker, and checks that
//! nothing acknowledged was lost.
//!
//! | command | does |
//! |---|---|
//! | (none) | moves deliverers through the streets and publishes their positions |
//! | `replay FILE` | publishes the door2door events of a file |
//! | `verify --ledger FILE` | asks the API for every message a ledger says was acknowledged |
//!
//! Invariant: a message counts as acknowledged, and enters the ledger, only after its PUBACK; until then
//! it is kept and sent again on every new connection.
//!
//! Not done here: the outbox lives in memory, as long as the process; there is no TLS, no MQTT 5 and no
//! WebSocket.

mod engine;
mod ledger;
mod message;
mod progress;
mod replay;
mod route;
mod sender;
mod settings;
mod simulate;
pub mod simulation;
mod source;
mod stats;
mod summary;
mod verify;
mod wire;

use std::sync::Arc;

use service::{BoxError, Common, Context, Problems, Program};

pub use settings::{
    Command, Config, ReplayConfig, ReplaySettings, SendConfig, SendSettings, Settings,
    SimulateConfig, VerifyConfig, VerifySettings,
};
pub use stats::Quantiles;
pub use summary::{Summary, SummaryFormat};

/// The `publisher` program.
#[derive(Debug)]
pub struct App;

impl Program for App {
    const NAME: &'static str = "publisher";
    const ABOUT: &'static str = "\
Simulates a delivery fleet over MQTT, replays recorded events, loads a broker, and verifies that nothing \
acknowledged was lost.

Without a command it simulates: every deliverer carries an order through the streets of Amsterdam and \
publishes its position on deliveries/{deliverer_id}/location, first `start`, then `on_the_way`, last \
`arrived`. With --rate, --burst or -d 0 messages leave faster than the route is ridden: each point is then \
ten seconds further along, and dated when it is sent. Ctrl-C stops sending, waits for outstanding \
acknowledgements and prints the summary. The exit code is 1 when a message stayed unacknowledged.

Examples:
  publisher                                      50 orders, 15 positions each, 10 s apart
  publisher -n 5 -l 100 -d 1                     5 orders, 100 positions each, about 1 s apart
  publisher --burst 100000 --connections 64      as fast as the broker acknowledges
  publisher --rate 2000 --duration 30s           a steady load, latency from the intended time
  publisher --burst 20000 --ledger run.ndjson    note what was acknowledged ...
  publisher verify --ledger run.ndjson           ... and check that all of it can be read back
  publisher replay events.jsonl.gz --speed 60    an hour of events in a minute";

    type Settings = Settings;
    type Config = Config;

    fn default_log(_settings: &Self::Settings) -> &'static str {
        "warn"
    }

    fn resolve(settings: Settings, common: &Common) -> Result<Config, Problems> {
        settings::resolve(settings, common)
    }

    async fn run(config: Config, context: Context) -> Result<(), BoxError> {
        match config {
            Config::Simulate(config) => simulate::run(&config, &context).await,
            Config::Replay(config) => replay::run(&config, &context).await,
            Config::Verify(config) => verify::run(&config, &context).await,
        }
    }
}

/// Messages stayed unacknowledged.
#[derive(Debug, thiserror::Error)]
#[error(
    "{unacknowledged} messages stayed unacknowledged and {incomplete} connections gave up before their end"
)]
struct NotAllAcked {
    unacknowledged: u64,
    incomplete: u64,
}

impl SendConfig {
    fn options(&self) -> sender::SendOptions {
        sender::SendOptions {
            host: self.host.clone(),
            port: self.port,
            credentials: self.credentials.clone(),
            tls: self.tls.clone(),
            // Two publishers at a time must not push each other out.
            client_prefix: format!("publisher-{:08x}", rand::random::<u32>()),
            acknowledged: self.qos > 0,
            window: self.window,
            give_up: self.give_up.0,
            #[cfg(debug_assertions)]
            forget_on_reconnect: self.forget_on_reconnect,
        }
    }

    fn open_ledger(&self) -> Result<Option<Arc<ledger::Ledger>>, ledger::LedgerError> {
        self.ledger
            .as_deref()
            .map(ledger::Ledger::create)
            .transpose()
            .map(|l| l.map(Arc::new))
    }

    /// Prints the summary and judges the run.
    fn conclude(
        &self,
        report: &engine::Report,
        summary: &Summary,
        ledger: Option<&ledger::Ledger>,
    ) -> Result<(), BoxError> {
        summary.print(self.summary)?;
        if let Some(ledger) = ledger {
            ledger.finish()?;
        }
        if report.succeeded() {
            return Ok(());
        }
        let (unacknowledged, incomplete) = (report.unacked, report.incomplete);
        Err(NotAllAcked {
            unacknowledged,
            incomplete,
        }
        .into())
    }
}
