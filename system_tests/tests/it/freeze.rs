//! The database stands still (SIGSTOP) under load: the broker's log takes the messages and publishers go
//! on being acknowledged, nobody's memory grows with what waits, and everything is stored once it goes on.
//!
//! `LASTMILE_FREEZE_SECONDS` sets for how long.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use system_tests::kill_loop::Reconciliation;
use system_tests::process::Process;
use system_tests::publisher::{Burst, Summary};
use system_tests::services::{Options, Part, Programs, Services};
use system_tests::{poll, proc_stat, services_loop, skip};

use crate::heavy;

/// How long the database stands still.
const FREEZE: Duration = Duration::from_mins(1);

/// Messages per second meanwhile; some 250 bytes each.
const RATE: u32 = 4_000;

/// How long the load goes on before and after the freeze, together: it has to be stored before the database
/// stops, and to be there still when it goes on.
const AROUND: Duration = Duration::from_secs(20);

const CONNECTIONS: u32 = 8;

/// Messages a connection of the load sends ahead of their acknowledgements.
const WINDOW: u32 = 1_000;

const PATIENCE: Duration = Duration::from_mins(10);

/// Most that the broker may grow while messages wait: what it accepts before it is on disk
/// (`--log-max-pending`, 32 MiB), and read buffers. What waits in the freeze is twice as much.
const BROKER_GROWTH: u64 = 40 << 20;

/// Most that a subscriber may grow: two batches (`--batch-bytes`, 16 MiB each).
const SUBSCRIBER_GROWTH: u64 = 32 << 20;

/// What each part has resident (`VmRSS` of `/proc/PID/status`), in bytes.
fn resident(services: &mut Services) -> BTreeMap<Part, u64> {
    memory(services, proc_stat::resident_bytes)
}

/// The most each part ever had resident (`VmHWM`), in bytes: the kernel notes it, no peak is missed.
fn peak(services: &mut Services) -> BTreeMap<Part, u64> {
    memory(services, proc_stat::peak_memory_bytes)
}

fn memory(services: &mut Services, read: fn(u32) -> anyhow::Result<u64>) -> BTreeMap<Part, u64> {
    let parts = [Part::Broker, Part::Subscriber(0), Part::Subscriber(1)];
    let mut of = |part| read(services.process(part).unwrap().id()).unwrap();
    parts.into_iter().map(|part| (part, of(part))).collect()
}

/// The services under load, and how long their database is to stand still.
struct Trial {
    services: Services,
    before: BTreeMap<Part, u64>,
    load: Process,
    ledger: PathBuf,
    messages: u64,
    freeze: Duration,
}

impl Trial {
    /// Starts the services and a load; returns when the load is being stored. `None` when skipped.
    fn start(test: &str) -> Option<Self> {
        let options = Options {
            subscribers: 2,
            connections: 2,
            ..Options::new(Programs::dev().unwrap())
        };
        let program = options.programs.publisher.clone();
        let mut services = Services::start(test, options).unwrap()?;
        if !services.database().is_ours() {
            skip::report(test, "the database, which MONGODB_URI gave, is not ours");
            return None;
        }
        let freeze = std::env::var("LASTMILE_FREEZE_SECONDS")
            .map_or(FREEZE, |text| Duration::from_secs(text.parse().unwrap()));
        let messages = u64::from(RATE) * (freeze + AROUND).as_secs();
        let ledger = services.folder().join("ledger.ndjson");
        let burst = Burst {
            mqtt: services.mqtt_address(),
            messages,
            connections: CONNECTIONS,
            ledger: Some(ledger.clone()),
            rate: Some(RATE),
        };
        let load = burst.launch(&program, services.folder()).start().unwrap();
        poll::until("the load to be stored", PATIENCE, || {
            let counts = services.counts().ok();
            Ok(counts.filter(|counts| counts.positions > 0))
        })
        .unwrap();
        Some(Self {
            before: resident(&mut services),
            services,
            load,
            ledger,
            messages,
            freeze,
        })
    }

    /// Freezes the database and lets it go on; returns how many messages were acknowledged meanwhile.
    fn freeze(&mut self) -> f64 {
        let before = acknowledged(&self.services);
        self.services.freeze(Part::Database, true).unwrap();
        poll::pause(self.freeze);
        let meanwhile = acknowledged(&self.services) - before;
        let running = self.load.is_running().unwrap();
        assert!(running, "the load ended before the freeze did");
        self.services.freeze(Part::Database, false).unwrap();
        meanwhile
    }

    /// Waits until the load is acknowledged and stored; returns how long that took.
    fn catch_up(&mut self) -> Duration {
        let start = Instant::now();
        poll::gently("everything to be stored", PATIENCE, || {
            let counts = self.services.counts().ok();
            let all = counts.filter(|counts| counts.positions >= self.messages);
            Ok(all.filter(|_| !self.load.is_running().unwrap_or_default()))
        })
        .unwrap();
        start.elapsed()
    }
}

#[test]
fn a_frozen_database_costs_disk_and_neither_memory_nor_messages() {
    let test = "freeze::a_frozen_database_costs_disk_and_neither_memory_nor_messages";
    let _turn = heavy::turn();
    let Some(mut trial) = Trial::start(test) else {
        return;
    };
    let acked_meanwhile = trial.freeze();
    let caught_up = trial.catch_up();
    let (before, messages) = (trial.before.clone(), trial.messages);
    let mut grown = peak(&mut trial.services);
    for (part, bytes) in &mut grown {
        *bytes = bytes.saturating_sub(before[part]);
    }
    println!(
        "frozen {:?} under a load of {messages}: {acked_meanwhile} acknowledged meanwhile, caught up {caught_up:?} \
         after, memory before {before:?} grew by {grown:?}",
        trial.freeze,
    );
    let finished = trial.load.finish(PATIENCE).unwrap().success().unwrap();
    assert_eq!(Summary::read(&finished).unwrap().acked, messages);
    // More than could be on its way when the database stopped: the broker did not wait for it.
    assert!(acked_meanwhile > f64::from(CONNECTIONS * WINDOW));
    for (part, grown) in grown {
        let most = match part {
            Part::Broker => BROKER_GROWTH,
            _ => SUBSCRIBER_GROWTH,
        };
        assert!(
            grown <= most,
            "{part:?} grew by {grown} bytes, stated {most}"
        );
    }
    let exact = Reconciliation {
        acked: messages,
        stored: messages,
        counted: messages,
        ..Reconciliation::default()
    };
    let mut services = trial.services;
    let found = services_loop::compare(&services, &trial.ledger, None).unwrap();
    assert_eq!(found, exact);
    services.stop().unwrap();
}

fn acknowledged(services: &Services) -> f64 {
    services
        .metric(Part::Broker, "broker_messages_acknowledged_total")
        .unwrap()
}
