//! One simulated file: what reads show, what is durable, and what lies between.

use super::random::Random;
use crate::wire::length;

const SECTOR_BYTES: usize = 512;

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    volatile: Vec<u8>,
    durable: Vec<u8>,
    /// Changes since the last sync, in order.
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: u64, bytes: Vec<u8> },
    SetLen(u64),
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.volatile.len() as u64
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> usize {
        let from = length(at).min(self.volatile.len());
        let read = buffer.len().min(self.volatile.len() - from);
        buffer[..read].copy_from_slice(&self.volatile[from..from + read]);
        read
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: u64) {
        overwrite(&mut self.volatile, at, bytes);
        self.pending.push(Change::Write {
            at,
            bytes: bytes.to_vec(),
        });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.volatile.resize(length(len), 0);
        self.pending.push(Change::SetLen(len));
    }

    pub(super) fn grow(&mut self, len: u64) {
        if len > self.len() {
            self.set_len(len);
        }
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &change);
        }
    }

    /// Loses what was to be synced, for good; reads still show it.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        self.settle(random);
    }

    pub(super) fn lose_power(&mut self, random: &mut Random) {
        self.settle(random);
        self.volatile.clone_from(&self.durable);
    }

    pub(super) fn flip_bits(&mut self, at: u64, mask: u8) {
        self.volatile[length(at)] ^= mask;
        self.durable[length(at)] ^= mask;
    }

    /// Lets some of the pending changes reach the disk and forgets the others.
    fn settle(&mut self, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        match random.below(4) {
            0 => {}
            1 => pending.iter().for_each(|c| apply(&mut self.durable, c)),
            2 => self.apply_prefix(&pending, random),
            _ => self.apply_sectors(&pending, random),
        }
    }

    /// In order up to some change, and that one up to some byte.
    fn apply_prefix(&mut self, pending: &[Change], random: &mut Random) {
        let whole = random.below(pending.len() + 1);
        for change in &pending[..whole] {
            apply(&mut self.durable, change);
        }
        if let Some(Change::Write { at, bytes }) = pending.get(whole) {
            let torn = random.below(bytes.len() + 1);
            overwrite(&mut self.durable, *at, &bytes[..torn]);
        }
    }

    /// Any sectors of any change; some of them torn.
    fn apply_sectors(&mut self, pending: &[Change], random: &mut Random) {
        for change in pending {
            let Change::Write { at, bytes } = change else {
                if random.coin() {
                    apply(&mut self.durable, change);
                }
                continue;
            };
            let (mut at, mut rest) = (*at, &bytes[..]);
            while !rest.is_empty() {
                let in_sector = SECTOR_BYTES - length(at) % SECTOR_BYTES;
                let (sector, behind) = rest.split_at(rest.len().min(in_sector));
                match random.below(8) {
                    0..4 => overwrite(&mut self.durable, at, sector),
                    4 => {
                        let torn = random.below(sector.len() + 1);
                        overwrite(&mut self.durable, at, &sector[..torn]);
                    }
                    _ => {}
                }
                at += sector.len() as u64;
                rest = behind;
            }
        }
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes } => overwrite(content, *at, bytes),
        Change::SetLen(len) => content.resize(length(*len), 0),
    }
}

fn overwrite(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let (from, to) = (length(at), length(at) + bytes.len());
    if content.len() < to {
        content.resize(to, 0);
    }
    content[from..to].copy_from_slice(bytes);
}
