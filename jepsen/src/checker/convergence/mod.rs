//! Eventual keyspaces in the end (model `convergence`).
//!
//! A read returns the siblings of a key: all values that nothing replaced yet, in any order. A
//! write or delete says in `expected` which values it replaces, as its client had read them: its
//! causal context. An empty list replaces nothing; without a list, what it replaces is not known.
//! Values are unique within their key.
//!
//! Always:
//!
//! 1. A read returns only what was written, by a write called before the read returned that did
//!    not fail.
//! 2. **No false siblings**: of two values that a read returns, neither replaces the other, be it
//!    by way of further values; and none comes twice.
//!
//! In the end, that is in the last reads of each key at each node, if they were called after all
//! writes had returned; it is for the run to give the nodes the time they need before:
//!
//! 3. **All nodes agree.**
//! 4. **Nothing comes back**: no value that was replaced or deleted is there. All acknowledged
//!    operations took place, and so did those with an unknown outcome whose value somebody read.
//! 5. **Nothing is lost**: a value of a write that took place is there unless some operation
//!    replaced it, be it a delete with an unknown outcome.
//!
//! And once more always:
//!
//! 6. **A dot names one write.** Where replies say dots, none stands for two values, or for a value and a
//!    delete.
//!
//! **Lost disks.** A write or delete that says so ([`Causal::lost`](crate::operation::Causal)) was acknowledged by
//! one replica alone, whose disk was lost afterwards. It may have gone with it, though clients saw it: then what it
//! had replaced is rightly there again. It took place for certain if its value is there in the end, or if a
//! write that took place had seen it.
//!
//! **Last writer wins.** Where the name of a key begins with [`LWW_PREFIX`], replicas keep the newest of
//! several values. Instead of rules 2 and 5: a read shows one value at most, and in the end there is one if
//! something was written and nothing deleted.
//!
//! Cost: O(n log n + the values in all reads and contexts), but for false siblings, where the
//! ancestors of each pair of values are walked through as far as they are no older than the older
//! value; after [`ANCESTORS_MAX`] steps: unknown. Unknown as well if a key that was written has no
//! last read.

mod ancestry;
mod dots;
mod taken;

use std::collections::{BTreeMap, HashMap, HashSet};

use self::ancestry::Ancestry;
use self::taken::Taken;
use super::set::by_key;
use super::stop::Stop;
use super::{Checker, Verdict};
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

pub use ancestry::ANCESTORS_MAX;

/// What the names of keys begin with whose last writer wins.
pub const LWW_PREFIX: &str = "lww/";

/// Checks that the replicas of an eventual keyspace converge and lose nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConvergenceChecker;

impl Checker for ConvergenceChecker {
    fn model(&self) -> &'static str {
        "convergence"
    }

    /// A broken promise on any key outranks keys that cannot be judged.
    fn check(&self, history: &[Operation]) -> Verdict {
        let functions = [Function::Read, Function::Write, Function::Delete];
        if let Some(unknown) = super::foreign(history, &functions) {
            return unknown;
        }
        let ends = history.iter().filter(|operation| operation.function.writes());
        let settled = ends.map(|write| write.return_ns.unwrap_or(write.invoke_ns)).max();
        if let Err(reused) = dots::check(history) {
            return Stop::verdict(Err(reused), history);
        }
        let mut unjudged = Ok(());
        for (key, places) in by_key(history) {
            let judged = Key::new(history, key, &places)
                .and_then(|key| key.check(settled.unwrap_or_default()));
            match judged {
                Ok(()) => {}
                Err(Stop::Unjudged(_)) if unjudged.is_err() => {}
                Err(Stop::Unjudged(why)) => unjudged = Err(Stop::Unjudged(why)),
                broken => return Stop::verdict(broken, history),
            }
        }
        Stop::verdict(unjudged, history)
    }
}

/// A write or delete that did not fail.
struct Change<'h> {
    place: usize,
    value: Option<&'h Value>,
    /// What it replaces; `None`: not known.
    replaces: Option<Vec<&'h Value>>,
    /// It may have gone with a disk.
    lost: bool,
}

impl<'h> Change<'h> {
    /// What it replaces, as far as that is known.
    fn replaced(&self) -> impl Iterator<Item = &'h Value> {
        self.replaces.iter().flatten().copied()
    }
}

struct Read<'h> {
    place: usize,
    siblings: Vec<&'h Value>,
}

struct Key<'h> {
    history: &'h [Operation],
    key: &'h str,
    changes: Vec<Change<'h>>,
    reads: Vec<Read<'h>>,
    /// Of each value the number of the change that wrote it.
    writers: HashMap<&'h Value, usize>,
    failed: Vec<usize>,
    /// Values that somebody read.
    seen: HashSet<&'h Value>,
}

impl<'h> Key<'h> {
    fn new(history: &'h [Operation], key: &'h str, places: &[usize]) -> Result<Self, Stop> {
        let mut all = Self {
            history,
            key,
            changes: Vec::new(),
            reads: Vec::new(),
            writers: HashMap::new(),
            failed: Vec::new(),
            seen: HashSet::new(),
        };
        for &place in places {
            let operation = &history[place];
            if operation.function == Function::Read {
                if operation.outcome == Outcome::Ok {
                    let siblings = values(operation.value.as_ref(), operation)?;
                    all.seen.extend(&siblings);
                    all.reads.push(Read { place, siblings });
                }
                continue;
            }
            let replaces = match &operation.expected {
                None => None,
                some => Some(values(some.as_ref(), operation)?),
            };
            all.seen.extend(replaces.iter().flatten());
            if operation.outcome == Outcome::Fail {
                all.failed.push(place);
                continue;
            }
            let value = operation.value.as_ref();
            if let Some(value) = value
                && all.writers.insert(value, all.changes.len()).is_some()
            {
                return Err(Stop::Unjudged(format!("key {key:?}: {value} is written twice")));
            }
            let lost = operation.causal.as_ref().is_some_and(|causal| causal.lost);
            all.changes.push(Change { place, value, replaces, lost });
        }
        Ok(all)
    }

    fn check(&self, settled: u64) -> Result<(), Stop> {
        for read in &self.reads {
            self.check_written(read)?;
        }
        let newest_only = self.key.starts_with(LWW_PREFIX);
        if newest_only {
            self.check_single()?;
        } else {
            self.check_siblings()?;
        }
        let last = self.last_reads(settled);
        let Some((first, others)) = last.split_first() else {
            if self.changes.iter().any(|change| self.is_certain(change)) {
                let key = self.key;
                let why = format!("key {key:?} is not read after all writes returned");
                return Err(Stop::Unjudged(why));
            }
            return Ok(());
        };
        let set =
            |read: &Read<'h>| -> HashSet<&'h Value> { read.siblings.iter().copied().collect() };
        let shown = set(first);
        if let Some(other) = others.iter().find(|other| set(other) != shown) {
            let (one, two) = (&self.history[first.place], &self.history[other.place]);
            let why = format!("nodes do not agree in the end: {}{one}, {}{two}", at(one), at(two));
            return Err(self.broken(why, [first.place, other.place]));
        }
        let taken = Taken::new(self, &shown);
        self.check_replaced(first, &shown, &taken)?;
        if newest_only {
            self.check_any(first, &taken)
        } else {
            self.check_kept(first, &shown, &taken)
        }
    }

    /// Rule 1.
    fn check_written(&self, read: &Read<'h>) -> Result<(), Stop> {
        let operation = &self.history[read.place];
        for &value in &read.siblings {
            let write = self.writers.get(value).map(|&number| self.changes[number].place);
            let failed = self
                .failed
                .iter()
                .copied()
                .find(|&one| self.history[one].value.as_ref() == Some(value));
            let why = match (write, failed) {
                (Some(write), _) if self.history[write].invoke_ns <= operation.end_ns() => continue,
                (Some(write), _) => {
                    format!("{operation} returned what was written later: {}", self.history[write])
                }
                (None, Some(failed)) => {
                    format!(
                        "{operation} returned what a failed write left: {}",
                        self.history[failed]
                    )
                }
                (None, None) => format!("{operation} returned {value}, which nobody wrote"),
            };
            return Err(self.broken(why, write.or(failed).into_iter().chain([read.place])));
        }
        Ok(())
    }

    /// Rule 2.
    fn check_siblings(&self) -> Result<(), Stop> {
        let parents = self.changes.iter().map(|change| {
            change.replaced().filter_map(|value| self.writers.get(value).copied()).collect()
        });
        let mut ancestry = Ancestry::new(parents.collect());
        for read in &self.reads {
            let numbers: Vec<usize> =
                read.siblings.iter().map(|value| self.writers[value]).collect();
            for (place, &one) in numbers.iter().enumerate() {
                for &other in &numbers[..place] {
                    let path = if one == other {
                        Some(vec![one])
                    } else {
                        ancestry.path(one, other)?.or(ancestry.path(other, one)?)
                    };
                    let Some(path) = path else { continue };
                    let operation = &self.history[read.place];
                    let why = match path[..] {
                        [_] => format!("a sibling comes twice: {operation}"),
                        _ => format!(
                            "false siblings: {operation} returned {} beside what replaced it: {}",
                            shown(self.changes[path[path.len() - 1]].value),
                            self.history[self.changes[path[0]].place]
                        ),
                    };
                    let path = path.iter().map(|&number| self.changes[number].place);
                    return Err(self.broken(why, path.chain([read.place])));
                }
            }
        }
        Ok(())
    }

    /// The last read at each node, if it was called after a moment.
    fn last_reads(&self, settled: u64) -> Vec<&Read<'h>> {
        let mut last: BTreeMap<Option<&str>, &Read<'h>> = BTreeMap::new();
        for read in &self.reads {
            let operation = &self.history[read.place];
            if operation.invoke_ns <= settled {
                continue;
            }
            let at = last.entry(operation.node.as_deref()).or_insert(read);
            if self.history[at.place].invoke_ns < operation.invoke_ns {
                *at = read;
            }
        }
        last.into_values().collect()
    }

    /// Rule 2 where the last writer wins.
    fn check_single(&self) -> Result<(), Stop> {
        let Some(read) = self.reads.iter().find(|read| read.siblings.len() > 1) else {
            return Ok(());
        };
        let why =
            format!("several values, though the last writer wins: {}", self.history[read.place]);
        let writers = read.siblings.iter().map(|value| self.changes[self.writers[value]].place);
        Err(self.broken(why, writers.chain([read.place])))
    }

    /// Whether a change took place by what it says itself, or by what clients saw.
    fn is_certain(&self, change: &Change<'h>) -> bool {
        let seen = || change.value.is_some_and(|value| self.seen.contains(value));
        !change.lost && (self.history[change.place].outcome == Outcome::Ok || seen())
    }

    /// What shows that a change took place, if it does not say so itself.
    fn proof(&self, change: &Change<'h>) -> Option<usize> {
        let value = change.value.filter(|_| self.history[change.place].outcome != Outcome::Ok)?;
        let read = self.reads.iter().find(|read| read.siblings.contains(&value));
        let replaces = |other: &&Change<'h>| other.replaced().any(|replaced| replaced == value);
        let replaced = || self.changes.iter().find(replaces).map(|change| change.place);
        read.map(|read| read.place).or_else(replaced)
    }

    /// Rule 4.
    fn check_replaced(
        &self,
        last: &Read<'h>,
        there: &HashSet<&'h Value>,
        taken: &Taken,
    ) -> Result<(), Stop> {
        for number in taken.numbers() {
            let change = &self.changes[number];
            let Some(replaced) = change.replaced().find(|value| there.contains(value)) else {
                continue;
            };
            let operation = &self.history[change.place];
            let did = if change.value.is_some() { "replaced" } else { "deleted" };
            let why = format!(
                "{replaced} came back: {operation} {did} it, but in the end {}{}",
                at(&self.history[last.place]),
                self.history[last.place]
            );
            let write = self.writers.get(replaced).map(|&number| self.changes[number].place);
            let others = write.into_iter().chain(taken.grounds(self, number));
            return Err(self.broken(why, others.chain([last.place])));
        }
        Ok(())
    }

    /// Rule 5.
    fn check_kept(
        &self,
        last: &Read<'h>,
        there: &HashSet<&'h Value>,
        taken: &Taken,
    ) -> Result<(), Stop> {
        let replaced = taken.replaced(self, there);
        // Without a context, anything called before its return may have been replaced.
        let blind = self.changes.iter().filter(|change| change.replaces.is_none());
        let blind = blind.map(|change| (self.history[change.place].end_ns(), change.place));
        let mut blind: Vec<(u64, usize)> = blind.collect();
        blind.sort_unstable();
        for number in taken.numbers() {
            let change = &self.changes[number];
            let operation = &self.history[change.place];
            let Some(value) = change.value else { continue };
            let by_blind = blind
                .iter()
                .rev()
                .take(2)
                .any(|&(end, place)| place != change.place && end >= operation.invoke_ns);
            if there.contains(value) || replaced.contains(value) || by_blind {
                continue;
            }
            let read = &self.history[last.place];
            let why =
                format!("lost: nothing replaced {operation}, but in the end {}{read}", at(read));
            return Err(
                self.broken(why, taken.grounds(self, number).into_iter().chain([last.place]))
            );
        }
        Ok(())
    }

    /// Rule 5 where the last writer wins.
    fn check_any(&self, last: &Read<'h>, taken: &Taken) -> Result<(), Stop> {
        let deleted = self.changes.iter().any(|change| change.value.is_none());
        if deleted || !last.siblings.is_empty() {
            return Ok(());
        }
        let Some(number) = taken.numbers().next() else { return Ok(()) };
        let (write, read) = (&self.history[self.changes[number].place], &self.history[last.place]);
        let why = format!(
            "lost: nothing was deleted, also not {write}, but in the end {}{read}",
            at(read)
        );
        Err(self.broken(why, taken.grounds(self, number).into_iter().chain([last.place])))
    }

    fn broken(&self, why: String, places: impl IntoIterator<Item = usize>) -> Stop {
        Stop::broken(self.key, format!("key {:?}: {why}", self.key), places)
    }
}

/// The values of a list; a value alone is a list of one, absence is the empty list.
fn values<'h>(value: Option<&'h Value>, operation: &Operation) -> Result<Vec<&'h Value>, Stop> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::List(list)) => {
            let all: Option<Vec<&Value>> = list.iter().map(Option::as_ref).collect();
            all.ok_or_else(|| Stop::Unjudged(format!("absence among values: {operation}")))
        }
        Some(value) => Ok(vec![value]),
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "absence".to_owned(), Value::to_string)
}

/// The node of a read, for sentences.
fn at(read: &Operation) -> String {
    read.node.as_ref().map_or_else(String::new, |node| format!("node {node} says "))
}
