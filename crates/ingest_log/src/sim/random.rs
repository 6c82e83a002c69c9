//! A small seeded generator, so that a failing seed repeats on every machine and in every release.

/// `SplitMix64` (Steele, Lea, Flood, 2014). Not for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Makes a generator; equal seeds give equal sequences.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`.
    ///
    /// # Panics
    /// When `bound` is zero.
    pub fn below(&mut self, bound: usize) -> usize {
        let draw = self.bits() % bound as u64;
        usize::try_from(draw).expect("it is below a usize")
    }

    /// Returns true in half of all cases.
    pub fn coin(&mut self) -> bool {
        self.bits() & 1 == 0
    }
}
