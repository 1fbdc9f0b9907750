//! Small numbers for the values of one register.

use crate::history::Symbol;

/// Slots from which on a table is not kept for the next register.
const KEPT_SLOTS_MAX: usize = 1 << 16;

/// Symbols that stand side by side in the table.
const NEIGHBOURS: u32 = 16;

/// An odd number without pattern.
const MIX: u32 = 0x9e37_79b1;

/// What a slot holds that is free.
const FREE: (Symbol, u32) = (Symbol::FOREIGN, u32::MAX);

/// Numbers for symbols: 0 for the initial one, then 1 and so on in the order in which they come.
///
/// Used for one register after the other, so that its memory stays near. Symbols that follow one
/// another mostly come at about the same time; they are kept side by side.
#[derive(Debug)]
pub struct Numbering {
    initial: Symbol,
    /// An open table. As many slots as a power of two.
    slots: Vec<(Symbol, u32)>,
    /// The next number.
    next: u32,
}

impl Default for Numbering {
    fn default() -> Self {
        Self { initial: Symbol::ABSENT, slots: Vec::new(), next: 1 }
    }
}

impl Numbering {
    /// Begins anew, for a register that has about so many acts.
    pub fn begin(&mut self, initial: Symbol, acts: usize) {
        let slots = (acts * 2).next_power_of_two().clamp(NEIGHBOURS as usize, KEPT_SLOTS_MAX);
        self.slots.clear();
        self.slots.resize(slots, FREE);
        (self.initial, self.next) = (initial, 1);
    }

    /// Ends: the number of numbers.
    pub fn end(&mut self) -> usize {
        if self.slots.len() > KEPT_SLOTS_MAX {
            self.slots = Vec::new();
        }
        self.next as usize
    }

    /// The number of a symbol.
    pub fn number(&mut self, symbol: Symbol) -> u32 {
        if symbol == self.initial {
            return 0;
        }
        let mut slot = self.slot(symbol);
        loop {
            match self.slots[slot] {
                FREE => break,
                (other, number) if other == symbol => return number,
                _ => slot = (slot + 1) & (self.slots.len() - 1),
            }
        }
        let number = self.next;
        self.next += 1;
        self.slots[slot] = (symbol, number);
        if self.next as usize > self.slots.len() / 4 * 3 {
            self.grow();
        }
        number
    }

    /// Where the search for a symbol begins.
    fn slot(&self, symbol: Symbol) -> usize {
        let symbol = symbol.number();
        let hash = (symbol / NEIGHBOURS).wrapping_mul(MIX);
        let hash = (hash ^ hash >> 15).wrapping_mul(NEIGHBOURS).wrapping_add(symbol % NEIGHBOURS);
        hash as usize & (self.slots.len() - 1)
    }

    fn grow(&mut self) {
        let more = vec![FREE; self.slots.len() * 2];
        for (symbol, number) in std::mem::replace(&mut self.slots, more) {
            if (symbol, number) == FREE {
                continue;
            }
            let mut slot = self.slot(symbol);
            while self.slots[slot] != FREE {
                slot = (slot + 1) & (self.slots.len() - 1);
            }
            self.slots[slot] = (symbol, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::history::Corpus;
    use crate::operation::{Call, Operation};

    #[test]
    fn numbers_count_up_and_stay() {
        // Runs, large steps, texts; the table is too small for them at first.
        let numbers = (0..3_000_u64).map(|n| n.to_string());
        let steps = (1..3_000_u64).map(|n| (n << 19).to_string());
        let texts = (0..3_000).map(|n| format!("v{n}"));
        let history: Vec<Operation> = numbers
            .chain(steps)
            .chain(texts)
            .map(|value| Operation::invoked(0, Call::write("k", value), 0))
            .collect();
        let corpus = Corpus::of(&history);
        let symbols = || corpus.entries().iter().map(|entry| entry.value);
        let mut numbering = Numbering::default();
        for acts in [0, 10, 100_000] {
            numbering.begin(corpus.entries()[5].value, acts);
            let mut expected = HashMap::from([(corpus.entries()[5].value, 0)]);
            for symbol in symbols().chain(symbols()) {
                let fresh = expected.len() as u32;
                let number = *expected.entry(symbol).or_insert(fresh);
                assert_eq!(numbering.number(symbol), number, "{symbol:?}");
            }
            assert_eq!(numbering.end(), 8_999);
        }
    }
}
