//! What a writer knows of its keys.
//!
//! Each key has one writer, so the writer knows what the key holds, but for writes of which nobody
//! told whether they were applied: then the key holds one of several values. The next acknowledged
//! write to the key ends that. A late copy of the earlier one is refused, for the writer has said
//! that it waits for it no more.

use bytes::Bytes;

/// Shortest value.
const VALUE_BYTES_MIN: u64 = 600;
/// How much longer the longest value is.
const VALUE_BYTES_SPREAD: u64 = 800;

/// The value of this number: as long and as it is for no other number.
pub fn value(number: u64) -> Bytes {
    let length = VALUE_BYTES_MIN + number.wrapping_mul(7_919) % VALUE_BYTES_SPREAD;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 8);
    let mut word = number;
    while (bytes.len() as u64) < length {
        bytes.extend_from_slice(&word.to_be_bytes());
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    }
    bytes.truncate(usize::try_from(length).unwrap_or_default());
    bytes.into()
}

/// The number of a value; `None` for what is no value of ours, byte for byte.
pub fn number_of(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(bytes.first_chunk().copied()?);
    (value(number) == bytes).then_some(number)
}

/// What may stand under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Numbers of values, `None` for absence; never empty.
    possible: Vec<Option<u64>>,
    /// The revision that wrote it, 0 for absence; known while there is one possibility.
    revision: u64,
}

impl Cell {
    /// A key that was never written.
    pub fn absent() -> Self {
        Self { possible: vec![None], revision: 0 }
    }

    /// What it holds and since which revision, where that is certain.
    pub fn certain(&self) -> Option<(Option<u64>, u64)> {
        match self.possible[..] {
            [only] => Some((only, self.revision)),
            _ => None,
        }
    }

    /// Whether it may hold this.
    pub fn may_hold(&self, found: Option<u64>) -> bool {
        self.possible.contains(&found)
    }

    /// A write was acknowledged.
    pub fn written(&mut self, to: Option<u64>, revision: u64) {
        *self = Self { possible: vec![to], revision: if to.is_some() { revision } else { 0 } };
    }

    /// A write may have been applied.
    pub fn perhaps(&mut self, to: Option<u64>) {
        if !self.possible.contains(&to) {
            self.possible.push(to);
        }
    }
}

/// What one writer knows of all its keys.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The keyspace of the keys.
    pub keyspace: String,
    /// What the names of the keys begin with.
    pub prefix: String,
    /// By the number of the key.
    pub cells: Vec<Cell>,
}

impl Ledger {
    /// A ledger of so many keys that were never written.
    pub fn new(keyspace: &str, writer: usize, keys: usize) -> Self {
        Self {
            keyspace: keyspace.to_owned(),
            prefix: format!("w{writer:02}/"),
            cells: vec![Cell::absent(); keys],
        }
    }

    /// The name of a key. Names sort as their numbers do.
    pub fn key(&self, number: usize) -> Bytes {
        format!("{}{number:06}", self.prefix).into()
    }

    /// The number of the key with this name.
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        let number = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?.parse().ok()?;
        (number < self.cells.len()).then_some(number)
    }

    /// Compares what was found under `first` and the keys after it, up to but without `end`. `found`
    /// is ascending. Returns what is wrong.
    pub fn contradiction(
        &self,
        first: usize,
        end: usize,
        found: &[(Bytes, Bytes)],
    ) -> Option<String> {
        let mut rest = found.iter().peekable();
        for number in first..end.min(self.cells.len()) {
            let key = self.key(number);
            let item = rest.next_if(|(name, _)| *name == key);
            let seen = match item.map(|(_, bytes)| number_of(bytes)) {
                Some(None) => return Some(format!("{key:?} holds what nobody wrote")),
                Some(Some(number)) => Some(number),
                None => None,
            };
            let cell = &self.cells[number];
            if !cell.may_hold(seen) {
                return Some(format!("{key:?} holds {seen:?}, not one of {:?}", cell.possible));
            }
        }
        rest.next().map(|(name, _)| format!("{name:?} is there, which nobody wrote"))
    }
}
