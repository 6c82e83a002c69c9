//! The loop over seeds and operations.

use std::io;

use super::life::{Life, open};
use super::model::{Model, Promise};
use crate::SyncMode;
use crate::record::sabotage;
use crate::sim::{Crash, Random, SimDisk};

/// What the test is run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    None,
    IgnoreSyncs,
    IgnoreCrc,
    AckBeforeWrite,
}

#[derive(Debug)]
pub(super) struct Campaign {
    pub(super) points: u64,
    pub(super) sabotage: Sabotage,
    pub(super) promise: Promise,
}

/// What was tried.
#[derive(Debug, Default)]
pub(super) struct Tried {
    pub(super) seeds: u64,
    pub(super) crashes: u64,
    pub(super) crashes_while_opening: u64,
    pub(super) failed_operations: u64,
}

/// What stops a life.
#[derive(Debug, Clone, Copy)]
enum Blow {
    /// The machine goes off at this operation.
    Crash(u64),
    /// This operation fails, and the process ends some time later.
    Fail(u64, io::ErrorKind),
}

impl Campaign {
    pub(super) fn new(points: u64) -> Self {
        Self {
            points,
            sabotage: Sabotage::None,
            promise: Promise::Acknowledged,
        }
    }

    fn sync(&self) -> SyncMode {
        match self.promise {
            Promise::Acknowledged => SyncMode::Fdatasync,
            Promise::AcknowledgedWithLeaps | Promise::NoInvention => SyncMode::OsBuffer,
        }
    }

    fn crash(&self, chance: &mut Random) -> Crash {
        if self.promise != Promise::AcknowledgedWithLeaps && chance.coin() {
            Crash::Power
        } else {
            Crash::Process
        }
    }
}

/// Runs lives until enough crashes were tried; returns the first violation with what repeats it.
pub(super) fn points(campaign: &Campaign) -> Result<Tried, String> {
    sabotage::CRC_OFF.set(campaign.sabotage == Sabotage::IgnoreCrc);
    let mut tried = Tried::default();
    while tried.crashes < campaign.points {
        let seed = tried.seeds;
        tried.seeds += 1;
        let operations = count_operations(seed, campaign.sync());
        for nth in 1..=operations {
            let error = if seed.is_multiple_of(2) {
                io::ErrorKind::Other
            } else {
                io::ErrorKind::StorageFull
            };
            for blow in [Blow::Crash(nth), Blow::Fail(nth, error)] {
                one(campaign, seed, blow, &mut tried).map_err(|violation| {
                    format!("seed {seed}, {blow:?} of {operations}: {violation}")
                })?;
            }
        }
    }
    sabotage::CRC_OFF.set(false);
    Ok(tried)
}

const EVENTS: usize = 40;

/// Returns how many operations the life of a seed takes when nothing goes wrong.
fn count_operations(seed: u64, sync: SyncMode) -> u64 {
    let disk = SimDisk::new(seed);
    let mut model = Model::default();
    let opened = open(&disk, sync).expect("a sound disk opens");
    let mut life = Life::new(opened, &mut model, false);
    let lived = life.live(EVENTS, &mut Random::new(seed));
    lived.unwrap_or_else(|violation| panic!("seed {seed} without a crash: {violation}"));
    disk.operations()
}

/// One life that ends by `blow`, then lives and crashes at random until the final judgement.
fn one(campaign: &Campaign, seed: u64, blow: Blow, tried: &mut Tried) -> Result<(), String> {
    let mut disk = SimDisk::new(seed);
    disk.ignore_syncs(campaign.sabotage == Sabotage::IgnoreSyncs);
    let early = campaign.sabotage == Sabotage::AckBeforeWrite;
    let salt = match blow {
        Blow::Crash(nth) => {
            disk.crash_at(nth);
            nth
        }
        Blow::Fail(nth, error) => {
            disk.fail_at(nth, error);
            tried.failed_operations += 1;
            nth << 32
        }
    };
    let mut model = Model::new(campaign.promise);
    let mut chance = Random::new(seed ^ salt.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut script = Random::new(seed);
    // Further lives follow, each crashing anywhere, the last one only judged.
    for left in (0..4_u32).rev() {
        let opened = match open(&disk, campaign.sync()) {
            Ok(opened) => Some(opened),
            Err(_) if disk.is_off() => {
                tried.crashes_while_opening += 1;
                None
            }
            // A new log whose making failed.
            Err(_) if matches!(blow, Blow::Fail(..)) && left == 3 => None,
            Err(error) => return Err(format!("does not open: {error}")),
        };
        if let Some(opened) = opened {
            model.judge(&opened.0)?;
            if left > 0 {
                Life::new(opened, &mut model, early).live(EVENTS, &mut script)?;
            }
        }
        tried.crashes += 1;
        disk = disk.reboot(campaign.crash(&mut chance));
        script = Random::new(chance.bits());
        if left > 1 {
            // Opening takes few operations, and each deserves its share.
            let reach = if chance.coin() { 8 } else { 60 };
            disk.crash_at(1 + chance.below(reach) as u64);
        }
    }
    Ok(())
}
