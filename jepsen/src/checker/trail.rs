//! How a search came to where it is, and sets of slots.

/// Ways through a search that share their beginnings: each entry is the entry before it and the act that
/// was placed. Entry 0 is where every way begins.
#[derive(Debug)]
pub struct Trail(Vec<(u32, u32)>);

impl Trail {
    /// Only the beginning.
    pub fn new() -> Self {
        Self(vec![(0, 0)])
    }

    /// Adds an act behind an entry; returns the entry of the longer way.
    pub fn push(&mut self, before: u32, act: u32) -> u32 {
        self.0.push((before, act));
        u32::try_from(self.0.len() - 1).expect("the budget is below u32")
    }

    /// The acts on the way to an entry, first to last.
    pub fn order(&self, mut entry: u32) -> Vec<u32> {
        let mut order = Vec::new();
        while entry != 0 {
            let (previous, act) = self.0[entry as usize];
            order.push(act);
            entry = previous;
        }
        order.reverse();
        order
    }
}

/// The slots in a set.
pub fn bits(mut set: u128) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        if set == 0 {
            return None;
        }
        let bit = u8::try_from(set.trailing_zeros()).expect("a u128 has 128 bits");
        set &= set - 1;
        Some(bit)
    })
}
