//! A simulated disk, for tests: it forgets, tears and refuses what a real one may.
//!
//! It keeps the volatile and the durable state of each file and of each folder entry. What a crash leaves
//! is drawn from a seed, so every run can be repeated:
//!
//! - [`Crash::Process`]: the process is killed. Everything written stays readable and is as little
//!   durable as before.
//! - [`Crash::Power`]: what was synced stays. Of the rest each file keeps nothing, all, a prefix, or any
//!   512-byte sectors, the last of them torn at any byte. Entries that were made or removed since their
//!   folder's sync are each kept or undone.
//! - A failed sync loses what it was to sync in the same way, and later syncs do not bring it back,
//!   while reads still show it: that is what Linux does.
//!
//! It assumes what the log assumes: a write never changes bytes outside its range, even when torn.

mod inode;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskLock, File};
use crate::sync::lock;
use inode::Inode;

pub use random::Random;

/// How the machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`: memory of the operating system survives.
    Process,
    /// Power loss: only what was synced is sure to survive.
    Power,
}

/// A simulated disk; clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Debug, Clone)]
struct World {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    locks: BTreeSet<PathBuf>,
    random: Random,
    /// Operations so far that change something.
    operations: u64,
    off: bool,
    faults: Faults,
}

#[derive(Debug, Clone, Default)]
struct Faults {
    crash_at: Option<u64>,
    fail_at: BTreeMap<u64, io::ErrorKind>,
    fail_syncs: bool,
    ignore_syncs: bool,
    capacity: Option<u64>,
}

#[derive(Debug)]
struct SimFile {
    world: Arc<Mutex<World>>,
    inode: usize,
}

#[derive(Debug)]
struct SimLock {
    world: Arc<Mutex<World>>,
    path: PathBuf,
}

impl SimDisk {
    /// Makes an empty disk.
    pub fn new(seed: u64) -> Self {
        Self::of(World {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            locks: BTreeSet::new(),
            random: Random::new(seed),
            operations: 0,
            off: false,
            faults: Faults::default(),
        })
    }

    fn of(world: World) -> Self {
        Self {
            world: Arc::new(Mutex::new(world)),
        }
    }

    /// Turns the machine off during the n-th operation from now, counted from one, that changes
    /// something: it may still happen, but nobody learns of it, and nothing works any more.
    pub fn crash_at(&self, nth: u64) {
        let mut world = lock(&self.world);
        world.faults.crash_at = Some(world.operations + nth);
    }

    /// Makes the n-th operation from now, counted from one, that changes something fail. A write may be
    /// done in part; a sync loses what it was to sync.
    pub fn fail_at(&self, nth: u64, error: io::ErrorKind) {
        let mut world = lock(&self.world);
        let at = world.operations + nth;
        world.faults.fail_at.insert(at, error);
    }

    /// Makes all syncs of files fail, or work again.
    pub fn fail_syncs(&self, fail: bool) {
        lock(&self.world).faults.fail_syncs = fail;
    }

    /// Makes syncs do nothing and say they did: the negative control of every test of durability.
    pub fn ignore_syncs(&self, ignore: bool) {
        lock(&self.world).faults.ignore_syncs = ignore;
    }

    /// Bounds the bytes that all files may take together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        lock(&self.world).faults.capacity = bytes;
    }

    /// Returns how many operations changed something so far.
    pub fn operations(&self) -> u64 {
        lock(&self.world).operations
    }

    /// Tells whether the machine is off.
    pub fn is_off(&self) -> bool {
        lock(&self.world).off
    }

    /// Returns the disk as the next process finds it; this one stops working. All faults are gone, except
    /// that syncs stay ignored.
    #[must_use]
    pub fn reboot(&self, crash: Crash) -> Self {
        let mut world = lock(&self.world);
        world.off = true;
        let mut next = world.clone();
        drop(world);
        next.off = false;
        next.locks.clear();
        next.faults = Faults {
            ignore_syncs: next.faults.ignore_syncs,
            ..Faults::default()
        };
        if crash == Crash::Power {
            next.lose_power();
        }
        Self::of(next)
    }

    /// Changes a byte of a file where it lies, as a decaying disk does.
    ///
    /// # Panics
    /// When there is no such file or byte.
    pub fn flip_bits(&self, path: &Path, at: u64, mask: u8) {
        let mut world = lock(&self.world);
        let inode = *world.names.get(path).expect("the file exists");
        world.inodes[inode].flip_bits(at, mask);
    }
}

impl World {
    fn lose_power(&mut self) {
        for inode in &mut self.inodes {
            inode.lose_power(&mut self.random);
        }
        let paths: BTreeSet<PathBuf> = self
            .names
            .keys()
            .chain(self.durable_names.keys())
            .cloned()
            .collect();
        for path in paths {
            let (now, durable) = (self.names.get(&path), self.durable_names.get(&path));
            if now == durable || self.random.coin() {
                continue;
            }
            match durable.copied() {
                Some(inode) => self.names.insert(path, inode),
                None => self.names.remove(&path),
            };
        }
        self.durable_names = self.names.clone();
    }

    fn used(&self) -> u64 {
        let lens = self.names.values().map(|&inode| self.inodes[inode].len());
        lens.sum()
    }

    /// Refuses to let a file grow beyond the disk.
    fn check_space(&self, inode: usize, len: u64) -> io::Result<()> {
        let growth = len.saturating_sub(self.inodes[inode].len());
        match self.faults.capacity {
            Some(capacity) if growth > 0 && self.used() + growth > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

fn machine_is_off() -> io::Error {
    io::Error::other("the simulated machine is off")
}

/// Runs an operation that changes something, unless a fault is due. `fail` does what a failure of it
/// still does.
fn operate<T>(
    world: &Mutex<World>,
    fail: impl FnOnce(&mut World),
    perform: impl FnOnce(&mut World) -> io::Result<T>,
) -> io::Result<T> {
    let mut world = lock(world);
    if world.off {
        return Err(machine_is_off());
    }
    world.operations += 1;
    let now = world.operations;
    if world.faults.crash_at == Some(now) {
        if world.random.coin() {
            perform(&mut world)?;
        }
        world.off = true;
        return Err(machine_is_off());
    }
    if let Some(error) = world.faults.fail_at.remove(&now) {
        fail(&mut world);
        return Err(error.into());
    }
    perform(&mut world)
}

fn nothing(_: &mut World) {}

impl Disk for SimDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        // Folders are not simulated: a name's folder is part of the name.
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let world = lock(&self.world);
        if world.off {
            return Err(machine_is_off());
        }
        let inode = world.names.get(path).copied();
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(inode))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let inode = operate(&self.world, nothing, |world| {
            if let Some(&inode) = world.names.get(path) {
                world.inodes[inode].set_len(0);
                return Ok(inode);
            }
            world.inodes.push(Inode::default());
            let inode = world.inodes.len() - 1;
            world.names.insert(path.to_owned(), inode);
            Ok(inode)
        })?;
        Ok(self.file(inode))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        operate(&self.world, nothing, |world| {
            let removed = world.names.remove(path);
            removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = lock(&self.world);
        if world.off {
            return Err(machine_is_off());
        }
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name()?.to_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        operate(&self.world, nothing, |world| {
            if !world.faults.ignore_syncs {
                let is_elsewhere = |path: &Path| path.parent() != Some(dir);
                world.durable_names.retain(|path, _| is_elsewhere(path));
                let inside = world.names.iter().filter(|(path, _)| !is_elsewhere(path));
                world
                    .durable_names
                    .extend(inside.map(|(path, &inode)| (path.clone(), inode)));
            }
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        if !lock(&self.world).locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock {
            world: Arc::clone(&self.world),
            path: path.to_owned(),
        }))
    }
}

impl SimDisk {
    fn file(&self, inode: usize) -> Arc<dyn File> {
        Arc::new(SimFile {
            world: Arc::clone(&self.world),
            inode,
        })
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let world = lock(&self.world);
        if world.off {
            return Err(machine_is_off());
        }
        Ok(world.inodes[self.inode].read_at(buffer, at))
    }

    fn write_at(&self, buffer: &[u8], at: u64) -> io::Result<()> {
        let part = |world: &mut World| {
            let part = world.random.below(buffer.len() + 1);
            world.inodes[self.inode].write(&buffer[..part], at);
        };
        operate(&self.world, part, |world| {
            world.check_space(self.inode, at + buffer.len() as u64)?;
            world.inodes[self.inode].write(buffer, at);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let lose = |world: &mut World| world.inodes[self.inode].fail_sync(&mut world.random);
        operate(&self.world, lose, |world| {
            if world.faults.fail_syncs {
                world.inodes[self.inode].fail_sync(&mut world.random);
                return Err(io::Error::other("the simulated disk failed to sync"));
            }
            if !world.faults.ignore_syncs {
                world.inodes[self.inode].sync();
            }
            Ok(())
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        operate(&self.world, nothing, |world| {
            world.inodes[self.inode].set_len(len);
            Ok(())
        })
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        operate(&self.world, nothing, |world| {
            world.check_space(self.inode, len)?;
            world.inodes[self.inode].grow(len);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.world).inodes[self.inode].len())
    }
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        lock(&self.world).locks.remove(&self.path);
    }
}
