//! Crashes by the hundred, over the whole of what is done to a lake: offload, commit, checkpoint, clean-up, watermark,
//! purge, compaction and vacuum, by one runner or by two at once who both believe that it is their turn.
//!
//! A crash is one of three: the call is not carried out and the process dies; it is carried out, its answer is lost, and
//! the process dies; its answer is lost and the process lives on. Rows come in between, late ones among them. After
//! each round the lake may lack rows but has none twice and none that was never stored; after the last run it has
//! every row that ever was stored, also those that were purged, once.
//!
//! The suite injects 300; `LASTMILE_LAKE_CRASHES=3000` sets another number. Three steps of the protocol are then broken on
//! purpose, one at a time, and each time the campaign must notice.

use std::collections::BTreeMap;
use std::sync::Arc;

use lake::storage::Storage;
use store::LakeTable;
use store::conformance::build::Chance;

use crate::compact::Numbers;
use crate::source::Lie;
use crate::storage::{Death, Faults, MemoryStorage, Mortal};
use crate::world::World;

/// Crashes of one world; then another begins, so that logs do not grow for ever.
const CRASHES_OF_A_WORLD: u64 = 25;

/// A step of the protocol that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// The last transaction is not looked at before a commit.
    Transaction,
    /// A window counts as verified as soon as it is planned: the watermark goes ahead of the commit, and the purge
    /// ahead of the reading back.
    Watermark,
    /// Rows are purged as soon as their window is planned.
    Purge,
}

struct Campaign {
    world: World,
    numbers: Numbers,
    chance: Chance,
    stored: i64,
    added: BTreeMap<(String, i64), u32>,
    next_number: i64,
    crashes: u64,
    died_in: BTreeMap<&'static str, u64>,
}

impl Campaign {
    fn new(seed: u64, broken: Broken) -> Self {
        let memory = MemoryStorage {
            forget_transactions: broken == Broken::Transaction,
            // Every other world's logs are cleaned up as soon as they may be.
            always_old: broken == Broken::Nothing && seed.is_multiple_of(2),
            ..MemoryStorage::default()
        };
        let storage: Arc<dyn Storage> = Arc::new(memory);
        let mut world = World::new(storage.clone());
        world.window_rows = 30;
        world.purge_after_us = Some(5_400_000_000);
        world.source.lie = match broken {
            Broken::Nothing | Broken::Transaction => Lie::None,
            Broken::Watermark => Lie::VerifiedWhenPlanned,
            Broken::Purge => Lie::PurgedWhenPlanned,
        };
        Self {
            world,
            numbers: Numbers::new(storage),
            chance: Chance::new(seed),
            stored: 0,
            added: BTreeMap::new(),
            next_number: 0,
            crashes: 0,
            died_in: BTreeMap::new(),
        }
    }

    async fn more(&mut self) {
        let count = i64::try_from(5 + self.chance.below(40)).unwrap();
        self.world.store(self.stored, count);
        self.stored += count;
        let day = u32::try_from(1 + self.chance.below(3)).unwrap();
        let numbers = self.next_number..self.next_number + 4;
        self.next_number = numbers.end;
        for number in numbers.clone() {
            self.added.insert((format!("2026-01-{day:02}"), number), 1);
        }
        self.numbers
            .add(day, numbers, self.chance.below(2) == 0)
            .await;
    }

    /// Says at which call of a run something happens, of all calls or of those that write, and what. Runs differ in
    /// length; most crashes are early, and some so late that there is none.
    fn crash(&mut self, faults: &Faults) -> (u64, Death) {
        let only_writes = self.chance.below(3) > 0;
        faults.set_only_writes(only_writes);
        let calls = if only_writes {
            [4, 15, 50]
        } else {
            [20, 60, 200]
        };
        let calls = calls[usize::try_from(self.chance.below(3)).unwrap()];
        let deaths = [Death::Before, Death::After, Death::Lost];
        let death = deaths[usize::try_from(self.chance.below(3)).unwrap()];
        (self.chance.below(calls), death)
    }

    /// Counts what happened to a process.
    fn count(&mut self, faults: &Faults) {
        if let Some(call) = faults.died_in() {
            self.crashes += 1;
            *self.died_in.entry(call).or_default() += 1;
        }
    }

    /// One or two processes run, and something happens to each.
    async fn offload(&mut self) {
        if self.chance.below(4) > 0 {
            let faults = self.world.faults.clone();
            let crash = self.crash(&faults);
            drop(self.world.run(Some(crash)).await);
            self.count(&faults);
            return;
        }
        let both = [Faults::default(), Faults::default()];
        for faults in &both {
            let crash = self.crash(faults);
            faults.restart(Some(crash));
            faults.set_pace(self.chance.below(4));
        }
        self.world.two_at_once(&both).await;
        for faults in &both {
            self.count(faults);
        }
    }

    /// A compaction with a vacuum, or two compactions at once.
    async fn compact(&mut self) {
        let at_work = 1 + self.chance.below(2);
        let mut storages = Vec::new();
        for _ in 0..at_work {
            let faults = Faults::default();
            let crash = self.crash(&faults);
            faults.restart(Some(crash));
            faults.set_pace(self.chance.below(4));
            let inner = self.numbers.storage.clone();
            let mortal = Mortal {
                inner,
                faults: faults.clone(),
            };
            let storage: Arc<dyn Storage> = Arc::new(mortal);
            storages.push((storage, faults));
        }
        if let [(one, _), (other, _)] = storages.as_slice() {
            let (one, other) = (self.numbers.compact(one), self.numbers.compact(other));
            let (one, other) = tokio::join!(one, other);
            drop((one, other));
        } else if let [(one, _)] = storages.as_slice() {
            drop(self.numbers.compact(one).await);
            drop(self.numbers.tidy(one).await);
        }
        for (_, faults) in storages {
            self.count(&faults);
        }
    }

    /// Returns what is wrong; `whole`: with everything that should be there by now.
    async fn wrong(&self, whole: bool) -> Vec<String> {
        let mut wrong = self.world.faults_found().await;
        if !whole {
            // What is not there yet is no fault.
            wrong.retain(|fault| !fault.contains("are not the") && !fault.contains("not verified"));
        }
        let mut numbers = BTreeMap::new();
        for found in self.numbers.sorted().await {
            *numbers.entry(found).or_insert(0) += 1;
        }
        if numbers != self.added {
            wrong.push("the compacted table holds other rows than were added".to_owned());
        }
        for table in LakeTable::ALL {
            if self.world.snapshot(table).await.rows() > self.world.stored(table) {
                wrong.push(format!("{table:?} has more rows than were stored"));
            }
        }
        wrong
    }
}

/// Injects crashes until there were `crashes`, or something is wrong; returns that, and where processes died.
async fn run(
    crashes: u64,
    seed: u64,
    broken: Broken,
) -> (Vec<String>, BTreeMap<&'static str, u64>, u64) {
    let (mut done, mut died_in) = (0, BTreeMap::new());
    for number in 0.. {
        let mut campaign = Campaign::new(seed + number, broken);
        let least = CRASHES_OF_A_WORLD.min(crashes - done);
        let mut rounds = 0;
        // Also the run that is not disturbed may trip over what was broken.
        let mut broke = None;
        while campaign.crashes < least && broke.is_none() {
            rounds += 1;
            campaign.more().await;
            if campaign.chance.below(4) == 0
                && let Err(error) = campaign.world.run(None).await
            {
                broke = Some(vec![format!("an undisturbed run failed: {error}")]);
                continue;
            }
            if campaign.chance.below(3) == 0 {
                campaign.compact().await;
            } else {
                campaign.offload().await;
            }
            let wrong = campaign.wrong(false).await;
            broke = (!wrong.is_empty()).then_some(wrong);
            assert!(rounds < 1_000, "nothing crashes any more");
        }
        let mut wrong = broke.unwrap_or_default();
        for _ in 0..4 {
            if wrong.is_empty()
                && let Err(error) = campaign.world.run(None).await
            {
                wrong.push(format!("the last run failed: {error}"));
            }
        }
        if wrong.is_empty() {
            let storage = campaign.numbers.storage.clone();
            campaign.numbers.tidy(&storage).await.unwrap();
            campaign.numbers.compact(&storage).await.unwrap();
            wrong = campaign.wrong(true).await;
        }
        done += campaign.crashes;
        for (call, times) in campaign.died_in {
            *died_in.entry(call).or_default() += times;
        }
        if !wrong.is_empty() {
            wrong.insert(0, format!("seed {}", seed + number));
            return (wrong, died_in, done);
        }
        if done >= crashes {
            break;
        }
    }
    (Vec::new(), died_in, done)
}

fn crashes() -> u64 {
    let given = std::env::var("LASTMILE_LAKE_CRASHES").ok();
    given.map_or(300, |crashes| crashes.parse().unwrap())
}

#[tokio::test]
async fn whatever_crashes_every_row_is_in_the_lake_once() {
    let seed = 20_261_121;
    let (wrong, died_in, done) = run(crashes(), seed, Broken::Nothing).await;
    println!("{done} crashes from seed {seed}: {died_in:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(done >= crashes());
    for call in [
        "put",
        "put_if_absent",
        "advance_window",
        "plan_window",
        "get",
        "purge",
        "delete",
    ] {
        assert!(died_in.contains_key(call), "never in {call}: {died_in:?}");
    }
}

/// Negative controls: each step that is left out is noticed.
#[tokio::test]
async fn a_step_left_out_is_noticed() {
    for broken in [Broken::Transaction, Broken::Watermark, Broken::Purge] {
        let (wrong, _, done) = run(300, 7, broken).await;
        println!("{broken:?} noticed after {done} crashes: {wrong:?}");
        assert!(!wrong.is_empty(), "{broken:?} went unnoticed");
    }
}
