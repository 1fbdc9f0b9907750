//! Which changes of a key took place, given what is there in the end.

use std::collections::HashSet;

use super::Key;
use crate::value::Value;

/// How it is known of a change that it took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It is not.
    Not,
    /// By its own outcome, by those who saw it, or since its value is there.
    Itself,
    /// By this change, which took place and had seen it.
    By(usize),
}

/// The changes that certainly took place.
#[derive(Debug)]
pub(super) struct Taken(Vec<Known>);

impl Taken {
    /// Those of a key, where these values are there in the end.
    pub(super) fn new<'h>(key: &Key<'h>, there: &HashSet<&'h Value>) -> Self {
        let mut known = vec![Known::Not; key.changes.len()];
        let mut open = Vec::new();
        for (number, change) in key.changes.iter().enumerate() {
            let shown = change.value.is_some_and(|value| there.contains(value));
            if shown || key.is_certain(change) {
                known[number] = Known::Itself;
                open.push(number);
            }
        }
        while let Some(number) = open.pop() {
            for value in key.changes[number].replaced() {
                let Some(&older) = key.writers.get(value) else { continue };
                if known[older] == Known::Not {
                    known[older] = Known::By(number);
                    open.push(older);
                }
            }
        }
        Self(known)
    }

    /// Their numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len()).filter(|&number| self.0[number] != Known::Not)
    }

    /// The places of a change and of all that shows that it took place.
    pub(super) fn grounds(&self, key: &Key<'_>, mut number: usize) -> Vec<usize> {
        let mut places = vec![key.changes[number].place];
        while let Known::By(newer) = self.0[number] {
            places.push(key.changes[newer].place);
            number = newer;
        }
        places.extend(key.proof(&key.changes[number]));
        places
    }

    /// What may have been replaced: by all that took place, and by what may have taken place: deletes that are
    /// unknown or may have gone with a disk. Another *write* with an unknown outcome whose value nobody saw cannot:
    /// its value would be there, or somebody would have replaced it.
    pub(super) fn replaced<'h>(
        &self,
        key: &Key<'h>,
        there: &HashSet<&'h Value>,
    ) -> HashSet<&'h Value> {
        let mut counts: Vec<bool> = self.0.iter().map(|known| *known != Known::Not).collect();
        let mut open: Vec<usize> = (0..counts.len())
            .filter(|&number| {
                let change = &key.changes[number];
                let may =
                    change.value.is_none() && !change.replaced().any(|one| there.contains(one));
                counts[number] || may
            })
            .collect();
        open.iter().for_each(|&number| counts[number] = true);
        let mut replaced = HashSet::new();
        // Who replaced a value replaced all that this one had replaced.
        while let Some(number) = open.pop() {
            for value in key.changes[number].replaced() {
                replaced.insert(value);
                let Some(&older) = key.writers.get(value) else { continue };
                if !std::mem::replace(&mut counts[older], true) {
                    open.push(older);
                }
            }
        }
        replaced
    }
}
