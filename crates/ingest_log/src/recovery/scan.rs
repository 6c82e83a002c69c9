//! Reading the last segment: where its records end, and what lies behind.
//!
//! Both passes read in windows of a mebibyte, so memory does not grow with the segment.

use std::ops::Range;
use std::path::Path;

use crate::LogError;
use crate::disk::File;
use crate::record::{GROUP_START, MAX_BODY_BYTES, PREFIX_BYTES, Parsed, UNKNOWN, parse};
use crate::segment::{HEADER_END, Header};
use crate::wire::{length, u32_at, u64_at};

const WINDOW_BYTES: u64 = 1 << 20;

/// The whole records of a segment.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Sequence behind the last record.
    pub(crate) end: u64,
    /// Where the last record ends, in bytes.
    pub(crate) len: u64,
    pub(crate) records: u64,
    /// Where the last group begins, in bytes.
    pub(crate) last_group: u64,
    /// Bytes behind the last record up to the last that is not zero.
    pub(crate) torn_bytes: u64,
}

/// What lies behind the records of a segment.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) torn_bytes: u64,
    /// Where a whole group begins that was written after what precedes it was durable.
    pub(crate) later_group: Option<u64>,
}

/// Reads all records of a segment up to the first that is not whole.
pub(crate) fn scan(
    path: &Path,
    file: &dyn File,
    file_len: u64,
    header: &Header,
    salt: u64,
) -> Result<Scan, LogError> {
    let mut scan = Scan {
        end: header.base,
        len: HEADER_END,
        ..Scan::default()
    };
    let mut needed = 0;
    let mut window = Vec::new();
    let reason = 'windows: loop {
        let start = scan.len;
        let stop = file_len.min(start + WINDOW_BYTES.max(needed));
        read_window(path, file, start..stop, &mut window)?;
        let mut at = 0;
        loop {
            match parse(&window[at..], salt) {
                Parsed::Frame(frame) if frame.record.seq == scan.end => {
                    if frame.starts_group {
                        scan.last_group = scan.len;
                    }
                    at += frame.size;
                    scan.len += frame.size as u64;
                    scan.end += 1;
                    scan.records += 1;
                }
                Parsed::Frame(_) => break 'windows "the record is not the next in sequence",
                Parsed::Bad(reason) => break 'windows reason,
                // It was written like this and may have been acknowledged: nothing is to be cut.
                Parsed::Unknown => return Err(LogError::corrupt(path, scan.len, UNKNOWN)),
                Parsed::Short(size) if scan.len + size as u64 > file_len => {
                    break 'windows "the file ends within the record";
                }
                Parsed::Short(size) => {
                    needed = size as u64;
                    break;
                }
            }
        }
    };
    let survey = survey(path, file, scan.len..file_len, scan.end, salt)?;
    scan.torn_bytes = survey.torn_bytes;
    match survey.later_group {
        // Without sync, groups reach the disk in any order.
        Some(group) if !header.unsynced => {
            let reason = format!("{reason}, and a later commit follows at byte {group}");
            Err(LogError::corrupt(path, scan.len, reason))
        }
        _ => Ok(scan),
    }
}

/// Looks through `range` for a whole group whose first sequence is above `end`.
pub(crate) fn survey(
    path: &Path,
    file: &dyn File,
    range: Range<u64>,
    end: u64,
    salt: u64,
) -> Result<Survey, LogError> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut survey = Survey::default();
    let mut window = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let stop = range.end.min(start + WINDOW_BYTES);
        read_window(path, file, start..stop, &mut window)?;
        let mut at = 0;
        while at < window.len() {
            let block = &window[at..window.len().min(at + ZEROS.len())];
            if *block == ZEROS[..block.len()] {
                // The next prefix may begin in the last bytes of the block.
                at += block.len().saturating_sub(PREFIX_BYTES - 1).max(1);
                continue;
            }
            let behind = window.len().min(at + ZEROS.len());
            for candidate in at..behind {
                if window[candidate] != 0 {
                    survey.torn_bytes = start + candidate as u64 + 1 - range.start;
                }
                let looks_right = window
                    .get(candidate..candidate + PREFIX_BYTES)
                    .is_some_and(|prefix| begins_later_group(prefix, end));
                if looks_right && is_frame(path, file, start + candidate as u64, range.end, salt)? {
                    survey.later_group.get_or_insert(start + candidate as u64);
                }
            }
            at = behind;
        }
        if stop == range.end {
            break;
        }
        // Windows overlap, so that every prefix is whole in one of them.
        start = stop - (PREFIX_BYTES as u64 - 1);
    }
    Ok(survey)
}

fn begins_later_group(prefix: &[u8], end: u64) -> bool {
    let field = u64_at(prefix, 8);
    let body_len = u32_at(prefix, 0) as usize;
    field & GROUP_START != 0 && field & !GROUP_START > end && body_len <= MAX_BODY_BYTES
}

fn is_frame(
    path: &Path,
    file: &dyn File,
    at: u64,
    file_len: u64,
    salt: u64,
) -> Result<bool, LogError> {
    let mut bytes = Vec::new();
    read_window(
        path,
        file,
        at..file_len.min(at + PREFIX_BYTES as u64),
        &mut bytes,
    )?;
    if let Parsed::Short(needed) = parse(&bytes, salt) {
        if at + needed as u64 > file_len {
            return Ok(false);
        }
        read_window(path, file, at..at + needed as u64, &mut bytes)?;
    }
    Ok(matches!(parse(&bytes, salt), Parsed::Frame(_)))
}

/// Reads a range of the file; what lies behind its end is left out.
fn read_window(
    path: &Path,
    file: &dyn File,
    range: Range<u64>,
    window: &mut Vec<u8>,
) -> Result<(), LogError> {
    window.resize(length(range.end - range.start), 0);
    let read = file.read_at(window, range.start);
    let read = read.map_err(|error| LogError::io("read", path, error))?;
    window.truncate(read);
    Ok(())
}
