//! Which version of its key each operation wrote or read, for models that compare versions.
//!
//! Key by key, the order of versions comes from one of two sources:
//!
//! 1. **Revisions**, where every successful write and every successful read of a value names one.
//!    Absence is the version of the newest delete up to the revision at which the read looked, or
//!    version 0; it says nothing if a delete with an unknown outcome may have caused it. A read
//!    that names the revision of another value, or of none, is broken by itself.
//! 2. Else **a single writer**: the writes of the one process that writes the key, in its order,
//!    counted from 1; absence is version 0. The values must be unique.
//!
//! Where neither helps, the history is not judged. Writes with an unknown outcome have a version
//! once a read saw them. O(n log n).

use std::collections::HashMap;

use super::stop::Stop;
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// A key, as a small number.
pub type Key = u32;

/// The versions in a history.
#[derive(Debug)]
pub struct Versions {
    /// The key of each operation.
    pub keys: Vec<Key>,
    /// The version that each operation wrote or read; `None` where it says nothing.
    pub versions: Vec<Option<u64>>,
    /// The write that made a version of a key.
    writes: HashMap<(Key, u64), usize>,
}

impl Versions {
    /// Finds the versions of all keys.
    pub fn new(history: &[Operation]) -> Result<Self, Stop> {
        let mut numbers: HashMap<&str, Key> = HashMap::new();
        let mut places: Vec<Vec<usize>> = Vec::new();
        let mut keys = Vec::with_capacity(history.len());
        for (place, operation) in history.iter().enumerate() {
            let number = *numbers.entry(&operation.key).or_insert_with(|| {
                places.push(Vec::new());
                Key::try_from(places.len() - 1).expect("a history has fewer than 2^32 operations")
            });
            keys.push(number);
            places[number as usize].push(place);
        }
        let mut all = Self { keys, versions: vec![None; history.len()], writes: HashMap::new() };
        for (number, places) in (0..).zip(&places) {
            let key = OneKey::new(history, places);
            for (place, version) in key.versions()? {
                all.versions[place] = Some(version);
                if key.history[place].function.writes() && !found_nothing(&history[place]) {
                    all.writes.insert((number, version), place);
                }
            }
        }
        Ok(all)
    }

    /// The write that made the version that an operation saw, if there is one.
    pub fn write_of(&self, place: usize) -> Option<usize> {
        self.writes.get(&(self.keys[place], self.versions[place]?)).copied()
    }

    /// Places of all operations of each process in its order; processes by their numbers.
    pub fn sessions(history: &[Operation]) -> Vec<Vec<usize>> {
        let mut places: Vec<usize> = (0..history.len()).collect();
        places.sort_by_key(|&place| (history[place].process, history[place].invoke_ns, place));
        places
            .chunk_by(|&one, &other| history[one].process == history[other].process)
            .map(<[usize]>::to_vec)
            .collect()
    }
}

/// Whether a delete had nothing to delete, so that it is a read of absence.
fn found_nothing(operation: &Operation) -> bool {
    operation.function == Function::Delete
        && operation.outcome == Outcome::Ok
        && operation.revision.is_none_or(|revision| revision == 0)
        && operation.at_revision.is_some()
}

/// What is said about one key.
struct OneKey<'h> {
    history: &'h [Operation],
    /// Successful writes, ordered by their calls.
    writes: Vec<usize>,
    /// Writes with an unknown outcome, likewise.
    unknown: Vec<usize>,
    /// Successful reads, with deletes that found nothing.
    reads: Vec<usize>,
    failed: Vec<usize>,
}

impl<'h> OneKey<'h> {
    fn new(history: &'h [Operation], places: &[usize]) -> Self {
        let mut key = OneKey {
            history,
            writes: Vec::new(),
            unknown: Vec::new(),
            reads: Vec::new(),
            failed: Vec::new(),
        };
        for &place in places {
            let operation = &history[place];
            let reads = !operation.function.writes() || found_nothing(operation);
            match operation.outcome {
                Outcome::Ok if reads => key.reads.push(place),
                Outcome::Ok => key.writes.push(place),
                Outcome::Info if operation.function.writes() => key.unknown.push(place),
                Outcome::Fail if operation.function.writes() => key.failed.push(place),
                Outcome::Info | Outcome::Fail => {}
            }
        }
        let call = |place: &usize| (history[*place].invoke_ns, *place);
        key.writes.sort_by_key(call);
        key.unknown.sort_by_key(call);
        key
    }

    /// The versions of operations, in no particular order.
    fn versions(&self) -> Result<Vec<(usize, u64)>, Stop> {
        let named = |&&place: &&usize| revision(&self.history[place]).is_some();
        let saw = |place: &&usize| self.seen(**place).is_some();
        let mut must = self.writes.iter().chain(self.reads.iter().filter(saw)).peekable();
        if must.peek().is_some() && must.all(|place| named(&place)) {
            self.by_revision()
        } else {
            self.by_writer()
        }
    }

    fn by_revision(&self) -> Result<Vec<(usize, u64)>, Stop> {
        let at = |place: usize| revision(&self.history[place]).unwrap_or(0);
        let mut found: Vec<(usize, u64)> =
            self.writes.iter().map(|&place| (place, at(place))).collect();
        let mut sorted: Vec<u64> = found.iter().map(|&(_, version)| version).collect();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(self.unjudged(&format!("two writes have revision {}", twice[0])));
        }
        let deletes = |places: &[usize]| -> Vec<usize> {
            let delete = |place: &usize| self.history[*place].written() == Some(None);
            places.iter().copied().filter(delete).collect()
        };
        let mut deleted: Vec<u64> = deletes(&self.writes).into_iter().map(at).collect();
        deleted.sort_unstable();
        let mut origins = Origins::new(self, &found);
        // By their calls: if the first one cannot be the reason, none can.
        let maybe_deleted = deletes(&self.unknown);
        let mut seen: HashMap<&Value, u64> = HashMap::new();
        for &place in &self.reads {
            if let Some(value) = self.seen(place) {
                origins.check(place, value, at(place))?;
                seen.entry(value).or_insert(at(place));
                found.push((place, at(place)));
                continue;
            }
            let read = &self.history[place];
            let may_be = |&delete: &usize| self.history[delete].invoke_ns <= read.end_ns();
            if maybe_deleted.first().is_some_and(may_be) {
                continue;
            }
            let newest = match (read.at_revision, deleted.is_empty()) {
                (_, true) => 0,
                (Some(at), false) => {
                    let before = deleted.partition_point(|&delete| delete <= at);
                    before.checked_sub(1).map_or(0, |newest| deleted[newest])
                }
                (None, false) => {
                    return Err(self.unjudged(
                        "it is deleted, and a read of absence does not say \
                                              at which revision it looked",
                    ));
                }
            };
            found.push((place, newest));
        }
        let mut writers: HashMap<&Value, u32> = HashMap::new();
        for &place in self.writes.iter().chain(&self.unknown) {
            if let Some(value) = &self.history[place].value {
                *writers.entry(value).or_default() += 1;
            }
        }
        for &place in &self.unknown {
            let Some(value) = &self.history[place].value else { continue };
            if let Some(&version) = seen.get(value).filter(|_| writers[value] == 1) {
                found.push((place, version));
            }
        }
        Ok(found)
    }

    fn by_writer(&self) -> Result<Vec<(usize, u64)>, Stop> {
        let seen: HashMap<&Value, usize> =
            self.reads.iter().filter_map(|&place| Some((self.seen(place)?, place))).collect();
        let was_seen = |place: &&usize| {
            self.history[**place].value.as_ref().is_some_and(|v| seen.contains_key(v))
        };
        let mut writes: Vec<usize> =
            self.writes.iter().chain(self.unknown.iter().filter(was_seen)).copied().collect();
        writes.sort_by_key(|&place| (self.history[place].invoke_ns, place));
        let process = writes.first().map(|&place| self.history[place].process);
        if writes.iter().any(|&place| Some(self.history[place].process) != process) {
            return Err(self.unjudged(
                "it has several writing processes and not all operations \
                                      name revisions",
            ));
        }
        let mut found = Vec::new();
        let mut versions: HashMap<&Value, u64> = HashMap::new();
        for (version, &place) in (1..).zip(&writes) {
            found.push((place, version));
            if let Some(value) = &self.history[place].value
                && versions.insert(value, version).is_some()
            {
                return Err(self.unjudged(&format!("the value {value} is written twice")));
            }
        }
        let delete = |place: &usize| self.history[*place].written() == Some(None);
        let deleted = writes.iter().chain(&self.unknown).any(delete);
        for &place in &self.reads {
            match self.seen(place) {
                Some(value) => {
                    let version = versions.get(value);
                    found.push((place, *version.ok_or_else(|| self.unwritten(place))?));
                }
                None if deleted => {
                    return Err(self.unjudged(
                        "it is deleted, and not all operations name \
                                              revisions",
                    ));
                }
                None => found.push((place, 0)),
            }
        }
        Ok(found)
    }

    /// The value that a read saw.
    fn seen(&self, place: usize) -> Option<&'h Value> {
        self.history[place].value.as_ref()
    }

    fn unjudged(&self, why: &str) -> Stop {
        let any = self.writes.iter().chain(&self.unknown).chain(&self.reads).next();
        let key = any.map_or("", |&place| &self.history[place].key);
        Stop::Unjudged(format!("the versions of key {key:?} have no known order: {why}"))
    }

    fn unwritten(&self, read: usize) -> Stop {
        unwritten(self.history, read, &self.failed)
    }
}

/// Where values with revisions come from, on one key.
struct Origins<'k, 'h> {
    key: &'k OneKey<'h>,
    /// The successful write of each revision.
    writes: HashMap<u64, usize>,
    /// Values that writes with an unknown outcome may have left, and how many such writes there are.
    unknown: HashMap<&'h Value, usize>,
    /// Of such values, the revisions that only such a write explains, each with a read that names it.
    explained: HashMap<&'h Value, Vec<(u64, usize)>>,
}

impl<'k, 'h> Origins<'k, 'h> {
    /// Successful writes come with their revisions.
    fn new(key: &'k OneKey<'h>, writes: &[(usize, u64)]) -> Self {
        let writes = writes.iter().map(|&(place, revision)| (revision, place)).collect();
        let mut unknown = HashMap::new();
        for value in key.unknown.iter().filter_map(|&place| key.history[place].value.as_ref()) {
            *unknown.entry(value).or_default() += 1;
        }
        Self { key, writes, unknown, explained: HashMap::new() }
    }

    /// Whether a write can have left this value at the revision that the read names. A write executes once
    /// at most, so it explains one revision.
    fn check(&mut self, read: usize, value: &'h Value, revision: u64) -> Result<(), Stop> {
        let history = self.key.history;
        let wrote = |place: &usize| history[*place].value.as_ref() == Some(value);
        let operation = &history[read];
        let (why, write) = match self.writes.get(&revision) {
            Some(write) if wrote(write) => return Ok(()),
            Some(&write) => {
                let write_operation = &history[write];
                (format!("{operation} names the revision of {write_operation}"), write)
            }
            None if self.unknown.contains_key(value) => {
                let explained = self.explained.entry(value).or_default();
                if explained.iter().any(|&(known, _)| known == revision) {
                    return Ok(());
                }
                explained.push((revision, read));
                if explained.len() <= self.unknown[value] {
                    return Ok(());
                }
                let (_, other) = explained[0];
                let other_operation = &history[other];
                let why = format!(
                    "{operation} names another revision than {other_operation}, and fewer writes may \
                     have left this value than there are revisions with it"
                );
                (why, other)
            }
            None => match self.key.writes.iter().copied().find(wrote) {
                Some(write) => {
                    let write_operation = &history[write];
                    (format!("{operation} names another revision than {write_operation}"), write)
                }
                None => return Err(self.key.unwritten(read)),
            },
        };
        Err(Stop::broken(&operation.key, why, [read, write]))
    }
}

/// A read returned what nobody wrote; `failed` are failed writes of its key.
pub fn unwritten(history: &[Operation], read: usize, failed: &[usize]) -> Stop {
    let operation = &history[read];
    let write = failed.iter().copied().find(|&place| history[place].value == operation.value);
    let why = match write {
        Some(write) => format!("{operation} returned what a failed write left: {}", history[write]),
        None => format!("{operation} returned a value that no operation wrote"),
    };
    Stop::broken(&operation.key, why, std::iter::once(read).chain(write))
}

/// The revision that an operation names.
fn revision(operation: &Operation) -> Option<u64> {
    operation.revision.filter(|&revision| revision > 0)
}
