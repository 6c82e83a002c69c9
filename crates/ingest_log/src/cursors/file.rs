//! The cursor file: two slots, written in turn.
//!
//! Each slot, `cursors.a` and `cursors.b`, holds all cursors with a generation number and a CRC. A
//! persist overwrites the older slot and syncs it, so a torn write can only hit a slot that the other
//! one outdates, and one sync suffices: no rename, no folder sync. The slots also carry the log's
//! identity; they are made with the log, before its first segment.
//!
//! ```text
//! 0   8  magic "LMCURSOR"
//! 8   4  u32 format version, 1
//! 12  4  u32 CRC-32 of bytes 16 to the end of the body
//! 16 16  log id
//! 32  8  u64 salt
//! 40  8  u64 generation
//! 48  4  u32 number of cursors
//! 52  4  u32 length of the body; anything behind it is left from an earlier, longer body
//! 56     body, for each cursor: u16 name length, u8 flags (1: pins), u64 next, u32 meta length, name, meta
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{Cursor, CursorMap};
use crate::LogError;
use crate::disk::{Disk, File};
use crate::segment::Identity;
use crate::wire::{array_at, length, u16_at, u32_at, u64_at};

const MAGIC: [u8; 8] = *b"LMCURSOR";
/// Version of this file's format.
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 56;
const ENTRY_FIXED_BYTES: usize = 15;
const PINS: u8 = 1;
const SLOTS: [&str; 2] = ["cursors.a", "cursors.b"];

/// The two slots of a log, open.
#[derive(Debug)]
pub(crate) struct CursorFile {
    slots: [(PathBuf, Arc<dyn File>); 2],
    pub(crate) identity: Identity,
    generation: u64,
}

/// What a slot holds.
#[derive(Debug)]
struct Slot {
    identity: Identity,
    generation: u64,
    cursors: CursorMap,
}

impl CursorFile {
    /// Opens the slots and reads the newer valid one; `None` when there is no valid slot.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<Option<(Self, CursorMap)>, LogError> {
        let mut files = Vec::new();
        let mut newest: Option<Slot> = None;
        for name in SLOTS {
            let path = dir.join(name);
            let file = match disk.open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(LogError::io("open", &path, error)),
            };
            let slot = read_slot(&path, file.as_ref())?;
            files.push((path, file));
            newest = match (newest, slot) {
                (Some(a), Some(b)) if a.identity != b.identity => {
                    let path = dir.join(name);
                    return Err(LogError::corrupt(&path, 16, "it belongs to another log"));
                }
                (Some(a), Some(b)) if a.generation < b.generation => Some(b),
                (a, b) => a.or(b),
            };
        }
        let Some(slot) = newest else { return Ok(None) };
        let slots = files.try_into().map_err(|_| {
            let reason = "one of the two cursor files is missing";
            LogError::corrupt(&dir.join(SLOTS[0]), 0, reason)
        })?;
        let file = Self {
            slots,
            identity: slot.identity,
            generation: slot.generation,
        };
        Ok(Some((file, slot.cursors)))
    }

    /// Makes both slots for a new log, durably.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        identity: Identity,
    ) -> Result<Self, LogError> {
        let create = |name: &str| {
            let path = dir.join(name);
            let file = disk.create(&path);
            let file = file.map_err(|error| LogError::io("create", &path, error))?;
            Ok::<_, LogError>((path, file))
        };
        let mut file = Self {
            slots: [create(SLOTS[0])?, create(SLOTS[1])?],
            identity,
            generation: 0,
        };
        let synced = disk.sync_dir(dir);
        synced.map_err(|error| LogError::io("sync", dir, error))?;
        file.write(&BTreeMap::new())?;
        Ok(file)
    }

    /// Writes all cursors into the older slot and syncs it.
    pub(crate) fn write(&mut self, cursors: &CursorMap) -> Result<(), LogError> {
        self.write_as(self.generation + 1, cursors)?;
        self.generation += 1;
        Ok(())
    }

    /// Writes what was read at open once more, in place.
    ///
    /// The slot may have been read from memory that never reached the disk: its writer may have been
    /// killed before the sync, or the sync may have failed. The other slot stays as it is meanwhile.
    pub(crate) fn settle(&mut self, cursors: &CursorMap) -> Result<(), LogError> {
        self.write_as(self.generation, cursors)
    }

    fn write_as(&self, generation: u64, cursors: &CursorMap) -> Result<(), LogError> {
        let (path, file) = &self.slots[usize::from(generation.is_multiple_of(2))];
        let bytes = encode(self.identity, generation, cursors)
            .ok_or_else(|| LogError::corrupt(path, 0, "the cursors take more than 4 GiB"))?;
        let written = file.write_at(&bytes, 0);
        written.map_err(|error| LogError::io("write", path, error))?;
        let synced = file.sync_data();
        synced.map_err(|error| LogError::io("sync", path, error))
    }
}

fn encode(identity: Identity, generation: u64, cursors: &CursorMap) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    for (name, cursor) in cursors {
        body.extend_from_slice(&u16::try_from(name.len()).ok()?.to_le_bytes());
        body.push(if cursor.pins { PINS } else { 0 });
        body.extend_from_slice(&cursor.next.to_le_bytes());
        body.extend_from_slice(&u32::try_from(cursor.meta.len()).ok()?.to_le_bytes());
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&cursor.meta);
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&identity.id);
    bytes.extend_from_slice(&identity.salt.to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(cursors.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(body.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&body);
    let crc = crc32fast::hash(&bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    Some(bytes)
}

fn read_slot(path: &Path, file: &dyn File) -> Result<Option<Slot>, LogError> {
    let io_error = |error| LogError::io("read", path, error);
    let len = file.len().map_err(io_error)?;
    let mut bytes = vec![0; length(len)];
    let read = file.read_at(&mut bytes, 0).map_err(io_error)?;
    bytes.truncate(read);
    if bytes.len() < HEADER_BYTES || bytes[..8] != MAGIC {
        return Ok(None);
    }
    let found = u32_at(&bytes, 8);
    if found != FORMAT_VERSION && found != 0 {
        return Err(LogError::Version {
            path: path.to_owned(),
            found,
            supported: FORMAT_VERSION,
        });
    }
    let end = HEADER_BYTES + u32_at(&bytes, 52) as usize;
    if bytes.len() < end || crc32fast::hash(&bytes[16..end]) != u32_at(&bytes, 12) {
        return Ok(None);
    }
    let cursors = decode_body(&bytes[HEADER_BYTES..end], u32_at(&bytes, 48));
    let cursors = cursors.ok_or_else(|| {
        LogError::corrupt(
            path,
            HEADER_BYTES as u64,
            "its CRC is right and its content is not",
        )
    })?;
    Ok(Some(Slot {
        identity: Identity {
            id: array_at(&bytes, 16),
            salt: u64_at(&bytes, 32),
        },
        generation: u64_at(&bytes, 40),
        cursors,
    }))
}

fn decode_body(mut body: &[u8], count: u32) -> Option<CursorMap> {
    let mut cursors = BTreeMap::new();
    for _ in 0..count {
        let (fixed, rest) = body.split_at_checked(ENTRY_FIXED_BYTES)?;
        let (name, rest) = rest.split_at_checked(usize::from(u16_at(fixed, 0)))?;
        let (meta, rest) = rest.split_at_checked(u32_at(fixed, 11) as usize)?;
        let cursor = Cursor {
            next: u64_at(fixed, 3),
            meta: Bytes::copy_from_slice(meta),
            pins: fixed[2] & PINS != 0,
        };
        cursors.insert(str::from_utf8(name).ok()?.to_owned(), cursor);
        body = rest;
    }
    body.is_empty().then_some(cursors)
}
