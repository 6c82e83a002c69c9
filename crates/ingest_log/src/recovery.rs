//! Opening: proves the log complete, cuts the torn tail, and says what it found.
//!
//! Everything is checked before anything is changed. What counts as torn, and may be cut, is only what
//! a crash can leave: the end of the last segment that has a header, and files behind it whose first
//! group never became durable. Everything else that does not fit is [`LogError::Corrupt`].
//!
//! A damaged record is told apart from a torn one by what follows it: a group is written only after the
//! group before it was synced, so a group behind the damage proves that the damaged one was durable.

mod scan;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cursors::file::CursorFile;
use crate::cursors::{CursorMap, floor};
use crate::disk::{Disk, File};
use crate::segment::{self, Beginning, FORMAT_VERSION, HEADER_BYTES, HEADER_END, Header};
use crate::segment::{Identity, Segment};
use crate::writer::Tail;
use crate::{LogConfig, LogError};

use scan::{Scan, scan, survey};

/// What opening a log found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether the log is new.
    pub created: bool,
    /// Segments that hold records.
    pub segments: usize,
    /// First sequence held.
    pub first: u64,
    /// The sequence that the next record gets.
    pub next: u64,
    /// Records of the last segment, which were read and checked.
    pub scanned_records: u64,
    /// Bytes of a torn, never acknowledged write that were cut.
    pub cut_bytes: u64,
    /// How long opening took.
    pub elapsed: Duration,
}

/// A log as found on disk, ready to be written.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) identity: Identity,
    pub(crate) cursor_file: CursorFile,
    pub(crate) cursors: CursorMap,
    pub(crate) segments: VecDeque<Arc<Segment>>,
    pub(crate) tail: Tail,
    pub(crate) next_ordinal: u64,
    pub(crate) report: OpenReport,
}

/// A segment file that has a valid header.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    file: Arc<dyn File>,
    pub(crate) header: Header,
    file_len: u64,
}

/// The segment files of a folder.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// Oldest first, each sealed by its successor.
    pub(crate) found: Vec<Found>,
    /// Files behind them without a header.
    void: Vec<(PathBuf, Arc<dyn File>)>,
}

/// How far the sequences of a log move on when the segment before was not synced: sequences that were
/// given out and lost must not be given out again, since consumers may have seen them. No power loss
/// takes four billion records that were still in memory.
const LEAP: u64 = 1 << 32;

/// Recovers the log in `config.dir`, or makes it.
pub(crate) fn recover(disk: &dyn Disk, config: &LogConfig) -> Result<Recovered, LogError> {
    let started = Instant::now();
    let dir = &config.dir;
    let opened = CursorFile::open(disk, dir)?;
    let inventory = Inventory::take(disk, dir)?;
    let created = opened.is_none();
    let (mut cursor_file, cursors) = match opened {
        Some(opened) => opened,
        None => (create(disk, dir, &inventory)?, CursorMap::new()),
    };
    let identity = cursor_file.identity;
    inventory.check_chain(identity)?;

    let last = inventory.found.last();
    let scan = last.map(|last| last.scan(identity)).transpose()?;
    let scan = scan.unwrap_or_default();
    let unsynced = last.is_some_and(|last| last.header.unsynced);
    let first = inventory.found.first().map_or(0, |first| first.header.base);
    check_cursors(dir, &cursors, first, scan.end, unsynced)?;
    let mut cut_bytes = scan.torn_bytes;
    for (path, file) in &inventory.void {
        cut_bytes += survey_void(path, file.as_ref(), scan.end, identity.salt)?;
    }

    // From here on things are changed.
    cursor_file.settle(&cursors)?;
    if let Some(last) = last {
        last.settle(&scan)?;
    }
    for (path, _) in &inventory.void {
        let removed = disk.remove(path);
        removed.map_err(|error| LogError::io("remove", path, error))?;
    }
    // Also when nothing was removed now: an earlier process may have been killed between a deletion and
    // its sync, and an old segment that comes back later, when the one behind it is gone, leaves a gap.
    let synced = disk.sync_dir(dir);
    synced.map_err(|error| LogError::io("sync", dir, error))?;

    let next = if unsynced {
        let ahead = cursors.values().map(|cursor| cursor.next).max();
        scan.end.max(ahead.unwrap_or(0)) + LEAP
    } else {
        scan.end
    };
    Ok(Recovered {
        identity,
        next_ordinal: last.map_or(0, |last| last.header.ordinal + 1),
        tail: Tail {
            end: scan.end,
            len: scan.len,
        },
        segments: inventory.segments(scan.len),
        report: OpenReport {
            created,
            segments: inventory.found.len(),
            first: if inventory.found.is_empty() {
                next
            } else {
                first
            },
            next,
            scanned_records: scan.records,
            cut_bytes,
            elapsed: started.elapsed(),
        },
        cursor_file,
        cursors,
    })
}

/// Makes a new log, unless there are segments without cursor files.
fn create(disk: &dyn Disk, dir: &Path, inventory: &Inventory) -> Result<CursorFile, LogError> {
    if let Some(found) = inventory.found.first() {
        let reason = "there are segments, and no valid cursor file belongs to them";
        return Err(LogError::corrupt(&found.path, 0, reason));
    }
    let mut random = [0; 24];
    let drawn = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    drawn.map_err(|errno| LogError::io("draw an id for", dir, errno.into()))?;
    let identity = Identity {
        id: crate::wire::array_at(&random, 0),
        salt: crate::wire::u64_at(&random, 16),
    };
    CursorFile::create(disk, dir, identity)
}

/// Checks that no consumer stands outside the log.
pub(crate) fn check_cursors(
    dir: &Path,
    cursors: &CursorMap,
    first: u64,
    end: u64,
    unsynced: bool,
) -> Result<(), LogError> {
    if let Some(floor) = floor(cursors).filter(|&floor| floor < first) {
        let reason = format!("a cursor stands at record {floor}, and the oldest kept is {first}");
        return Err(LogError::corrupt(dir, 0, reason));
    }
    // Without sync, records that consumers have seen may be lost; their sequences are not used again.
    let ahead = cursors.iter().find(|(_, cursor)| cursor.next > end);
    match ahead {
        Some((name, cursor)) if !unsynced => {
            let next = cursor.next;
            let reason =
                format!("the cursor {name:?} stands at record {next}, behind the end {end}");
            Err(LogError::corrupt(dir, 0, reason))
        }
        _ => Ok(()),
    }
}

/// Checks that a file without a header holds at most a torn first group; returns its bytes.
fn survey_void(path: &Path, file: &dyn File, end: u64, salt: u64) -> Result<u64, LogError> {
    let len = file
        .len()
        .map_err(|error| LogError::io("read", path, error))?;
    let survey = survey(path, file, 0..len, end, salt)?;
    match survey.later_group {
        Some(_) => {
            let reason = "its header is damaged, and it holds commits";
            Err(LogError::corrupt(path, 0, reason))
        }
        None => Ok(survey.torn_bytes),
    }
}

impl Inventory {
    pub(crate) fn take(disk: &dyn Disk, dir: &Path) -> Result<Self, LogError> {
        let names = disk.list(dir);
        let names = names.map_err(|error| LogError::io("list", dir, error))?;
        let mut ordinals: Vec<u64> = names
            .iter()
            .filter_map(|name| segment::ordinal_of(name))
            .collect();
        ordinals.sort_unstable();
        let mut inventory = Self::default();
        for ordinal in ordinals {
            let path = segment::path(dir, ordinal);
            let file = disk.open(&path);
            let file = file.map_err(|error| LogError::io("open", &path, error))?;
            let read_error = |error| LogError::io("read", &path, error);
            let mut bytes = [0; HEADER_BYTES];
            let read = file.read_at(&mut bytes, 0).map_err(read_error)?;
            let file_len = file.len().map_err(read_error)?;
            match Header::decode(&bytes[..read]) {
                Beginning::Version(found) => {
                    return Err(LogError::Version {
                        path,
                        found,
                        supported: FORMAT_VERSION,
                    });
                }
                Beginning::Void => inventory.void.push((path, file)),
                Beginning::Valid(header) if header.ordinal != ordinal => {
                    let reason = format!("it is segment {} under another name", header.ordinal);
                    return Err(LogError::corrupt(&path, 40, reason));
                }
                Beginning::Valid(_) if !inventory.void.is_empty() => {
                    let (path, _) = &inventory.void[0];
                    let reason = "its header is damaged, and segments follow it";
                    return Err(LogError::corrupt(path, 0, reason));
                }
                Beginning::Valid(header) => inventory.found.push(Found {
                    path,
                    file,
                    header,
                    file_len,
                }),
            }
        }
        Ok(inventory)
    }

    pub(crate) fn check_chain(&self, identity: Identity) -> Result<(), LogError> {
        for found in &self.found {
            if found.header.identity != identity {
                return Err(LogError::corrupt(
                    &found.path,
                    16,
                    "it belongs to another log",
                ));
            }
        }
        for pair in self.found.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            let problem = if after.header.ordinal != before.header.ordinal + 1 {
                "a segment before it is missing"
            } else if after.header.previous_end < before.header.base
                || after.header.base < after.header.previous_end
                || (after.header.base > after.header.previous_end && !before.header.unsynced)
            {
                "its sequences do not follow those of the segment before"
            } else if before.file_len < after.header.previous_len {
                "the segment before it is shorter than it was"
            } else {
                continue;
            };
            return Err(LogError::corrupt(&after.path, 0, problem));
        }
        Ok(())
    }

    fn segments(&self, last_len: u64) -> VecDeque<Arc<Segment>> {
        let sealed_lens = self
            .found
            .iter()
            .skip(1)
            .map(|next| next.header.previous_len);
        let lens = sealed_lens.chain([last_len]);
        let pairs = self.found.iter().zip(lens);
        pairs
            .map(|(found, len)| Arc::new(Segment::new(&found.header, len, found.file_len)))
            .collect()
    }
}

impl Found {
    pub(crate) fn scan(&self, identity: Identity) -> Result<Scan, LogError> {
        let (path, file) = (&self.path, self.file.as_ref());
        scan(path, file, self.file_len, &self.header, identity.salt)
    }

    /// Cuts what is torn and makes the rest durable.
    ///
    /// The last group is written once more, in place: it may have been read from memory that never
    /// reached the disk, because the process was killed before the sync or because the sync failed, and
    /// after a failed sync the system takes the pages for clean. All earlier groups were synced.
    fn settle(&self, scan: &Scan) -> Result<(), LogError> {
        let cut = self.file.set_len(scan.len);
        cut.map_err(|error| LogError::io("cut", &self.path, error))?;
        let first_group = scan.last_group <= HEADER_END || self.header.unsynced;
        let mut at = if first_group { 0 } else { scan.last_group };
        let mut buffer = vec![0; 1 << 20];
        while at < scan.len {
            let want = crate::wire::length((scan.len - at).min(buffer.len() as u64));
            let read = self.file.read_at(&mut buffer[..want], at);
            let read = read.map_err(|error| LogError::io("read", &self.path, error))?;
            if read == 0 {
                return Err(LogError::corrupt(&self.path, at, "it became shorter"));
            }
            let written = self.file.write_at(&buffer[..read], at);
            written.map_err(|error| LogError::io("write", &self.path, error))?;
            at += read as u64;
        }
        let synced = self.file.sync_all();
        synced.map_err(|error| LogError::io("sync", &self.path, error))
    }
}
