//! Linearizability of a keyspace whose replies name revisions (model `revision`): O(n log n).
//!
//! Every write of a keyspace is given a revision, one above the last; every read says at which
//! revision it looked, and which revision wrote what it returned. So the order of all operations
//! is known and only has to be verified, over all keys together:
//!
//! 1. No two writes have the same revision. Parts of one transaction do: operations on different
//!    keys by one process with the same call.
//! 2. The order respects real time: a write has a higher revision, and a read looks at no lower
//!    one, than anything that returned before it was called.
//! 3. A read returns what the newest write of its key wrote, up to the revision at which it looked.
//!    A cas found what was there just before its own revision. All who look at one revision see the
//!    same.
//!
//! Writes with an unknown outcome fill in where something was seen that no known write explains:
//! an unknown write of that value on that key, called before the observation returned, each used
//! for one revision. Such a cas must find what it expects, unless several writes of its value are
//! unknown and differ in that. A successful delete without a revision found nothing to delete; it
//! counts as a read of absence.
//!
//! Only reads that promise linearizability may be judged by this model.

use std::collections::{HashMap, HashSet};

use super::stop::Stop;
use super::versions::Versions;
use super::{Checker, Verdict};
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// Checks that the revisions in a history are one order of all its operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct RevisionChecker;

impl Checker for RevisionChecker {
    fn model(&self) -> &'static str {
        "revision"
    }

    /// Unknown only if a successful operation names no revision.
    fn check(&self, history: &[Operation]) -> Verdict {
        if let Some(unknown) = super::foreign(history, &super::REGISTER_FUNCTIONS) {
            return unknown;
        }
        Stop::verdict(judge(history, Before::RealTime), history)
    }
}

/// What may not have a higher revision than an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// All that returned before its call.
    RealTime,
    /// What its own process did before.
    Process,
}

/// Checks that the revisions in a history are one order that respects `before`.
pub(super) fn judge(history: &[Operation], before: Before) -> Result<(), Stop> {
    let mut order = Order::new(history)?;
    order.learn()?;
    order.check_unique()?;
    order.floors = match before {
        Before::RealTime => real_time_floors(history),
        Before::Process => process_floors(history),
    };
    order.check_floors()?;
    order.check_keys()
}

/// A value that a key had from a revision on.
#[derive(Clone, Copy, Debug)]
struct Version<'h> {
    revision: u64,
    /// `None`: deleted.
    value: Option<&'h Value>,
    /// The write.
    place: usize,
}

/// What an operation saw of its key.
#[derive(Clone, Copy, Debug)]
struct Sight<'h> {
    /// The revision at which it looked.
    at: u64,
    /// What it saw.
    value: Option<&'h Value>,
    /// The revision that wrote it, where the operation says so.
    written_at: Option<u64>,
    place: usize,
    /// What showed that the operation took place, if its outcome is unknown.
    proof: Option<usize>,
}

impl Sight<'_> {
    /// The operation, and what showed that it took place.
    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        std::iter::once(self.place).chain(self.proof)
    }
}

/// All that a history says about one key.
#[derive(Debug, Default)]
struct Key<'h> {
    versions: Vec<Version<'h>>,
    sights: Vec<Sight<'h>>,
    /// Unknown writes, ordered by their calls.
    unknown: Vec<usize>,
    /// Those versions that unknown writes must have made.
    learned: Vec<Version<'h>>,
}

struct Order<'h> {
    history: &'h [Operation],
    keys: HashMap<&'h str, Key<'h>>,
    /// What was proven before each operation.
    floors: Vec<Floor>,
}

/// The highest revision proven before an operation, and by what.
type Floor = (u64, Option<usize>);

impl<'h> Order<'h> {
    /// Sorts what the operations say by key.
    fn new(history: &'h [Operation]) -> Result<Self, Stop> {
        let mut keys: HashMap<&str, Key<'_>> = HashMap::new();
        for (place, operation) in history.iter().enumerate() {
            let key = keys.entry(&operation.key).or_default();
            match operation.outcome {
                Outcome::Fail => {}
                Outcome::Info if operation.function.writes() => key.unknown.push(place),
                Outcome::Info => {}
                Outcome::Ok => note(key, operation, place)?,
            }
        }
        for key in keys.values_mut() {
            key.unknown.sort_by_key(|&place| (history[place].invoke_ns, place));
        }
        Ok(Self { history, keys, floors: vec![(0, None); history.len()] })
    }

    /// The key is that of the first place, where the violation was seen.
    fn broken(&self, why: String, places: Vec<usize>) -> Stop {
        Stop::broken(&self.history[places[0]].key, why, places)
    }

    /// Finds unknown writes that were seen, and makes versions of them.
    fn learn(&mut self) -> Result<(), Stop> {
        let mut names: Vec<&'h str> = self.keys.keys().copied().collect();
        names.sort_unstable();
        for name in names {
            let mut key = self.keys.remove(name).expect("the name came from the map");
            let learned = self.learn_key(&mut key);
            self.keys.insert(name, key);
            learned?;
        }
        Ok(())
    }

    fn learn_key(&self, key: &mut Key<'h>) -> Result<(), Stop> {
        key.versions.sort_by_key(|version| version.revision);
        let known = |revision| key.versions.binary_search_by_key(&revision, |v| v.revision).is_ok();
        // (revision, value, the sight that returned first)
        let mut seen: Vec<(u64, &'h Value, usize)> = key
            .sights
            .iter()
            .filter_map(|sight| Some((sight.written_at?, sight.value?, sight.place)))
            .filter(|&(revision, _, _)| !known(revision))
            .collect();
        seen.sort_by_key(|&(revision, value, place)| {
            (revision, value, self.history[place].end_ns(), place)
        });
        seen.dedup_by_key(|&mut (revision, value, _)| (revision, value));
        let mut free = key.unknown.clone();
        for (revision, value, sight) in seen {
            // Lower revisions go to earlier calls: whatever else fits, this does.
            let candidate = free.iter().position(|&place| {
                self.history[place].written() == Some(Some(value))
                    && self.history[place].invoke_ns <= self.history[sight].end_ns()
            });
            let Some(candidate) = candidate else {
                return Err(self.unexplained(revision, value, sight));
            };
            let place = free.remove(candidate);
            key.learned.push(Version { revision, value: Some(value), place });
            if let Some(value) = self.expected_by_all(&key.unknown, value, sight) {
                let (at, proof) = (revision - 1, Some(sight));
                key.sights.push(Sight { at, value, written_at: None, place, proof });
            }
        }
        key.versions.extend_from_slice(&key.learned);
        key.versions.sort_by_key(|version| version.revision);
        Ok(())
    }

    /// What was there before an unknown write of a value that a sight saw, if that is sure: all such
    /// writes are cas and expect the same.
    fn expected_by_all(
        &self,
        unknown: &[usize],
        value: &Value,
        sight: usize,
    ) -> Option<Option<&'h Value>> {
        let end = self.history[sight].end_ns();
        let writes = unknown.iter().map(|&place| &self.history[place]);
        let mut writes =
            writes.filter(|one| one.written() == Some(Some(value)) && one.invoke_ns <= end);
        let first = writes.clone().next()?;
        let expected = first.expected.as_ref();
        writes
            .all(|one| one.function == Function::Cas && one.expected.as_ref() == expected)
            .then_some(expected)
    }

    /// A version was seen that no write can have made.
    fn unexplained(&self, revision: u64, value: &Value, sight: usize) -> Stop {
        let seen = &self.history[sight];
        let write = self.history.iter().position(|operation| {
            operation.key == seen.key && operation.written() == Some(Some(value))
        });
        let why = match write {
            Some(write) => format!(
                "{seen} saw revision {revision}, which no write can have made; that value belongs \
                 to {}",
                self.history[write]
            ),
            None => format!("{seen} saw revision {revision}, but no operation wrote that value"),
        };
        self.broken(why, std::iter::once(sight).chain(write).collect())
    }

    /// Rule 1.
    fn check_unique(&self) -> Result<(), Stop> {
        // Sorted by key as well, so that neighbours show whatever is there twice.
        let mut versions: Vec<(u64, &str, usize)> = Vec::new();
        for (&name, key) in &self.keys {
            let of_key = key.versions.iter().map(|version| (version.revision, name, version.place));
            versions.extend(of_key);
        }
        versions.sort_unstable();
        for pair in versions.windows(2) {
            let [(revision, _, first), (other, _, second)] = [pair[0], pair[1]];
            let (one, two) = (&self.history[first], &self.history[second]);
            let transaction =
                one.process == two.process && one.invoke_ns == two.invoke_ns && one.key != two.key;
            if revision == other && !transaction {
                let why = format!("two writes have revision {revision}: {one} and {two}");
                return Err(self.broken(why, vec![second, first]));
            }
        }
        Ok(())
    }

    /// Rule 2.
    fn check_floors(&self) -> Result<(), Stop> {
        for key in self.keys.values() {
            for version in &key.versions {
                self.check_floor(version.place, version.revision, 1)?;
            }
            for sight in &key.sights {
                if !has_revision(&self.history[sight.place]) {
                    self.check_floor(sight.place, sight.at, 0)?;
                }
            }
        }
        Ok(())
    }

    /// An operation must be at least `above` over what was proven before its call.
    fn check_floor(&self, place: usize, revision: u64, above: u64) -> Result<(), Stop> {
        let (floor, Some(before)) = self.floors[place] else { return Ok(()) };
        if revision.checked_sub(above).is_some_and(|below| below >= floor) {
            return Ok(());
        }
        let (late, early) = (&self.history[place], &self.history[before]);
        let what = if above > 0 { "was given" } else { "looked at" };
        let why =
            format!("{late} {what} revision {revision}, but before its call returned {early}");
        Err(self.broken(why, vec![place, before]))
    }

    /// Rule 3.
    fn check_keys(&mut self) -> Result<(), Stop> {
        let mut names: Vec<&'h str> = self.keys.keys().copied().collect();
        names.sort_unstable();
        for name in names {
            let mut key = self.keys.remove(name).expect("the name came from the map");
            key.sights.sort_by_key(|sight| (sight.at, self.history[sight.place].end_ns()));
            Walk::new(self, &key).run()?;
            self.keys.insert(name, key);
        }
        Ok(())
    }
}

/// For each operation the highest revision proven by what returned before its call.
fn real_time_floors(history: &[Operation]) -> Vec<Floor> {
    let mut floors = vec![(0, None); history.len()];
    let mut calls: Vec<usize> = (0..history.len()).collect();
    calls.sort_by_key(|&place| (history[place].invoke_ns, place));
    let mut returns: Vec<usize> =
        (0..history.len()).filter(|&place| history[place].outcome == Outcome::Ok).collect();
    returns.sort_by_key(|&place| (history[place].end_ns(), place));
    let mut returns = returns.into_iter().peekable();
    let mut floor = (0, None);
    for place in calls {
        let invoke = history[place].invoke_ns;
        while let Some(before) = returns.next_if(|&before| history[before].end_ns() < invoke) {
            raise(&mut floor, history, before);
        }
        floors[place] = floor;
    }
    floors
}

/// For each operation the highest revision proven by what its process did before.
fn process_floors(history: &[Operation]) -> Vec<Floor> {
    let mut floors = vec![(0, None); history.len()];
    for session in Versions::sessions(history) {
        let mut floor = (0, None);
        for place in session {
            floors[place] = floor;
            if history[place].outcome == Outcome::Ok {
                raise(&mut floor, history, place);
            }
        }
    }
    floors
}

/// Raises a floor to what an operation proved.
fn raise(floor: &mut Floor, history: &[Operation], place: usize) {
    let proven = proven(&history[place]);
    if proven > floor.0 {
        *floor = (proven, Some(place));
    }
}

/// Adds what a successful operation says to its key.
fn note<'h>(key: &mut Key<'h>, operation: &'h Operation, place: usize) -> Result<(), Stop> {
    let revision = operation.revision.filter(|&revision| revision > 0);
    let unjudged =
        || Stop::Unjudged(format!("a successful operation names no revision: {operation}"));
    match operation.function {
        Function::Read => {
            let at = operation.at_revision.ok_or_else(unjudged)?;
            let value = operation.value.as_ref();
            let written_at = revision.filter(|_| value.is_some());
            key.sights.push(Sight { at, value, written_at, place, proof: None });
        }
        Function::Delete if revision.is_none() => {
            let at = operation.at_revision.ok_or_else(unjudged)?;
            key.sights.push(Sight { at, value: None, written_at: None, place, proof: None });
        }
        _ => {
            let revision = revision.ok_or_else(unjudged)?;
            let value = operation.written().flatten();
            key.versions.push(Version { revision, value, place });
            if operation.function == Function::Cas {
                let value = operation.expected.as_ref();
                let at = revision - 1;
                key.sights.push(Sight { at, value, written_at: None, place, proof: None });
            }
        }
    }
    Ok(())
}

/// Whether a successful operation was given a revision of its own.
fn has_revision(operation: &Operation) -> bool {
    operation.function.writes() && operation.revision.is_some_and(|revision| revision > 0)
}

/// The revision that the keyspace had reached when a successful operation returned.
fn proven(operation: &Operation) -> u64 {
    if has_revision(operation) { operation.revision } else { operation.at_revision }.unwrap_or(0)
}

/// Walks through versions and sights of one key in the order of revisions.
struct Walk<'o, 'h> {
    order: &'o Order<'h>,
    key: &'o Key<'h>,
    /// The newest version so far.
    current: Option<Version<'h>>,
    /// What is there: the current version, or what unknown writes made of it since.
    there: Option<&'h Value>,
    /// The last sight since the current version.
    last: Option<Sight<'h>>,
    /// How many unknown writes it took so far to explain sights, by what they wrote.
    used: HashMap<Option<&'h Value>, usize>,
}

impl<'o, 'h> Walk<'o, 'h> {
    fn new(order: &'o Order<'h>, key: &'o Key<'h>) -> Self {
        Self { order, key, current: None, there: None, last: None, used: HashMap::new() }
    }

    fn run(mut self) -> Result<(), Stop> {
        let mut versions = self.key.versions.iter().peekable();
        for sight in &self.key.sights {
            while let Some(version) = versions.next_if(|version| version.revision <= sight.at) {
                self.current = Some(*version);
                self.there = version.value;
                self.last = None;
            }
            if let Some(revision) = sight.written_at {
                self.check_named(sight, revision)?;
            } else if sight.value != self.there {
                self.check_changed(sight)?;
                self.there = sight.value;
            }
            self.last = Some(*sight);
        }
        Ok(())
    }

    /// A sight that names the revision which wrote what it saw.
    fn check_named(&self, sight: &Sight<'h>, revision: u64) -> Result<(), Stop> {
        let operation = &self.order.history[sight.place];
        if revision > sight.at {
            let why = format!(
                "{operation} returned revision {revision}, which is above the one it looked at"
            );
            return Err(self.broken(sight, why, []));
        }
        let Some(version) = self.current else { return Err(self.unfounded(sight)) };
        if (revision, sight.value) != (version.revision, version.value) {
            return Err(self.differs(sight, &version));
        }
        match self.last.filter(|_| sight.value != self.there) {
            Some(gone) => Err(self.came_back(sight, &gone, &version)),
            None => Ok(()),
        }
    }

    /// A sight that is not of what was there: an unknown write has to have changed that meanwhile.
    fn check_changed(&mut self, sight: &Sight<'h>) -> Result<(), Stop> {
        let history = self.order.history;
        let operation = &history[sight.place];
        if let Some(other) = self.last.filter(|other| other.at == sight.at) {
            let (at, first) = (sight.at, &history[other.place]);
            let why = format!(
                "two looked at revision {at} and saw different values: {first} and {operation}"
            );
            let version = self.current.map(|version| version.place);
            return Err(self.broken(sight, why, other.places().chain(version)));
        }
        *self.used.entry(sight.value).or_default() += 1;
        if self.may_have_written(sight) {
            return Ok(());
        }
        Err(match (self.current, self.last) {
            (Some(version), Some(gone)) if sight.value == version.value => {
                self.came_back(sight, &gone, &version)
            }
            (Some(version), _) => self.differs(sight, &version),
            (None, Some(seen)) if sight.value.is_none() => {
                let before = &history[seen.place];
                let why =
                    format!("{operation} found nothing after {before}, and nothing was deleted");
                self.broken(sight, why, seen.places())
            }
            (None, _) => self.unfounded(sight),
        })
    }

    /// Whether enough unknown writes can have made what was seen up to a sight without naming its
    /// revision. Which write made which learned version may be open, so writes are only counted: one
    /// for each learned version, and one for each time that the value was there anew. A cas counts
    /// only where something can have made what it expects.
    fn may_have_written(&self, sight: &Sight<'h>) -> bool {
        let value = sight.value;
        let used = self.used[&value];
        let before = self.before(sight);
        let writes = |operation: &&Operation| operation.written() == Some(value);
        let finds = |operation: &&Operation| {
            let expected = operation.expected.as_ref();
            operation.function != Function::Cas || (expected != value && before.contains(&expected))
        };
        let early = self.candidates(sight).filter(writes).filter(finds).count();
        let all = self.key.unknown.iter().map(|&place| &self.order.history[place]);
        let all = all.filter(writes).count();
        let newest = self.current.map_or(0, |version| version.revision);
        let learned = || self.key.learned.iter().filter(|version| version.value == value);
        early >= used + learned().filter(|version| version.revision <= newest).count()
            && all >= used + learned().count()
    }

    /// What may have been there between the last sight and this one, whatever the order.
    fn before(&self, sight: &Sight<'h>) -> HashSet<Option<&'h Value>> {
        let mut there = HashSet::from([self.there]);
        loop {
            let known = there.len();
            for operation in self.candidates(sight) {
                let finds = there.contains(&operation.expected.as_ref());
                if operation.function != Function::Cas || finds {
                    there.extend(operation.written());
                }
            }
            if there.len() == known {
                return there;
            }
        }
    }

    /// Unknown writes that may have a revision up to the one at which a sight looked.
    fn candidates(&self, sight: &Sight<'_>) -> impl Iterator<Item = &'h Operation> {
        let Order { history, floors, .. } = self.order;
        let end = history[sight.place].end_ns();
        let at = sight.at;
        self.key
            .unknown
            .iter()
            .take_while(move |&&place| history[place].invoke_ns <= end)
            .filter(move |&&place| floors[place].0 < at)
            .map(|&place| &history[place])
    }

    /// A sight is not what the newest version says.
    fn differs(&self, sight: &Sight<'_>, version: &Version<'_>) -> Stop {
        let history = self.order.history;
        let (seen, written) = (&history[sight.place], &history[version.place]);
        let why = format!(
            "{seen} must see the newest write up to revision {}, which has revision {}: {written}",
            sight.at, version.revision
        );
        self.broken(sight, why, [version.place])
    }

    fn came_back(&self, sight: &Sight<'_>, gone: &Sight<'_>, version: &Version<'_>) -> Stop {
        let history = self.order.history;
        let (seen, gone_in) = (&history[sight.place], &history[gone.place]);
        let why = format!("{seen} saw again what was gone in {gone_in}");
        self.broken(sight, why, gone.places().chain([version.place]))
    }

    fn unfounded(&self, sight: &Sight<'_>) -> Stop {
        let operation = &self.order.history[sight.place];
        let why = format!("{operation} found a value where nothing had been written");
        self.broken(sight, why, [])
    }

    fn broken(
        &self,
        sight: &Sight<'_>,
        why: String,
        others: impl IntoIterator<Item = usize>,
    ) -> Stop {
        self.order.broken(why, sight.places().chain(others).collect())
    }
}

#[cfg(test)]
mod tests;
