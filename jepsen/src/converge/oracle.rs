//! What was written, and what each write had seen, kept outside the members.
//!
//! The oracle knows of contexts, clocks and certificates nothing. It is told what clients wrote and what they had been
//! shown before, and looks at what members show: so it follows by itself which value may be gone, and which must be.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gossip::Dot;
use gossip::group::Group;
use gossip::record::{Body, EntryKey};

use super::member::{KEYSPACE, node};
use super::{Kind, Violation};

/// A write as it was made.
#[derive(Clone, Debug)]
struct Fact {
    /// Counts writes, for people.
    number: usize,
    key: Bytes,
    /// Nothing for a delete.
    value: Option<Bytes>,
    /// All that its client had been shown, and what that had superseded.
    supersedes: BTreeSet<Dot>,
}

/// What a member has shown since its disk was empty.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Writes that it has stored at some time, deletes too.
    stored: BTreeSet<Dot>,
    /// Values that it shows.
    live: BTreeSet<Dot>,
    /// Values that it showed, and not any more.
    gone: BTreeSet<Dot>,
}

/// What is true. See the module page.
#[derive(Debug)]
pub struct Oracle {
    facts: BTreeMap<Dot, Fact>,
    superseders: BTreeMap<Dot, BTreeSet<Dot>>,
    views: Vec<View>,
    written: usize,
}

/// The values of a key that a member shows.
pub fn shown(group: &Group, key: &EntryKey) -> BTreeSet<Dot> {
    group.entry(key).into_iter().flat_map(|entry| entry.live()).map(|(dot, _)| dot).collect()
}

impl Oracle {
    /// Nothing is written yet.
    pub fn new(members: usize) -> Self {
        let views = vec![View::default(); members];
        Self { facts: BTreeMap::new(), superseders: BTreeMap::new(), views, written: 0 }
    }

    /// A client wrote, after it had been shown these values of the key.
    pub fn wrote(&mut self, dot: Dot, key: Bytes, value: Option<Bytes>, shown: &BTreeSet<Dot>) {
        let mut supersedes = shown.clone();
        for dot in shown {
            if let Some(fact) = self.facts.get(dot) {
                supersedes.extend(fact.supersedes.iter().copied());
            }
        }
        for victim in &supersedes {
            self.superseders.entry(*victim).or_default().insert(dot);
        }
        self.written += 1;
        self.facts.insert(dot, Fact { number: self.written, key, value, supersedes });
    }

    /// A write was never durable, so nobody was told that it was taken.
    pub fn never_was(&mut self, dot: Dot) {
        let Some(fact) = self.facts.remove(&dot) else { return };
        for victim in fact.supersedes {
            if let Some(superseders) = self.superseders.get_mut(&victim) {
                superseders.remove(&dot);
            }
        }
    }

    /// What a member has shown.
    pub fn view(&self, at: usize) -> &View {
        &self.views[at]
    }

    /// A member has another disk, of which so much is known.
    pub fn set_view(&mut self, at: usize, view: View) {
        self.views[at] = view;
    }

    /// Looks at what a member shows, all of which is durable.
    pub fn look(&mut self, at: usize, group: &Group) -> Result<(), Violation> {
        let state = group.replica().state();
        let mut live = BTreeSet::new();
        for (key, entry) in state.entries() {
            for (dot, sibling) in entry.siblings() {
                if let Body::Value(value) = &sibling.body {
                    self.check_value(at, *dot, &key.key, value)?;
                    live.insert(*dot);
                }
                self.views[at].stored.insert(*dot);
            }
        }
        for dot in &live {
            self.check_live(at, *dot, &live, group)?;
        }
        let gone: Vec<Dot> = self.views[at].live.difference(&live).copied().collect();
        for dot in gone {
            if !self.is_superseded(dot, group) {
                let what = format!("member {} has dropped {}", node(at), self.name(dot));
                return Err(Violation::new(Kind::Vanished, what));
            }
            self.views[at].gone.insert(dot);
        }
        self.views[at].live = live;
        Ok(())
    }

    fn check_value(
        &self,
        at: usize,
        dot: Dot,
        key: &Bytes,
        value: &Bytes,
    ) -> Result<(), Violation> {
        let fact = self.facts.get(&dot);
        if fact.is_some_and(|fact| fact.key == *key && fact.value.as_ref() == Some(value)) {
            return Ok(());
        }
        let written = fact.map_or("nobody wrote that".to_owned(), |_| self.name(dot));
        let what = format!("member {} shows {value:?} at {key:?} as {dot}; {written}", node(at));
        Err(Violation::new(Kind::FromNowhere, what))
    }

    fn check_live(
        &self,
        at: usize,
        dot: Dot,
        live: &BTreeSet<Dot>,
        group: &Group,
    ) -> Result<(), Violation> {
        let broken = |kind, more: String| {
            let what = format!("member {} shows {}{more}", node(at), self.name(dot));
            Err(Violation::new(kind, what))
        };
        if self.views[at].gone.contains(&dot) {
            return broken(Kind::Returned, ", which it had dropped".to_owned());
        }
        for by in self.superseders.get(&dot).into_iter().flatten() {
            if live.contains(by) {
                return broken(Kind::FalseSibling, format!(" beside {}", self.name(*by)));
            }
            if group.replica().state().clock().contains(*by) {
                return broken(Kind::Kept, format!(" and knows of {}", self.name(*by)));
            }
        }
        Ok(())
    }

    /// Whether a member knows of a write that superseded this one, be it that it only has heard of it.
    fn is_superseded(&self, dot: Dot, group: &Group) -> bool {
        let Some(fact) = self.facts.get(&dot) else { return false };
        let key = EntryKey::new(KEYSPACE, fact.key.clone());
        let mut superseders = self.superseders.get(&dot).into_iter().flatten();
        superseders.any(|by| group.replica().state().knows(&key, *by))
    }

    /// Judges the end, when all members show the same: every value that was on a disk which is still there is shown, or was
    /// superseded by a write that is known. Answers how many writes were on no such disk.
    ///
    /// What must not be shown was looked at by [`Oracle::look`].
    pub fn judge(&self, group: &Group) -> Result<u64, Violation> {
        let survived: BTreeSet<Dot> =
            self.views.iter().flat_map(|view| view.stored.iter().copied()).collect();
        let live = &self.views[0].live;
        for dot in &survived {
            let is_value = self.facts.get(dot).is_some_and(|fact| fact.value.is_some());
            if is_value && !live.contains(dot) && !self.is_superseded(*dot, group) {
                let what = format!("in the end nobody has {}", self.name(*dot));
                return Err(Violation::new(Kind::Vanished, what));
            }
        }
        Ok(self.facts.keys().filter(|dot| !survived.contains(dot)).count() as u64)
    }

    /// Values that a member shows, of all keys.
    pub fn live(&self, at: usize) -> &BTreeSet<Dot> {
        &self.views[at].live
    }

    /// A write, in words.
    fn name(&self, dot: Dot) -> String {
        let Some(fact) = self.facts.get(&dot) else { return format!("{dot}, which nobody wrote") };
        let key = String::from_utf8_lossy(&fact.key);
        match &fact.value {
            Some(value) => {
                format!("write {} ({key} = {})", fact.number, String::from_utf8_lossy(value))
            }
            None => format!("write {} (delete of {key})", fact.number),
        }
    }
}
