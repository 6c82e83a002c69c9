//! Little-endian integers in byte slices: the one place that does offsets arithmetic for the formats.
//!
//! Callers check lengths first; an offset outside the slice is a defect of the caller and panics.

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Turns a length that was read from a file, and checked against it, into a length in memory.
pub(crate) fn length(value: u64) -> usize {
    usize::try_from(value).expect("what is held in memory has a length that fits usize")
}
