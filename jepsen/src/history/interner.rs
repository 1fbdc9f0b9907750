//! Texts, each kept once and known by a number.

use std::hash::Hasher;

use crate::hash::QuickHasher;

/// Slots of an interner that holds something, at least.
const SLOTS_MIN: usize = 16;

/// Byte strings by numbers, in the order in which they came.
///
/// An open table of the upper half of a hash beside the number: what is not there is mostly told
/// without looking at the bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Interner {
    /// All byte strings, one after the other.
    bytes: Vec<u8>,
    /// Where each one ends.
    ends: Vec<usize>,
    /// (hash, number plus one); a number of 0 is a free slot. As many as a power of two, or none.
    slots: Vec<(u32, u32)>,
}

impl Interner {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of a number.
    pub(super) fn bytes(&self, number: u32) -> &[u8] {
        let place = number as usize;
        let begin = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[begin..self.ends[place]]
    }

    /// The number of some bytes, if they are there.
    pub(super) fn get(&self, bytes: &[u8]) -> Option<u32> {
        if self.slots.is_empty() { None } else { self.find(hash(bytes), bytes).ok() }
    }

    /// The number of some bytes.
    ///
    /// # Panics
    ///
    /// If there were 2^31 others.
    pub(super) fn intern(&mut self, bytes: &[u8]) -> u32 {
        if self.ends.len() >= self.slots.len() / 4 * 3 {
            self.grow();
        }
        let hash = hash(bytes);
        match self.find(hash, bytes) {
            Ok(number) => number,
            Err(free) => {
                assert!(self.ends.len() < 1 << 31, "a history has fewer than 2^31 texts");
                let number = self.ends.len() as u32;
                self.bytes.extend_from_slice(bytes);
                self.ends.push(self.bytes.len());
                self.slots[free] = (hash, number + 1);
                number
            }
        }
    }

    /// The number of some bytes, or the slot that is free for them.
    fn find(&self, hash: u32, bytes: &[u8]) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            match self.slots[slot] {
                (_, 0) => return Err(slot),
                (other, number) if other == hash && self.bytes(number - 1) == bytes => {
                    return Ok(number - 1);
                }
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    fn grow(&mut self) {
        let more = vec![(0, 0); (self.slots.len() * 2).max(SLOTS_MIN)];
        let mask = more.len() - 1;
        for (hash, number) in std::mem::replace(&mut self.slots, more) {
            if number == 0 {
                continue;
            }
            let mut slot = hash as usize & mask;
            while self.slots[slot].1 != 0 {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = (hash, number);
        }
    }
}

fn hash(bytes: &[u8]) -> u32 {
    let mut hasher = QuickHasher::default();
    hasher.write(bytes);
    (hasher.finish() >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_have_equal_numbers_and_others_have_not() {
        let mut interner = Interner::default();
        assert_eq!(interner.get(b""), None);
        for round in 0..2 {
            for n in 0..10_000_u32 {
                let text = if n == 0 { String::new() } else { format!("k{n}") };
                assert_eq!(interner.intern(text.as_bytes()), n, "round {round}");
            }
        }
        assert_eq!(interner.len(), 10_000);
        assert_eq!(interner.bytes(0), b"");
        assert_eq!(interner.bytes(77), b"k77");
        assert_eq!(interner.get(b"k9999"), Some(9_999));
        assert_eq!(interner.get(b"k10000"), None);
    }
}
