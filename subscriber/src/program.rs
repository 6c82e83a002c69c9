//! The `subscriber` program: a broker's messages into the store.

use std::net::SocketAddr;
use std::sync::Arc;

use service::{BoxError, Common, Context, Problems, Program, admin};
use store::{Store, Writer};

use crate::replica::Leases;
use crate::settings::{MqttConfig, ProgramConfig, ProgramSettings, Replica};
use crate::start_from_mqtt;

/// The program.
#[derive(Debug)]
pub struct Subscriber;

impl Program for Subscriber {
    const NAME: &'static str = "subscriber";
    const ABOUT: &'static str = "Takes delivery positions and fleet events from an MQTT broker and stores \
        each exactly once.\n\n\
        A message is acknowledged to the broker only after it is committed, so whatever is killed, \
        whenever, the broker sends again what was not stored, and what was stored twice counts once. What \
        is invalid is kept as a dead letter with its reason. While the store is unavailable nothing is \
        acknowledged, and no more is taken than fits the receive buffer. It may start before broker and \
        store: it waits for both, and /readyz says for which.\n\n\
        Several share the load: --connections within a process, --replica across processes; the broker must \
        know shared subscriptions ($share). A single one shares too, and where the broker refuses that it \
        subscribes plainly.\n\n\
        Topics: deliveries/{deliverer_id}/location (native JSON), fleet/{organization_id}/events (door2door \
        JSON), test/deliverer_data (native JSON).\n\n\
        Example: MONGODB_URI=mongodb://db.example/lastmile subscriber --broker mqtt://broker.example:1883 \
        --connections 4 --replica auto";
    type Settings = ProgramSettings;
    type Config = ProgramConfig;

    fn health_address(config: &ProgramConfig) -> Option<SocketAddr> {
        Some(config.admin_listen)
    }

    fn resolve(settings: ProgramSettings, common: &Common) -> Result<ProgramConfig, Problems> {
        ProgramConfig::resolve(settings, common)
    }

    async fn run(config: ProgramConfig, context: Context) -> Result<(), BoxError> {
        // Said first, so that it is seen why it is not ready while broker or store are away.
        let admin = admin::bind_and_serve(config.admin_listen, &context).await?;
        context
            .health
            .component("broker")
            .not_ready("waiting for the store first");
        context.announce_ready(Self::NAME, &[("admin", admin)]);
        let connections = config.mqtt.connections;
        let store = match config.mqtt.replica {
            Replica::Number(number) => config.store.with_writer(&format!("subscriber-{number}")),
            Replica::None | Replica::Auto => config.store.with_writer("subscriber"),
        };
        let Some(stores) = store.wait_writers(connections, &context).await? else {
            return Ok(());
        };
        let Some(replica) = replica(&config.mqtt, &stores, &context).await? else {
            return Ok(());
        };
        let writers = stores.into_iter().map(|store| store as Arc<dyn Writer>);
        let _handle = start_from_mqtt(
            config.pipeline,
            &config.mqtt,
            replica,
            writers.collect(),
            &context,
        );
        context.tasks.stopped().await;
        Ok(())
    }
}

/// Finds out which of several this is, if it is one of several; the outer `None` when stopped meanwhile.
async fn replica(
    mqtt: &MqttConfig,
    stores: &[Arc<dyn Store>],
    context: &Context,
) -> Result<Option<Option<u16>>, BoxError> {
    let store = match (mqtt.replica, stores.first()) {
        (Replica::None, _) | (_, None) => return Ok(Some(None)),
        (Replica::Number(number), _) => return Ok(Some(Some(number))),
        (Replica::Auto, Some(store)) => Arc::clone(store),
    };
    let leases = Leases::new(store, &mqtt.client_id, Arc::clone(&context.clock));
    let Some(lease) = leases.acquire(context).await? else {
        return Ok(None);
    };
    let number = lease.number;
    lease.keep(context);
    Ok(Some(Some(number)))
}
