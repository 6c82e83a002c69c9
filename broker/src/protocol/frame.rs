//! Splits the byte stream into packets.
//!
//! Owns the fixed header. The announced length is checked against the limit as soon as it is readable, before
//! anything is set aside for the body; what is kept for a packet grows with the bytes that came.

use super::Violation;

/// A whole packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Packet type and flags.
    pub(crate) first: u8,
    /// All after the fixed header.
    pub(crate) body: &'a [u8],
    /// Bytes of the whole packet.
    pub(crate) size: usize,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split<'a> {
    Frame(Frame<'a>),
    /// More bytes are needed: this many in all, as far as is known.
    Incomplete(usize),
}

/// Reads the packet at the beginning of `bytes`; `limit` bounds the whole packet.
///
/// # Errors
/// When the length is malformed or above `limit`.
pub(crate) fn split(bytes: &[u8], limit: usize) -> Result<Split<'_>, Violation> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(Split::Incomplete(2));
    };
    let mut remaining = 0_usize;
    let mut length_bytes = 0;
    loop {
        let Some(&byte) = rest.get(length_bytes) else {
            return Ok(Split::Incomplete(bytes.len() + 1));
        };
        remaining |= usize::from(byte & 0x7f) << (7 * length_bytes);
        length_bytes += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if length_bytes == 4 {
            return Err(Violation::Length);
        }
    }
    let size = 1 + length_bytes + remaining;
    if size > limit {
        return Err(Violation::TooLarge);
    }
    match bytes.get(1 + length_bytes..size) {
        Some(body) => Ok(Split::Frame(Frame { first, body, size })),
        None => Ok(Split::Incomplete(size)),
    }
}

/// Returns how many bytes [`put_length`] appends.
pub(crate) fn length_size(length: usize) -> usize {
    match length {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends a remaining length, at most four bytes.
pub(crate) fn put_length(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length < 1 << 28, "a packet has at most 256 MiB");
    let mut rest = length;
    loop {
        let low = (rest & 0x7f).to_le_bytes()[0];
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_limited_before_the_body_comes() {
        assert_eq!(split(&[], 100), Ok(Split::Incomplete(2)));
        assert_eq!(split(&[0x30], 100), Ok(Split::Incomplete(2)));
        assert_eq!(split(&[0x30, 0x80], 100), Ok(Split::Incomplete(3)));
        assert_eq!(split(&[0x30, 98], 100), Ok(Split::Incomplete(100)));
        assert_eq!(split(&[0x30, 99], 100), Err(Violation::TooLarge));
        assert_eq!(
            split(&[0x30, 0xff, 0xff, 0xff, 0xff, 0x01], 100),
            Err(Violation::Length)
        );
        let body: &[u8] = &[];
        let ping = Frame {
            first: 0xc0,
            body,
            size: 2,
        };
        assert_eq!(split(&[0xc0, 0, 0xc0], 100), Ok(Split::Frame(ping)));
    }

    proptest! {
        #[test]
        fn lengths_round_trip(length in 0_usize..300_000, first: u8) {
            let mut bytes = vec![first];
            put_length(&mut bytes, length);
            let header = bytes.len();
            bytes.resize(header + length, 7);
            let Ok(Split::Frame(frame)) = split(&bytes, usize::MAX) else {
                return Err(TestCaseError::fail("no frame"));
            };
            prop_assert_eq!(frame.body.len(), length);
            prop_assert_eq!(frame.size, bytes.len());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, limit in 0_usize..1000) {
            if let Ok(Split::Incomplete(needed)) = split(&bytes, limit) {
                prop_assert!(needed > bytes.len());
            }
        }
    }
}
