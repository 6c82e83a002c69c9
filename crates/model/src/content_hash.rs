//! A stable 64-bit hash of content, for ids that must be the same on every machine and in every release.
//!
//! FNV-1a (Fowler, Noll, Vo; <http://www.isthe.com/chongo/tech/comp/fnv/>) with 64 bits, finished by the
//! mixer of `SplitMix64`. It only has to tell apart items that already agree in order, deliverer and
//! time, so it need not withstand an adversary: who can forge a collision can only hide a point of their own.

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;
/// What eight bytes of a length multiply by, of which the upper seven are zero.
const OF_SHORT: u64 = PRIME.wrapping_pow(8);

/// Hashes byte strings one after another; the borders between them count.
#[derive(Debug, Clone, Copy)]
pub struct ContentHash(u64);

impl Default for ContentHash {
    fn default() -> Self {
        Self(OFFSET)
    }
}

impl ContentHash {
    /// Adds one byte string and its length.
    #[must_use]
    pub fn chain(mut self, bytes: &[u8]) -> Self {
        let length = bytes.len() as u64;
        self.add(bytes);
        if length < 256 {
            // As below: a byte of zero changes nothing before it multiplies.
            self.0 = (self.0 ^ length).wrapping_mul(OF_SHORT);
        } else {
            self.add(&length.to_le_bytes());
        }
        self
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }

    /// Returns the hash of all that was added.
    pub fn finish(self) -> u64 {
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_count_and_the_value_never_changes() {
        let ab_c = ContentHash::default().chain(b"ab").chain(b"c").finish();
        let a_bc = ContentHash::default().chain(b"a").chain(b"bc").finish();
        assert_ne!(ab_c, a_bc);
        assert_eq!(
            ContentHash::default().chain(b"lastmile").finish(),
            8_830_659_504_250_704_529
        );
    }

    #[test]
    fn a_length_counts_byte_by_byte() {
        for length in [0, 1, 255, 256, 257, 70_000] {
            let bytes = vec![b'x'; length];
            let mut slow = ContentHash::default();
            slow.add(&bytes);
            slow.add(&(length as u64).to_le_bytes());
            let fast = ContentHash::default().chain(&bytes);
            assert_eq!(fast.finish(), slow.finish(), "{length}");
        }
    }
}
