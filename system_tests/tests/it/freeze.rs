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

/// How long the database stands still.
const FREEZE: Duration = Duration::from_mins(1);

/// Messages per second meanwhile; some 250 bytes each.
const RATE: u32 = 4_000;

/// How long the load goes on before and after the freeze, together.
const AROUND: Duration = Duration::from_secs(6);

const CONNECTIONS: u32 = 8;

/// Messages a connection of the load sends ahead of their acknowledgements.
const WINDOW: u32 = 1_000;

const PATIENCE: Duration = Duration::from_mins(10);

/// Time between two looks at the memory.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// Most that the broker may grow while messages wait: what it accepts before it is on disk
/// (`--log-max-pending`, 32 MiB), and read buffers. What waits in the freeze is twice as much.
const BROKER_GROWTH: u64 = 40 << 20;

/// Most that a subscriber may grow: two batches (`--batch-bytes`, 16 MiB each).
const SUBSCRIBER_GROWTH: u64 = 32 << 20;

/// Resident memory of processes, and the most each has had.
struct Memory {
    before: BTreeMap<Part, u64>,
    peaks: BTreeMap<Part, u64>,
}

impl Memory {
    fn new(services: &mut Services) -> Self {
        let parts = [Part::Broker, Part::Subscriber(0), Part::Subscriber(1)];
        let before: BTreeMap<_, _> = parts
            .into_iter()
            .map(|part| (part, resident(services, part)))
            .collect();
        Self {
            peaks: before.clone(),
            before,
        }
    }

    fn sample(&mut self, services: &mut Services) {
        for (part, peak) in &mut self.peaks {
            *peak = (*peak).max(resident(services, *part));
        }
    }

    /// Returns by how many bytes each has grown at most.
    fn growth(&self) -> BTreeMap<Part, u64> {
        let grown = self
            .peaks
            .iter()
            .map(|(part, peak)| (*part, peak - self.before[part]));
        grown.collect()
    }
}

fn resident(services: &mut Services, part: Part) -> u64 {
    proc_stat::resident_bytes(services.process(part).unwrap().id()).unwrap()
}

/// The services under load, and how long their database is to stand still.
struct Trial {
    services: Services,
    memory: Memory,
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
            Ok(counts.filter(|counts| counts.positions > u64::from(RATE)))
        })
        .unwrap();
        Some(Self {
            memory: Memory::new(&mut services),
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
        let end = Instant::now() + self.freeze;
        while Instant::now() < end {
            self.memory.sample(&mut self.services);
            poll::pause(SAMPLE_EVERY);
        }
        let meanwhile = acknowledged(&self.services) - before;
        let running = self.load.is_running().unwrap();
        assert!(running, "the load ended before the freeze did");
        self.services.freeze(Part::Database, false).unwrap();
        meanwhile
    }

    /// Waits until the load is acknowledged and stored; returns how long that took.
    fn catch_up(&mut self) -> Duration {
        let start = Instant::now();
        poll::until("everything to be stored", PATIENCE, || {
            self.memory.sample(&mut self.services);
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
    let Some(mut trial) = Trial::start(test) else {
        return;
    };
    let acked_meanwhile = trial.freeze();
    let caught_up = trial.catch_up();
    let (memory, messages) = (trial.memory.growth(), trial.messages);
    println!(
        "frozen {:?} under a load of {messages}: {acked_meanwhile} acknowledged meanwhile, caught up {caught_up:?} \
         after, memory before {:?} grew by {memory:?}",
        trial.freeze, trial.memory.before,
    );
    let finished = trial.load.finish(PATIENCE).unwrap().success().unwrap();
    assert_eq!(Summary::read(&finished).unwrap().acked, messages);
    // More than could be on its way when the database stopped: the broker did not wait for it.
    assert!(acked_meanwhile > f64::from(CONNECTIONS * WINDOW));
    for (part, grown) in memory {
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
    let program = Programs::dev().unwrap().publisher;
    services_loop::verify(&services, &program, &trial.ledger).unwrap();
    services.stop().unwrap();
}

fn acknowledged(services: &Services) -> f64 {
    services
        .metric(Part::Broker, "broker_messages_acknowledged_total")
        .unwrap()
}
