//! Crashed acts: which were called, and which a state has used.

use crate::hash::QuickMap;

/// Crashed acts with the same effect.
#[derive(Debug)]
pub struct Class {
    /// What they do.
    pub effect: u32,
    /// Their starts and their numbers for the caller, by start.
    pub acts: Vec<(u64, u32)>,
}

/// How many acts of some classes were used: by class, without zeros.
type Used = Box<[(u32, u32)]>;

/// All crashed acts, and the sets of them that states have used, which are known by numbers.
#[derive(Debug)]
pub struct Crashed {
    /// The classes.
    pub classes: Vec<Class>,
    sets: Vec<Used>,
    numbers: QuickMap<Used, u32>,
}

/// The number of the set of none.
pub const NONE_USED: u32 = 0;

impl Crashed {
    /// Sorts acts, given as (effect, start, number), into classes.
    pub fn new(acts: impl Iterator<Item = (u32, u64, u32)>) -> Self {
        let mut classes: Vec<Class> = Vec::new();
        let mut known: QuickMap<u32, usize> = QuickMap::default();
        for (effect, start, act) in acts {
            let class = *known.entry(effect).or_insert_with(|| {
                classes.push(Class { effect, acts: Vec::new() });
                classes.len() - 1
            });
            classes[class].acts.push((start, act));
        }
        for class in &mut classes {
            class.acts.sort_unstable();
        }
        let empty = Used::default();
        Self {
            classes,
            sets: vec![empty.clone()],
            numbers: [(empty, NONE_USED)].into_iter().collect(),
        }
    }

    /// The next act of a class that was called by `now` and is not in a set.
    pub fn next(&self, set: u32, class: u32, now: u64) -> Option<u32> {
        let used = &self.sets[set as usize];
        let used =
            used.binary_search_by_key(&class, |&(class, _)| class).map_or(0, |at| used[at].1);
        let &(start, act) = self.classes[class as usize].acts.get(used as usize)?;
        (start <= now).then_some(act)
    }

    /// The set with one more act of a class.
    pub fn with(&mut self, set: u32, class: u32) -> u32 {
        let mut used = self.sets[set as usize].to_vec();
        match used.binary_search_by_key(&class, |&(class, _)| class) {
            Ok(at) => used[at].1 += 1,
            Err(at) => used.insert(at, (class, 1)),
        }
        self.number(used)
    }

    /// The set without classes that are of no more use.
    pub fn reduced(&mut self, set: u32, useful: impl Fn(u32) -> bool) -> u32 {
        let used = &self.sets[set as usize];
        let keep = |&(class, _): &(u32, u32)| useful(self.classes[class as usize].effect);
        if used.iter().all(keep) {
            return set;
        }
        let kept = used.iter().filter(|used| keep(used)).copied().collect();
        self.number(kept)
    }

    /// Whether a set uses no more of any class than another.
    pub fn is_within(&self, set: u32, other: u32) -> bool {
        if set == other || set == NONE_USED {
            return true;
        }
        let (small, large) = (&self.sets[set as usize], &self.sets[other as usize]);
        let mut large = large.iter();
        small.len() <= large.len()
            && small
                .iter()
                .all(|&(class, count)| large.any(|&(other, most)| other == class && count <= most))
    }

    /// How many acts a set uses.
    pub fn size(&self, set: u32) -> u64 {
        self.sets[set as usize].iter().map(|&(_, count)| u64::from(count)).sum()
    }

    fn number(&mut self, used: Vec<(u32, u32)>) -> u32 {
        let used = used.into_boxed_slice();
        if let Some(&number) = self.numbers.get(&used) {
            return number;
        }
        let number = u32::try_from(self.sets.len()).expect("the budget of states is below 2^32");
        self.sets.push(used.clone());
        self.numbers.insert(used, number);
        number
    }
}
