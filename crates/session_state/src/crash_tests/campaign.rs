//! The loop over seeds and operations, and the judgement.

use ingest_log::sim::{Crash, Random, SimDisk};

use super::broker::Broker;
use super::clients::{Subscriber, World};
use crate::store::checkpoint::sabotage;

/// What the test is run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    None,
    IgnoreSyncs,
    DigestNothing,
    CompleteEarly,
    SendEarly,
    ReleaseEarly,
    ShareEarly,
    ReleaseSharedEarly,
    KeepEarly,
}

#[derive(Debug)]
pub(super) struct Campaign {
    pub(super) first_seed: u64,
    pub(super) points: u64,
    pub(super) sabotage: Sabotage,
}

/// What was tried.
#[derive(Debug, Default)]
pub(super) struct Tried {
    pub(super) seeds: u64,
    pub(super) crashes: u64,
    pub(super) crashes_while_opening: u64,
    pub(super) messages: u64,
}

const EVENTS: usize = 60;
/// Crash points tried of each seed: more seeds find more than every point of few.
const POINTS_PER_SEED: u64 = 40;

/// Runs lives until enough crashes were tried; returns the first violation with what repeats it.
pub(super) fn points(campaign: &Campaign) -> Result<Tried, String> {
    sabotage::DIGESTS_NOTHING.set(campaign.sabotage == Sabotage::DigestNothing);
    let mut tried = Tried::default();
    while tried.crashes < campaign.points {
        let seed = campaign.first_seed + tried.seeds;
        tried.seeds += 1;
        let operations = count_operations(seed)?;
        let step = (operations / POINTS_PER_SEED).max(1);
        let mut nth = 1 + seed % step;
        while nth <= operations {
            one(campaign, seed, nth, &mut tried).map_err(|violation| {
                format!("seed {seed}, crash {nth} of {operations}: {violation}")
            })?;
            nth += step;
        }
    }
    sabotage::DIGESTS_NOTHING.set(false);
    Ok(tried)
}

/// Returns how many operations the life of a seed takes when nothing goes wrong.
fn count_operations(seed: u64) -> Result<u64, String> {
    let (disk, mut world) = (SimDisk::new(seed), World::default());
    let mut broker = Broker::open(&disk, Sabotage::None)?;
    broker.live(EVENTS, &mut Random::new(seed), &mut world)?;
    Ok(disk.operations())
}

/// A life that ends at an operation, then further ones that crash anywhere, and one that comes to its end.
fn one(campaign: &Campaign, seed: u64, nth: u64, tried: &mut Tried) -> Result<(), String> {
    let mut disk = SimDisk::new(seed);
    disk.ignore_syncs(campaign.sabotage == Sabotage::IgnoreSyncs);
    disk.crash_at(nth);
    let mut chance = Random::new(seed ^ nth.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let (mut script, mut world) = (Random::new(seed), World::default());
    for left in (0..4_u32).rev() {
        match Broker::open(&disk, campaign.sabotage) {
            Ok(broker) => {
                judge_retained(&broker, &world)?;
                let mut broker = broker;
                if left == 0 {
                    broker.finish(&mut world)?;
                } else {
                    broker.live(EVENTS, &mut script, &mut world)?;
                }
            }
            Err(_) if disk.is_off() => tried.crashes_while_opening += 1,
            Err(error) => return Err(format!("does not open: {error}")),
        }
        if left == 0 {
            break;
        }
        tried.crashes += 1;
        let crash = if chance.coin() {
            Crash::Power
        } else {
            Crash::Process
        };
        disk = disk.reboot(crash);
        script = Random::new(chance.bits());
        if left > 1 {
            let reach = if chance.coin() { 12 } else { 80 };
            disk.crash_at(1 + chance.below(reach) as u64);
        }
    }
    tried.messages += world.next_number;
    judge(&world)
}

/// A retained message is the one acknowledged last, or one published after it.
fn judge_retained(broker: &Broker, world: &World) -> Result<(), String> {
    let found = broker.retained();
    for (topic, (acknowledged, published)) in &world.retained {
        let there = found.get(topic).copied();
        if there < *acknowledged || there.is_some_and(|there| !published.contains(&there)) {
            return Err(format!(
                "topic {topic} retains {there:?}, acknowledged was {acknowledged:?}, published {published:?}"
            ));
        }
    }
    Ok(())
}

fn judge(world: &World) -> Result<(), String> {
    for number in 1..=world.next_number {
        let delivered = world.subscriber.delivered.get(&number).copied();
        if delivered != Some(1) {
            let acknowledged = world.acknowledged.contains(&number);
            return Err(format!(
                "message {number} arrived {delivered:?} times; acknowledged: {acknowledged}"
            ));
        }
        judge_others(world, number)?;
    }
    Ok(())
}

/// One member of the group got the message, and who gets what is retained got it once, if it was retained last.
fn judge_others(world: &World, number: u64) -> Result<(), String> {
    let [members @ .., keeper] = &world.others;
    let delivered = |who: &Subscriber| who.delivered.get(&number).copied().unwrap_or_default();
    let refused = |who: &Subscriber| who.refused.contains(&number);
    let shared = members.iter().map(delivered).sum::<u32>();
    if shared > 1 || shared == 0 && !members.iter().any(refused) {
        return Err(format!("message {number} came to the group {shared} times"));
    }
    let kept = delivered(keeper);
    let must = world.last_retained.contains(&number) && !refused(keeper);
    if kept > 1 || must && kept == 0 {
        return Err(format!("message {number}, retained, came {kept} times"));
    }
    Ok(())
}
