//! A hash that is quick for short keys.
//!
//! Histories come from our own tests, not from strangers, so nobody chooses keys that collide.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by [`QuickHasher`].
pub type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<QuickHasher>>;

/// An odd number without pattern: the fraction of the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes words by wide multiplication, both halves of the product counting.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuickHasher {
    state: u64,
}

impl QuickHasher {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word ^ MIX) * u128::from(MIX);
        let high = (product >> 64) as u64;
        self.state = (product as u64) ^ high.rotate_left(29);
    }
}

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // The length tells "a" from "a\0".
        self.mix(u64::from_le_bytes(last) ^ (bytes.len() as u64).rotate_left(56));
    }

    fn write_u8(&mut self, n: u8) {
        self.state = self.state.rotate_left(8) ^ u64::from(n);
    }

    fn write_u32(&mut self, n: u32) {
        self.mix(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }

    fn write_u128(&mut self, n: u128) {
        self.mix(n as u64);
        self.mix((n >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        let product = u128::from(self.state ^ MIX) * u128::from(MIX);
        (product as u64) ^ ((product >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hash;

    use super::*;

    #[test]
    fn near_keys_fall_apart() {
        let mut seen = std::collections::HashSet::new();
        let mut low = [0_u32; 128];
        for n in 0..10_000_u64 {
            let mut hasher = QuickHasher::default();
            n.to_string().hash(&mut hasher);
            let hash = hasher.finish();
            assert!(seen.insert(hash), "{n} collides");
            low[(hash % 128) as usize] += 1;
        }
        // 78 are expected in each; a weak mix leaves some empty.
        assert!(low.iter().all(|&count| (30..150).contains(&count)), "{low:?}");
    }
}
